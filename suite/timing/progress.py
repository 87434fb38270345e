"""What a benchmark shows while it runs: in a terminal a table that fills in, in a pipe a line for each job."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from suite.shared.jobs import Job

#: Seconds that a job is thought to take where none has run before.
GUESS = 10.0


def figure(row: Mapping[str, Any]) -> str:
    """Return what one pass came to, in words."""
    if row["status"] != "ok":
        return str(row["status"])
    return f"{row['median_s'] * 1e3:.4g} ms ({row['ratio']:.3g} x)"


def line(job: Job, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what one job came to, in words; no rows mean that they were there already."""
    if not rows:
        return f"{job.label}: has its rows"
    if len({row["status"] for row in rows}) == 1 and rows[0]["status"] != "ok":
        return f"{job.label}: {rows[0]['status']}"
    parts = [f"{row['pass']}{' norm' * (row['layer_norm'] == 'on')} {figure(row)}" for row in rows]
    return f"{job.label}: {', '.join(parts)}"


class Lines:
    """For a pipe: a line for each job as it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def start(self, job: Job) -> None:
        """Say nothing yet."""

    def end(self, job: Job, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print the line."""
        self.console.print(line(job, rows), soft_wrap=True, highlight=False, markup=False)


class Terminal:
    """For a terminal: the table of the workload that runs, over progress by the seconds that jobs are known to take."""

    def __init__(self, labels: Sequence[str], seconds: Sequence[float | None]) -> None:
        known = [s for s in seconds if s is not None]
        usual = sum(known) / len(known) if known else GUESS
        self.seconds = {label: usual if s is None else s for label, s in zip(labels, seconds, strict=True)}
        self.progress = Progress(
            TextColumn("{task.fields[done]}/{task.fields[jobs]}"), BarColumn(),
            TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("to go"),
        )  # fmt: skip
        self.task = self.progress.add_task("", total=sum(self.seconds.values()), done=0, jobs=len(labels))
        self.done, self.title = 0, ""
        self.lines: dict[str, dict[tuple[str, str], str]] = {}
        self.live: Live | None = None

    def start(self, job: Job) -> None:
        """Open a line for the job, in a new table if the workload is new."""
        title = f"{job.case.name}, T {job.case.T}, B {job.case.B}, {job.dtype}"
        if title != self.title:
            self.title, self.lines = title, {}
        self.lines[job.subject] = {}
        self._show()

    def end(self, job: Job, rows: Sequence[Mapping[str, Any]]) -> None:
        """Fill in the job's line."""
        self.lines[job.subject] = {(row["layer_norm"], row["pass"]): short(row) for row in rows}
        self.done += 1
        self.progress.update(self.task, advance=self.seconds[job.label], done=self.done)
        self._show()

    def _show(self) -> None:
        if self.live is not None:
            self.live.update(self.render(), refresh=True)

    def render(self) -> RenderableType:
        """Return the table and the progress below it."""
        table = Table(
            title=f"{self.title}, ms", title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
        )
        columns = [(norm, step) for norm in ("off", "on") for step in ("forward", "train")]
        table.add_column("implementation", no_wrap=True)
        for norm, step in columns:
            table.add_column(f"{step}{', norm' if norm == 'on' else ''}", justify="right", no_wrap=True)
        for subject, cells in self.lines.items():
            table.add_row(subject, *(cells.get(key, "" if cells else "...") for key in columns))
        return Group(table, self.progress)


def short(row: Mapping[str, Any]) -> str:
    """Return a cell: the median in milliseconds, or the first words of why there is none."""
    return f"{row['median_s'] * 1e3:.4g}" if row["status"] == "ok" else str(row["status"]).split(":")[0]


@contextmanager
def display(labels: Sequence[str], seconds: Sequence[float | None], console: Console) -> Iterator[Lines | Terminal]:
    """Show how jobs go along while this is open."""
    if not console.is_terminal:
        yield Lines(console)
        return
    terminal = Terminal(labels, seconds)
    with Live(terminal.render(), console=console, transient=True) as terminal.live:
        yield terminal
