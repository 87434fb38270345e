"""Runs tests, one process per core: `python -m suite.run_tests PLACES SESSION -- USER`.

PLACES are folders and files of suite/, which a folder or a file that USER names replaces. SESSION are further arguments
of pytest that a session of nox gives, USER those of its command line. They come last, so they win.
"""

import os
import sys
from collections.abc import Sequence
from itertools import takewhile

import pytest

#: The tests of a file are run by one process, since they share what it makes.
WORKERS = ("-q", "--numprocesses=auto", "--dist=loadscope", "--no-loadscope-reorder", "-p", "no:benchmark")
#: A process prints where its test is, and ends, after more seconds than any test takes that ends.
HANGS = ("-o", "faulthandler_timeout=1000", "-o", "faulthandler_exit_on_timeout=true")
#: With `--impl`: tests of one file share nothing, so each process takes the next, and no test takes long.
SUBMITTED = ("--dist=worksteal", "-o", "faulthandler_timeout=120")


def arguments_of(session: Sequence[str], user: Sequence[str]) -> list[str]:
    """Arguments of pytest."""
    submitted = any(argument.startswith("--impl") for argument in user)
    return [*WORKERS, *HANGS, *session, *(SUBMITTED if submitted else ()), *with_files(user)]


class Places:
    """A plugin of pytest that drops the first places of the command line, those of a session, if others follow."""

    def __init__(self, number: int) -> None:
        self.number = number

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Only pytest, which knows the options that take a value, can tell what is a place."""
        of_user = config.args[self.number :]
        if of_user:
            config.args[:] = of_user


def with_files(arguments: Sequence[str]) -> list[str]:
    """Arguments with `--impl a.py b.py` as `--impl=a.py --impl=b.py`.

    Otherwise pytest, which learns its options from suite/conftest.py, first loads a conftest.py that is near the file.
    """
    spelled: list[str] = []
    in_files = False
    for argument in arguments:
        in_files = argument == "--impl" or (in_files and not argument.startswith("-"))
        if not in_files or argument == "--impl":
            spelled.append(argument)
            continue
        if spelled[-1] == "--impl":
            spelled.pop()
        spelled.append(f"--impl={argument}")
    return spelled


def main(arguments: Sequence[str]) -> int:
    """Exit status of pytest."""
    session, user = [*arguments], list[str]()
    if "--" in arguments:
        end = session.index("--")
        session, user = session[:end], session[end + 1 :]
    # Where processes share cores, a thread that waits should not keep a core from them.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    places = [*takewhile(lambda argument: not argument.startswith("-"), session)]
    return pytest.main(arguments_of(session, user), [Places(len(places))])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
