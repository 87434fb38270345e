"""Passes: each visits every job, in a random order and with a new fork server."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from suite.measure.job import Job
from suite.measure.server import Server
from suite.shared.format import reason, significant3
from suite.shared.process import Row
from suite.shared.statistics import summarised

#: Titles of the printed columns, by layer norm and pass; widths of a line's name and of a figure.
COLUMNS = {("off", "forward"): "forward", ("off", "train"): "train", ("on", "forward"): "norm", ("on", "train"): "norm"}
NAME, FIGURE = 43, 9


@dataclass
class Side:
    """A fork server and the rows of each of its visits so far, by job."""

    server: Server
    visits: dict[Job, list[list[Row]]] = field(default_factory=dict)

    def visit(self, job: Job) -> None:
        """Visit a job; the visit is a first one until one before has measured all."""
        earlier, rows = self.visits.setdefault(job, []), list[Row]()
        measured = [all(row["status"] in ("ok", "out of memory") for row in visit) for visit in earlier]
        ended = self.server.visit(job, rows, first=not any(measured))
        earlier.append([*rows, *job.missing(rows, ended)])

    def summary(self) -> list[Row]:
        """Rows of all visits, summarised."""
        return summarised(chain.from_iterable(self.visits.values()))


def passes(sides: Sequence[Side], jobs: Sequence[Job], until: float) -> Iterator[tuple[int, Job]]:
    """Visit all sides until the time is up; the first pass always ends. Yields the number of each pass, and the job.

    until: as `time.time` counts.
    """
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
            yield number, job
        if not visited:
            return


def run(sides: Sequence[Side], jobs: Sequence[Job], until: float) -> None:
    """Make passes; print the milliseconds of each first visit of the last side, and the begin of each further pass."""
    print("".join(["ms".ljust(NAME), *(name.rjust(FIGURE) for name in COLUMNS.values())]), flush=True)
    last = 1
    for number, job in passes(sides, jobs, until):
        if number > last:
            last, seconds = number, max(0, round(until - time.time()))
            print(f"pass {number}: {seconds // 60}:{seconds % 60:02} left", flush=True)
        if number == 1:
            figures = {(row["layer_norm"], row["pass"]): _figure(row) for row in sides[-1].visits[job][0]}
            cells = "".join(figures.get(place, "").rjust(FIGURE) for place in COLUMNS)
            print(f"{job.label:{NAME}}{cells}".rstrip(), flush=True)


def _figure(row: Mapping[str, Any]) -> str:
    return significant3(1e3 * row["median_s"]) if row["status"] == "ok" else reason(row).replace("out of ", "no ")
