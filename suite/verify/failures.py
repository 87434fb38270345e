"""Failures of a file of `--impl`, in a line for each test: its first failure, and how many more it has."""

from collections import defaultdict
from collections.abc import Generator

import pytest

from suite.candidates import submission

#: The name, among a test's user properties, of the line about its failure; xdist carries these to its parent.
LINE = "line"


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
        outcome.user_properties.append((LINE, f"{item.path.name}::{item.name}: {source}{sentence}"))
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show a line for each test that failed, unless pytest shows tracebacks."""
    if not config.option.impl or config.option.tbstyle != "no":
        return
    by_test = defaultdict[str, list[pytest.TestReport]](list)
    for failure in sorted(failures_of(terminalreporter), key=lambda report: report.nodeid):
        by_test[failure.nodeid.partition("[")[0]].append(failure)
    for first, *others in by_test.values():
        # Of a process that crashed, xdist makes the report.
        line = dict(first.user_properties).get(LINE, f"{first.nodeid}: {first.longreprtext}")
        more = f" ({len(others)} more of this test)" if others else ""
        terminalreporter.write_line(f"FAILED {line}{more}")
    if by_test:
        terminalreporter.write_line("With --tb=short, where each comes from.")


def failures_of(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    """Reports of tests that failed, and of those whose fixtures did."""
    return [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())]
