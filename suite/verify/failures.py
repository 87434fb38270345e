"""Failures of files of `--impl`, in a line for each file: what failed first, and how many more did."""

from collections import defaultdict
from collections.abc import Generator

import pytest

from suite.candidates import submission
from suite.checks.recording import NUMBER
from suite.verify.selection import implementations

#: The name, among a failed test's user properties, of its file, its number in the run, and a line about it; xdist
#: carries these to its parent.
FAILURE = "failure"


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
        message = str(error) if isinstance(error, AssertionError) else ""
        sentence, _, _ = (message or call.excinfo.exconly()).partition("\n")
        file = next(iter(implementations(item)), "")
        line = f"{item.path.name}::{item.name}: {source}{sentence}"
        outcome.user_properties.append((FAILURE, (file, item.stash.get(NUMBER, 0), line)))
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show a line for each file with a failure, unless pytest shows tracebacks."""
    if not config.option.impl or config.option.tbstyle != "no":
        return
    by_file = defaultdict[str, list[tuple[int, str]]](list)
    for report in failures_of(terminalreporter):
        # Neither a file of tests nor a process that crashed has more than a text.
        of_report = dict(getattr(report, "user_properties", ()))
        file, number, line = of_report.get(FAILURE, ("", 0, f"{report.nodeid}: {report.longreprtext}"))
        by_file[file].append((number, line))
    for file, lines in sorted(by_file.items()):
        more = f" ({len(lines) - 1} more of {file or 'no file'} failed)" if len(lines) > 1 else ""
        terminalreporter.write_line(f"FAILED {min(lines)[1]}{more}")
    if by_file:
        terminalreporter.write_line("With -rf, all that failed; with --tb=short, where each failure comes from.")


def failures_of(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    """Reports of tests that failed, and of those whose fixtures did."""
    return [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())]
