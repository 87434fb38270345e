"""Failures of files of `--impl`, in a line for each file: what differs first, and how many more failed."""

from collections import defaultdict
from collections.abc import Generator
from typing import NamedTuple

import pytest

from suite.candidates import submission
from suite.checks.recording import NUMBER, ROW, KeptRow
from suite.verify.selection import implementations

#: The name, among a test's user properties, of its `Failure`; xdist carries these to its parent.
FAILURE = "failure"


class Failure(NamedTuple):
    """A test that failed: whether it compares nothing with the oracle, its number in the run, and a line about it."""

    file: str
    compares_nothing: bool
    number: int
    line: str


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say in a line what failed and, where it did in a file of `--impl`, in which line of that."""
    outcome = yield
    if outcome.failed and call.excinfo is not None:
        files = {str(file): file.name for file in submission.files().values()}
        source = ""
        for entry in call.excinfo.traceback:
            if str(entry.path) in files:
                source = f"{files[str(entry.path)]}:{entry.lineno + 1}: "
        error = call.excinfo.value
        message = call.excinfo.exconly()
        if isinstance(error, AssertionError) and str(error):
            message = str(error)
        sentence, _, _ = message.partition("\n")
        tables = [KeptRow(*value).table for name, value in item.user_properties if name == ROW]  # type: ignore[misc]
        failure = Failure(
            file=next(iter(implementations(item)), ""),
            compares_nothing="verify" not in tables,
            number=item.stash.get(NUMBER, 0),
            line=f"{item.path.name}::{item.name}: {source}{sentence}",
        )
        outcome.user_properties.append((FAILURE, tuple(failure)))
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show a line for each file with a failure, unless pytest shows tracebacks."""
    if not config.option.impl or config.option.tbstyle != "no":
        return
    by_file = defaultdict[str, list[Failure]](list)
    for failure in sorted(map(failure_of, failures_of(terminalreporter))):
        by_file[failure.file].append(failure)
    for file, (first, *others) in by_file.items():
        more = f" ({len(others)} more of {file or 'no file'} failed)" if others else ""
        terminalreporter.write_line(f"FAILED {first.line}{more}")
    if by_file:
        terminalreporter.write_line("With -rf, all that failed; with --tb=short, where each failure comes from.")


def failure_of(report: pytest.TestReport | pytest.CollectReport) -> Failure:
    """The failure of a report, of which neither a file of tests nor a process that crashed has more than a text."""
    kept = dict(getattr(report, "user_properties", ())).get(FAILURE)
    return Failure(*kept) if kept else Failure("", True, 0, f"{report.nodeid}: {report.longreprtext}")


def failures_of(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    """Reports of tests that failed, and of those whose fixtures did."""
    return [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())]
