"""Passes: each visits every job, in a random order and with a new fork server."""

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from suite.measure.job import Job
from suite.measure.server import Server
from suite.shared.format import reason, significant3
from suite.shared.process import Row
from suite.shared.statistics import merged

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
    """A visit of every side that has ended: the number of its pass, and its job."""

    number: int
    job: Job


def passes(sides: Sequence[Side], jobs: Sequence[Job], until: float) -> Iterator[Visit]:
    """Yield visits until the time is up; the first pass always ends. until: as `time.time` counts."""
    seconds = dict[Job, float]()
    for number in count(1):
        order = list(jobs)
        random.shuffle(order)
        for side in sides if number > 1 else ():
            side.server.restart({job.candidate for job in order})
        for side in sides:
            side.server.wait()
        visited = 0
        for job in order:
            start = time.time()
            if number > 1 and start + seconds[job] > until:
                continue
            for side in sides if random.random() < 0.5 else sides[::-1]:
                side.visit(job)
            seconds[job] = min(time.time() - start, seconds.get(job, float("inf")))
            visited += 1
            yield Visit(number, job)
        if not visited:
            return


def shown(visits: Iterable[Visit], rows: Mapping[Job, Sequence[Row]], until: float) -> Iterator[Visit]:
    """Yield visits; print the milliseconds of each first visit and the begin of each pass.

    rows: by job. until: see `passes`.
    """
    print("".join(["ms".ljust(NAME), *(name.rjust(FIGURE) for name in COLUMNS.values())]), flush=True)
    number = 1
    for visit in visits:
        if visit.number > number:
            number, seconds = visit.number, max(0, round(until - time.time()))
            print(f"pass {number}: {seconds // 60}:{seconds % 60:02} left", flush=True)
        if number == 1:
            figures = {(row["layer_norm"], row["pass"]): _figure(row) for row in rows[visit.job]}
            cells = "".join(figures.get(place, "").rjust(FIGURE) for place in COLUMNS)
            print(f"{visit.job.label:{NAME}}{cells}".rstrip(), flush=True)
        yield visit


def _figure(row: Mapping[str, Any]) -> str:
    return significant3(1e3 * row["median_s"]) if row["status"] == "ok" else reason(row).replace("out of ", "no ")
