"""What a benchmark shows while it runs: a line for each job, under a heading a workload, and in a terminal progress."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from suite.measure.jobs import Job
from suite.shared.format import status, three
from suite.shared.rows import PASSES

#: Seconds that a job is thought to take where none has run before.
GUESS = 10.0
#: Characters of a line's name and of each of its figures: 80 in all at most.
NAME, FIGURE = 16, 14
COLUMNS = [(norm, name) for norm in ("off", "on") for name in PASSES]


class Shown:
    """Prints a line for each job as it ends, and moves a bar by the seconds that jobs are known to take."""

    def __init__(self, jobs: Sequence[Job], seconds: Sequence[float | None], bar: Progress) -> None:
        known = [s for s in seconds if s is not None]
        usual = sum(known) / len(known) if known else GUESS
        self.seconds = {job.label: usual if s is None else s for job, s in zip(jobs, seconds, strict=True)}
        self.bar, self.title = bar, ""
        self.task = bar.add_task("", total=sum(self.seconds.values()))

    def start(self, job: Job) -> None:
        """Say which job runs, under a new heading if the workload is new."""
        title = f"{job.case.name}, T {job.case.T}, B {job.case.B}, {job.dtype}, ms"
        if title != self.title:
            self.title = title
            heads = "".join(f"{name}{', norm' * (norm == 'on')}".rjust(FIGURE) for norm, name in COLUMNS)
            self._print(f"\n{title}\n{'':{NAME}}{heads}")
        self.bar.update(self.task, description=job.candidate)

    def end(self, job: Job, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print what a job came to: medians in milliseconds; no rows mean that they were there already."""
        figures = (three(1e3 * row["median_s"]) if row["status"] == "ok" else status(row) for row in rows)
        found = {(row["layer_norm"], row["pass"]): figure for row, figure in zip(rows, figures, strict=True)}
        cells = [found.get(place, "") for place in COLUMNS] if rows else ["has its rows"]
        self._print((job.candidate.ljust(NAME) + "".join(cell.rjust(FIGURE) for cell in cells)).rstrip())
        self.bar.update(self.task, advance=self.seconds[job.label])

    def _print(self, text: str) -> None:
        self.bar.console.print(text, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def display(jobs: Sequence[Job], seconds: Sequence[float | None], console: Console) -> Iterator[Shown]:
    """Show how jobs go along while this is open."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("elapsed,"))
    to_go = (TimeRemainingColumn(), TextColumn("to go"))
    with Progress(*columns, *to_go, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield Shown(jobs, seconds, bar)
