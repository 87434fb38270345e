"""How long a test may take: one that hangs prints where it is, and ends its process.

pytest has one limit for a test and its fixtures. A fixture that many tests share may take longer than each of them, and
a process that replaced an ended one would begin it again: so a fixture has a limit of its own.
"""

import faulthandler
from collections.abc import Generator

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key  # the terminal, which a test does not capture

from suite.verify.arguments import LONG


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Let fixtures take longer than the limit of a test, which counts from their end."""
    seconds = float(item.config.getini("faulthandler_timeout") or 0)
    if not seconds:
        return (yield)
    file = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(max(seconds, LONG), exit=True, file=file)
    result = yield
    faulthandler.dump_traceback_later(seconds, exit=True, file=file)
    return result
