"""Progress of a run: in a terminal a bar, in a pipe a line for each file; and files that took longer than usual.

Times are CPU seconds divided by those of starting a process with torch, so that they hold on other machines too.
"""

import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from suite.shared.process import cpu_seconds

#: By file: its usual time by default, and with `--thorough`.
TIMES: dict[str, list[float]] = tomllib.loads(Path(__file__).with_name("times.toml").read_text(encoding="utf-8"))
#: A file is named if it takes this multiple of its usual time and this many process starts more; it fails nothing.
TIMES_OVER, STARTS_OVER = 1.5, 1.0
#: The name of a test's time among its user properties, which xdist carries to the process that shows it.
TIME = "time"


def usual(file: str, thorough: bool) -> float:
    return TIMES.get(file, [0.0, 0.0])[thorough]


class Timed:
    """Plugin that times each test, in the process that runs it."""

    def __init__(self) -> None:
        self.start = self.began = cpu_seconds()

    def pytest_runtest_logstart(self) -> None:
        self.began = cpu_seconds()

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Attach its time to the last report of a test."""
        if call.when == "teardown":
            item.user_properties.append((TIME, (cpu_seconds() - self.began) / self.start))


class Shown:
    """Plugin that shows how far a run is, in the process that the user sees."""

    def __init__(self, *, thorough: bool, compares: bool) -> None:
        self.thorough, self.compares = thorough, compares  # with the usual times, which are those of a CPU
        self.began = time.monotonic()
        self.tests, self.done = Counter[str](), Counter[str]()  # by file
        self.outcomes: dict[str, Counter[str]] = {}
        self.times = defaultdict[str, float](float)  # by file
        self.console = Console()
        self.bar = Progress(
            TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(12),
            TextColumn("{task.fields[tests]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            auto_refresh=False,  # which takes a thread, and pytest captures what is written during a test
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
        """Have pytest count each test and write nothing of it."""
        category, *_ = yield
        return category, "", ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.pytest_xdist_node_collection_finished([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Take the tests of a worker: all workers have the same."""
        if not self.tests:
            self.tests.update(map(_file, ids))
            self.task = self.bar.add_task("", total=sum(n * self._share(f) for f, n in self.tests.items()), tests="")

    def _share(self, file: str) -> float:
        """Share of the bar of one test of a file."""
        return (usual(file, self.thorough) or 0.1 * self.tests[file]) / self.tests[file]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Show which claim is checked."""
        file, *_, test = nodeid.split("::")
        claim = test.split("[")[0].removeprefix("test_").replace("_", " ")
        self.bar.start()
        self.bar.update(self.task, refresh=True, description=f"{Path(file).stem.removeprefix('test_')}: {claim}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test, and name it at once if it failed; in a pipe, write the line of a file at its end."""
        file = _file(report.nodeid)
        if report.failed:
            self._say(f"FAILED {report.nodeid}")
        if not report.passed or report.when == "call":
            word = {"failed": "FAILED", "skipped": "not run here"}.get(report.outcome, report.outcome)
            self.outcomes.setdefault(file, Counter())[word] += 1
        if report.when != "teardown":
            return
        self.done[file] += 1
        self.times[file] += sum(float(str(value)) for key, value in report.user_properties if key == TIME)
        tests = f"{self.done.total()} of {self.tests.total()}"
        self.bar.update(self.task, refresh=True, advance=self._share(file), tests=tests)
        if self.done[file] == self.tests[file] and not self.console.is_terminal:
            minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
            counts = ", ".join(f"{n} {word}" for word, n in self.outcomes[file].items())
            self._say(f"{minutes:3}:{seconds:02}  {file.removeprefix('suite/'):<36}  {counts}")

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self.bar.stop()

    def pytest_terminal_summary(self) -> None:
        """Name the files that took far longer than usual."""
        lines = ["\nCPU time of files that took longer than usual, in starts of a process with torch:"]
        for file in self.times.keys() & TIMES.keys():
            before, taken = usual(file, self.thorough), self.times[file]
            if taken > max(TIMES_OVER * before, before + STARTS_OVER):
                lines.append(f"  {file.removeprefix('suite/')}: {taken:.1f}, usually {before:.1f}")
        if self.compares and lines[1:]:
            self._say("\n".join(lines))


def _file(nodeid: str) -> str:
    return nodeid.split("::")[0]
