"""The end of a verification: whether the implementations are right, and the rows of its tests in the results."""

import signal
from collections.abc import Generator, Mapping
from pathlib import Path

import pandas as pd
import pytest

from impls.registry import find
from suite.candidates import submission
from suite.checks.recording import rows_of_tests
from suite.pages import text, verify
from suite.results.outcomes import Verdict, ran
from suite.results.run import folder_for, new_run
from suite.shared.files import RESULTS, ResultsError
from suite.verify.failures import failures_of


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
    """True if a run made all checks of a default one: it was told to choose none, and nothing ended it before."""
    config, option = session.config, session.config.option
    every = config.args_source == config.ArgsSource.TESTPATHS and config.getini("testpaths") == ["suite/checks"]
    chosen = option.keyword or option.markexpr or option.deselect or option.maxfail or option.size
    if option.impl and option.results == RESULTS:  # a file's results are its own
        return False
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    return every and ended and not chosen and not getattr(option, "lf", False)


def write(session: pytest.Session, exitstatus: int, tables: Mapping[str, pd.DataFrame]) -> Path:
    """Write the rows of a run, and the page about them; return the folder. ResultsError says what cannot be written."""
    from suite import report  # imports matplotlib, in a second

    option = session.config.option
    folder = folder_for(option.results, option.device, whole=is_whole(session, exitstatus))
    new_run("verify", option.device, tables).write(folder)
    report.write_machine(folder)
    return folder
