"""Runs tests, one process per core: `python -m suite.run_tests PLACES SESSION -- USER`.

PLACES are folders and files of suite/, which a folder or a file that USER names replaces. SESSION are further arguments
of pytest that a session of nox gives, USER those of its command line. They come last, so they win. A session has
`--short-on-gpu` if none of its tests takes long on a GPU.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import takewhile

import pytest

from suite.shared import machine

#: The tests of a file are run by one process, since they share what it makes.
WORKERS = ("-q", "--numprocesses=auto", "--no-loadscope-reorder", "-p", "no:benchmark")
#: Seconds after which a process prints where its test is, and ends: more than any test takes that ends. A test that
#: hangs is found sooner where no test takes long: with `--impl`, and on a GPU, where a kernel may wait for ever.
LIMIT = 1000
SHORT_LIMIT = 120
SHORT_ON_GPU = "--short-on-gpu"


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of a session and those of the user."""
    session, user = [*arguments], list[str]()
    if "--" in session:
        end = session.index("--")
        session, user = session[:end], session[end + 1 :]
    return session, user


def options_of(user: Sequence[str]) -> argparse.Namespace:
    """The options of a user that decide how tests are run: `device`, and the files of `impl`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--device", type=machine.device_of, default=machine.default_device())
    parser.add_argument("--impl", nargs="*", action="extend", default=[])
    options, _ = parser.parse_known_args(user)
    return options


def arguments_of(session: Sequence[str], user: Sequence[str]) -> list[str]:
    """Arguments of pytest."""
    options = options_of(user)
    # Tests of a file of `--impl` share nothing, so each process takes the next.
    dist = "worksteal" if options.impl else "loadscope"
    short_on_this = SHORT_ON_GPU in session and options.device.type == "cuda"
    limit = SHORT_LIMIT if options.impl or short_on_this else LIMIT
    of_pytest = [argument for argument in session if argument != SHORT_ON_GPU]
    return [*WORKERS, f"--dist={dist}", *ending(limit), *of_pytest, *with_files(user)]


def ending(seconds: int) -> list[str]:
    """Arguments with which a test that takes longer prints where it is and ends its process."""
    return ["-o", f"faulthandler_timeout={seconds}", "-o", "faulthandler_exit_on_timeout=true"]


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
    session, user = split(arguments)
    # Where processes share cores, a thread that waits should not keep a core from them.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    places = [*takewhile(lambda argument: not argument.startswith("-"), session)]
    return pytest.main(arguments_of(session, user), [Places(len(places))])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
