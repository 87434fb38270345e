"""What a run shows while it goes on: a line for each job once it was visited, and where in which pass it is."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from suite.measure.jobs import Job
from suite.measure.runner import Visit
from suite.shared.format import status, three

#: Characters of a line's name and of each of its figures: 80 in all.
NAME, FIGURE = 41, 9
COLUMNS = {("off", "forward"): "forward", ("off", "train"): "train", ("on", "forward"): "norm", ("on", "train"): "norm"}


class Progress:
    """Prints a line for each job, and on a terminal a last line that changes.

    until: the time at which the run ends, as `time.time` counts.
    """

    def __init__(self, until: float, console: Console | None = None) -> None:
        self.until, self.console, self.shown, self.number = until, console or Console(highlight=False), set[Job](), 0
        self.status = self.console.status("starting")

    def __enter__(self) -> "Progress":
        self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.status.stop()

    def show(self, visit: Visit, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print the medians of a job's first visit, in milliseconds, and when a pass begins."""
        seconds = max(0, round(self.until - time.time()))
        left = f"{seconds // 60}:{seconds % 60:02} left"
        if visit.number > max(1, self.number):
            self.console.print(f"pass {visit.number}: {left}")
        elif not self.shown:
            self.console.print("".join(["ms".ljust(NAME), *(name.rjust(FIGURE) for name in COLUMNS.values())]))
        self.number = visit.number
        if visit.job not in self.shown:
            self.shown.add(visit.job)
            figures = {(row["layer_norm"], row["pass"]): figure(row) for row in rows}
            cells = "".join(figures.get(place, "").rjust(FIGURE) for place in COLUMNS)
            self.console.print(f"{visit.job.label:{NAME}}{cells}".rstrip())
        self.console.file.flush()
        self.status.update(f"pass {visit.number}, job {visit.place} of {visit.of}, {left}")


def figure(row: Mapping[str, Any]) -> str:
    return three(1e3 * row["median_s"]) if row["status"] == "ok" else status(row).replace("out of ", "no ")
