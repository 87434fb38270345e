"""Whether a verification is whole, and its rows in the results."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from suite import report
from suite.results.run import Run, folder_for, stamp
from suite.shared.files import RESULTS


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
    option = session.config.option
    folder = folder_for(option.results, option.device, whole=is_whole(session, exitstatus))
    Run.of("verify", stamp("verify", option.device), tables).write(folder)
    report.write_machine(folder)
    return folder
