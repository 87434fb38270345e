"""Passes: each visits every job, in a random order and with a new fork server."""

import random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from suite.measure.job import Job
from suite.measure.server import Server
from suite.shared.format import reason, significant3
from suite.shared.process import Row
from suite.shared.statistics import FEWEST, merged

#: A job whose first visit takes more than this share of the time waits until all others have an interval. First calls
#: do not count, since later visits reuse what they compile.
LONG = 1 / 30
#: Visits in a pass, after the first, of a job that the headline is about.
HEADLINE_VISITS = 2
#: Titles of the printed columns, by layer norm and pass; widths of a line's name and of a figure.
COLUMNS = {("off", "forward"): "forward", ("off", "train"): "train", ("on", "forward"): "norm", ("on", "train"): "norm"}
NAME, FIGURE = 43, 9


@dataclass
class Side:
    """A fork server and the rows of its visits so far, by job."""

    server: Server
    rows: dict[Job, list[Row]] = field(default_factory=dict)

    def visit(self, job: Job) -> None:
        """Visit a job, and merge its rows with the rows of earlier visits."""
        earlier, new = self.rows.get(job, []), list[Row]()
        measured = [row for row in earlier if "visits" in row or row["status"] == "out of memory"]
        first = not earlier or len(measured) < len(earlier)
        ended = self.server.visit(job, new, first=first)
        new += job.missing(new, ended)
        if new:
            self.rows[job] = merged(earlier, new)


class Visit(NamedTuple):
    """A visit of every side that has ended: the number of its pass, its place in the pass, visits in the pass."""

    number: int
    place: int
    of: int
    job: Job


def passes(
    sides: Sequence[Side], jobs: Sequence[Job], until: float = float("inf"), most: int = sys.maxsize
) -> Iterator[Visit]:
    """Yield visits until the time is up; the first pass always ends. until: as `time.time` counts. most: passes."""
    seconds, long, late = dict[Job, float](), LONG * (until - time.time()), set[Job]()
    for number in range(1, most + 1):
        waits = late if number <= FEWEST and len(late) < len(jobs) else set()
        due = [job for job in jobs if job not in waits]
        order = [job for job in due for _ in range(HEADLINE_VISITS if job.headline and number > 1 else 1)]
        random.shuffle(order)
        for side in sides if number > 1 else ():
            side.server.restart({job.candidate for job in order})
        for side in sides:
            side.server.wait()
        visited = 0
        for place, job in enumerate(order, 1):
            start = time.time()
            if number > 1 and start + seconds[job] > until:
                continue
            for side in sides if random.random() < 0.5 else sides[::-1]:
                side.visit(job)
            seconds[job] = min(time.time() - start, seconds.get(job, float("inf")))
            visited += 1
            first_calls = sum(row.get("first_s", 0.0) for row in sides[0].rows.get(job, ()))
            if number == 1 and seconds[job] - first_calls > long:
                late.add(job)
            yield Visit(number, place, len(order), job)
        if not visited:
            return


def shown(
    visits: Iterable[Visit], rows: Mapping[Job, Sequence[Row]], until: float, console: Console | None = None
) -> Iterator[Visit]:
    """Yield visits; show the progress, and print the milliseconds of each first visit and the begin of each pass.

    rows: by job. until: the time at which the run ends, as `time.time` counts.
    """
    console = console or Console(highlight=False)
    console.print("".join(["ms".ljust(NAME), *(name.rjust(FIGURE) for name in COLUMNS.values())]))
    columns = TextColumn("pass {task.fields[number]}, job"), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
    with Progress(*columns, console=console, transient=True, refresh_per_second=1) as progress:
        task, number = progress.add_task("", total=None, number=1, left=""), 1
        for visit in visits:
            seconds = max(0, round(until - time.time()))
            left = f"{seconds // 60}:{seconds % 60:02} left"
            if visit.number > number:
                console.print(f"pass {visit.number}: {left}")
            if visit.number == 1:
                figures = {(row["layer_norm"], row["pass"]): _figure(row) for row in rows[visit.job]}
                cells = "".join(figures.get(place, "").rjust(FIGURE) for place in COLUMNS)
                console.print(f"{visit.job.label:{NAME}}{cells}".rstrip())
            number = visit.number
            console.file.flush()
            progress.update(task, completed=visit.place, total=visit.of, number=number, left=left)
            yield visit


def _figure(row: Mapping[str, Any]) -> str:
    return significant3(1e3 * row["median_s"]) if row["status"] == "ok" else reason(row).replace("out of ", "no ")
