"""The end of a verification: whether the implementations are right, and the rows of its tests in the results."""

from collections.abc import Generator

import pandas as pd
import pytest

from suite.checks.recording import rows_of_tests
from suite.pages import verify
from suite.pages.markdown import TERMINAL
from suite.results.names import TableName
from suite.results.outcomes import ran
from suite.results.tables import folder_of
from suite.shared.files import ResultsError
from suite.verify.failures import failures_of


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse damaged results at once."""
    config = session.config
    if hasattr(config, "workerinput"):
        return
    if config.option.results is None:
        return
    try:
        folder_of(config.option.results, config.option.device)
    except ResultsError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    """Print below pytest's own last line whether the implementations are right, and write the rows of all tests."""
    result = yield
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):  # a worker, whose rows its parent writes
        return result
    tables = rows_of_tests(reporter)
    compared = ran(tables[TableName.VERIFY]) if TableName.VERIFY in tables else pd.DataFrame()
    if len(compared):
        errors = verify.worst_view(compared)
        errors.show("Worst error against the equation, as a multiple of what is allowed")
    conclusion = verify.conclusion(tables, TERMINAL, len(failures_of(reporter)))
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        conclusion = f"Interrupted: the rest was not checked. {conclusion}"
    if tables and config.option.results is not None:
        from suite.verify.writing import write  # imports many checks

        try:
            pages = write(config.option.results, config.option.device, tables)
        except ResultsError as error:
            pytest.exit(f"{error}\n{conclusion}", returncode=pytest.ExitCode.USAGE_ERROR)
        for page in pages:
            if page.page == verify.PAGE:
                print(f"\nPage: {page.file}")
    if conclusion:
        print(conclusion)
    return result
