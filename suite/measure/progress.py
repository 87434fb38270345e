"""What a benchmark shows while it runs: a line for each job, under a heading a workload, and the time that is left."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.text import Text

from suite.measure.jobs import Job
from suite.shared.format import status, three
from suite.shared.rows import PASSES

#: Characters of a line's name, of each of its figures and of the time left: 80 in all at most.
NAME, FIGURE, LEFT = 16, 14, 8
COLUMNS = [(norm, name) for norm in ("off", "on") for name in PASSES]


class Shown:
    """Prints a line for each job once it is measured, and in a terminal moves a bar.

    until: the time, of `time.time`, at which the run is to be done.
    """

    def __init__(self, jobs: int, until: float, bar: Progress) -> None:
        self.until, self.bar, self.title = until, bar, ""
        self.task, self.seen = bar.add_task("", total=jobs), set[str]()

    def job(self, job: Job, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print a job's medians in milliseconds, the first time it comes; no rows mean that they were there already."""
        if job.label in self.seen:
            return
        self.seen.add(job.label)
        title = f"{job.case.name}, T {job.case.T}, B {job.case.B}, {job.dtype}, ms"
        if title != self.title:
            self.title = title
            heads = "".join(f"{name}{', norm' * (norm == 'on')}".rjust(FIGURE) for norm, name in COLUMNS)
            self._print(f"\n{title}\n{'':{NAME}}{heads}{'left':>{LEFT}}")
        figures = (three(1e3 * row["median_s"]) if row["status"] == "ok" else status(row) for row in rows)
        found = {(row["layer_norm"], row["pass"]): figure for row, figure in zip(rows, figures, strict=True)}
        cells = [found.get(place, "") for place in COLUMNS] if rows else ["has its rows", *[""] * (len(COLUMNS) - 1)]
        line = job.candidate.ljust(NAME) + "".join(cell.rjust(FIGURE) for cell in cells)
        self._print(f"{line}{clock(self.until):>{LEFT}}")
        self.bar.update(self.task, advance=1)

    def _print(self, text: str) -> None:
        self.bar.console.print(text, soft_wrap=True, highlight=False, markup=False)


def clock(until: float) -> str:
    """Minutes and seconds until a time."""
    left = max(0, round(until - time.time()))
    return f"{left // 60}:{left % 60:02}"


@contextmanager
def display(jobs: int, until: float, console: Console) -> Iterator[Shown]:
    """Show how jobs go along while this is open; once all have their first rounds, more take the time that is left."""

    class Left(ProgressColumn):
        def render(self, task: object) -> Text:
            return Text(f"at most {clock(until)} left")

    columns = (TextColumn("{task.completed} of {task.total} jobs"), BarColumn(), Left())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield Shown(jobs, until, bar)
