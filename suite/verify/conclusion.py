"""The end of a verification: what failed of each file of `--impl`, whether all is right, and the rows of its tests."""

import signal
from collections import defaultdict
from collections.abc import Generator, Mapping
from pathlib import Path

import pandas as pd
import pytest

from impls.registry import find
from suite.candidates import submission
from suite.checks.recording import NUMBER, rows_of_tests
from suite.pages import text, verify
from suite.results.outcomes import Verdict, ran
from suite.results.run import folder_for, new_run
from suite.shared.files import RESULTS, ResultsError
from suite.verify.options import implementations

#: The name, among a failed test's user properties, of its file, its number in the run, and a line about it; xdist
#: carries these to its parent.
FAILURE = "failure"
#: Settings of pytest that `suite.run_tests` changes; others may choose tests.
OF_RUN_TESTS = {"testpaths", "faulthandler_timeout", "faulthandler_exit_on_timeout"}


# Failures of files of `--impl`


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


# The last lines, and the results


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt() -> None:
    """Ignore Ctrl-C from now on: a second one would end the process before it has written its rows."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    """Print below pytest's own last line whether the implementations are right, and write the rows of all tests."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):  # a worker, whose rows its parent writes
        return (yield)
    result = yield
    tables = rows_of_tests(reporter)
    if "verify" in tables and len(ran(tables["verify"])):
        errors = verify.worst_errors(ran(tables["verify"]), by=["implementation"])
        text.show(errors, "Worst error against the equation, as a multiple of what is allowed")
    conclusion = verify.conclusion(tables, len(failures_of(reporter)))
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        conclusion = f"Interrupted: the rest was not checked. {conclusion}"
    if tables and config.option.results is not None:
        try:
            print(f"\nResults: {write(session, exitstatus, tables)}")
        except ResultsError as error:
            pytest.exit(f"{error}\n{conclusion}", returncode=pytest.ExitCode.USAGE_ERROR)
    _tell_of_files(tables)
    if conclusion:
        print(conclusion)
    return result


def _tell_of_files(tables: dict[str, pd.DataFrame]) -> None:
    """Print at which sizes files of --impl were compared, if not at all, and which capabilities they lack."""
    for name in submission.files():
        multiples = [f"{letter} in multiples of {step}" for letter, step in find(name).multiples.items()]
        if multiples:
            print(f"{name} was compared at the sizes that it takes: {', '.join(multiples)}.")
    if "capabilities" in tables:
        of_files = tables["capabilities"][tables["capabilities"].implementation.isin(submission.files())]
        for name, rows in of_files[of_files.outcome == Verdict.NO].groupby("implementation"):
            print(f"{name} lacks: {'; '.join(rows.capability)}.")


def is_whole(session: pytest.Session, exitstatus: int) -> bool:
    """True if a run made all checks of a default one: no option may choose among them, and nothing ended it before."""
    config, option = session.config, session.config.option
    every = config.args_source == config.ArgsSource.TESTPATHS and config.getini("testpaths") == ["suite/checks"]
    default = config._parser.parse_known_args([])
    # Of pytest's options, those in these groups may choose tests or end a run early.
    for each in (*config._parser.getgroup("general").options, *config._parser.getgroup("collect").options):
        value = getattr(option, each.dest)
        if value and value != getattr(default, each.dest):
            return False
    changed = {setting.partition("=")[0] for setting in option.override_ini or ()}
    if changed - OF_RUN_TESTS or any(plugin.startswith("no:suite") for plugin in option.plugins):
        return False
    if option.impl and option.results == RESULTS:  # a file's results are its own
        return False
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    return every and ended and not option.size


def write(session: pytest.Session, exitstatus: int, tables: Mapping[str, pd.DataFrame]) -> Path:
    """Write the rows of a run, and the page about them; return the folder. ResultsError says what cannot be written."""
    from suite import report  # imports matplotlib, in a second

    option = session.config.option
    folder = folder_for(option.results, option.device, whole=is_whole(session, exitstatus))
    new_run("verify", option.device, tables).write(folder)
    report.write_machine(folder)
    return folder
