"""What a run shows while it goes on: a line for each job once it was visited, and where in which pass it is."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console

from suite.measure.jobs import Job
from suite.measure.runner import Visit
from suite.shared.format import status, three
from suite.shared.process import Row

#: Characters of a line's name and of each of its figures: 80 in all.
NAME, FIGURE = 41, 9
COLUMNS = {("off", "forward"): "forward", ("off", "train"): "train", ("on", "forward"): "norm", ("on", "train"): "norm"}


def shown(
    visits: Iterable[Visit],
    rows: Mapping[Job, list[Row]],
    until: float,
    console: Console | None = None,
) -> Iterator[Visit]:
    """Yield visits; print the medians of a job's first, in milliseconds, and when a pass begins.

    On a terminal, the last line changes. rows: by job. until: the time at which the run ends, as `time.time` counts.
    """
    console, number, jobs = console or Console(highlight=False), 1, set[Job]()
    console.print("".join(["ms".ljust(NAME), *(name.rjust(FIGURE) for name in COLUMNS.values())]))
    with console.status("starting") as line:
        for visit in visits:
            seconds = max(0, round(until - time.time()))
            remaining = f"{seconds // 60}:{seconds % 60:02} left"
            if visit.number > number:
                console.print(f"pass {visit.number}: {remaining}")
            if visit.job not in jobs:
                figures = {(row["layer_norm"], row["pass"]): figure(row) for row in rows[visit.job]}
                cells = "".join(figures.get(place, "").rjust(FIGURE) for place in COLUMNS)
                console.print(f"{visit.job.label:{NAME}}{cells}".rstrip())
            number = visit.number
            jobs.add(visit.job)
            console.file.flush()
            line.update(f"pass {number}, job {visit.place} of {visit.of}, {remaining}")
            yield visit


def figure(row: Mapping[str, Any]) -> str:
    return three(1e3 * row["median_s"]) if row["status"] == "ok" else status(row).replace("out of ", "no ")
