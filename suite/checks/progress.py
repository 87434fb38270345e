"""What a run of checks shows: in a terminal a bar, in a pipe a line for each file, and which files slow down.

CPU seconds of a file are divided by those of starting a process with torch, so that figures of one machine hold on
another. A file that takes far more than `times.toml` says is named at the end, and fails nothing.
"""

import os
import time
import tomllib
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

#: By file of checks: what it takes by default and with `--thorough`, in process starts.
TIMES: dict[str, dict[str, float]] = tomllib.loads(Path(__file__).with_name("times.toml").read_text(encoding="utf-8"))
#: A file is named if it takes this multiple of its time, and so many process starts more.
TIMES_OVER, STARTS_OVER = 1.5, 1.0
#: The name of a test's time among its user properties, which xdist carries to the process that shows it.
CPU = "cpu"
#: Seconds between two refreshes of the bar. No thread refreshes it: pytest captures what is written during a test.
REFRESH = 0.1


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


class Timed:
    """A plugin for each process that runs tests: notes the time of each."""

    def __init__(self) -> None:
        self.start = self.began = cpu_seconds()

    def pytest_runtest_logstart(self) -> None:
        """Note when a test begins."""
        self.began = cpu_seconds()

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Attach the time of a test to the last of its reports."""
        if call.when == "teardown":
            item.user_properties.append((CPU, (cpu_seconds() - self.began) / self.start))


class Shown:
    """A plugin for the process that the user sees."""

    def __init__(self, config: pytest.Config) -> None:
        self.level = "thorough" if config.getoption("--thorough") else "default"
        self.began, self.refreshed = time.monotonic(), 0.0
        self.tests = Counter[str]()  # by file
        self.ended: dict[str, Counter[str]] = {}
        self.done = Counter[str]()
        self.starts = dict[str, float]()
        self.said: set[str] = set()
        self.console = Console()
        claim = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self.bar = Progress(
            TextColumn("{task.description}", table_column=claim),
            BarColumn(12),
            TextColumn("{task.fields[tests]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            auto_refresh=False,
            speed_estimate_period=300,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.console.is_terminal,
            expand=True,
        )
        self.task = TaskID(0)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, tuple[str, str, str]]:
        """Have pytest count tests, and write nothing of each."""
        category, *_ = yield
        return category, "", ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take the tests of this process."""
        self._plan([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Take the tests of a worker: all have the same."""
        self._plan(ids)

    def _plan(self, ids: Sequence[str]) -> None:
        if not self.tests:
            self.tests.update(map(_file, ids))
            total = sum(n * self._each(file) for file, n in self.tests.items())
            self.task = self.bar.add_task("", total=total, tests="")

    def _each(self, file: str) -> float:
        """The share of a bar of one test of a file."""
        return TIMES.get(_name(file), {}).get(self.level, 0.1 * self.tests[file]) / self.tests[file]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Show which claim is checked."""
        file, *_, test = nodeid.split("::")
        claim = test.split("[")[0].removeprefix("test_").replace("_", " ")
        self.bar.start()
        self.bar.update(self.task, description=f"{Path(file).stem.removeprefix('test_')}: {claim}")
        self._refresh()

    def _refresh(self) -> None:
        if (now := time.monotonic()) - self.refreshed > REFRESH:
            self.bar.refresh()
            self.refreshed = now

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test, and say at once that it failed."""
        file = _file(report.nodeid)
        if report.failed:
            self._say(f"FAILED {report.nodeid}")
        if not report.passed or report.when == "call":
            word = {"failed": "FAILED", "skipped": "not run here"}.get(report.outcome, report.outcome)
            self.ended.setdefault(file, Counter())[word] += 1
        if report.when != "teardown":
            return
        starts = [float(str(value)) for key, value in report.user_properties if key == CPU]
        self.starts[file] = self.starts.get(file, 0.0) + sum(starts)
        self.done[file] += 1
        self.bar.update(self.task, advance=self._each(file), tests=f"{self.done.total()} of {self.tests.total()}")
        self._refresh()
        if self.done[file] == self.tests[file]:
            self._end(file)

    def _end(self, file: str) -> None:
        """In a pipe, write the line of a file."""
        self.said.add(file)
        if not self.console.is_terminal:
            minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
            counts = ", ".join(f"{n} {word}" for word, n in self.ended[file].items())
            files = f"{len(self.said)} of {len(self.tests)}"
            self._say(f"{minutes:3}:{seconds:02}  {files:>8}  {file.removeprefix('suite/'):<36} {counts}")

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """End the bar, or the lines, of a run that may have been cut short."""
        self.bar.stop()
        for file in self.ended.keys() - self.said:
            self._end(file)

    def pytest_terminal_summary(self) -> None:
        """Name the files that take far longer than they did."""
        usual = {file: TIMES.get(_name(file), {}).get(self.level, float("inf")) for file in self.starts}
        slower = [
            f"{_name(file)} {starts:.1f} ({usual[file]:.1f})"
            for file, starts in self.starts.items()
            if starts > max(TIMES_OVER * usual[file], usual[file] + STARTS_OVER)
        ]
        if slower:
            self._say(f"\nMore CPU time than in times.toml, in process starts: {', '.join(slower)}")


def _file(nodeid: str) -> str:
    return nodeid.split("::")[0]


def _name(file: str) -> str:
    return file.removeprefix("suite/checks/").removesuffix(".py")
