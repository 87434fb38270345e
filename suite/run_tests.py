"""Runs tests, one process per core: `python -m suite.run_tests --testpaths FOLDER ... -- ARGUMENTS`.

ARGUMENTS are pytest's. A folder or a file of tests among them replaces those of `--testpaths`, as for pytest itself.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

import pytest

from suite.shared.devices import DeviceType
from suite.shared.files import ROOT
from suite.verify.arguments import add_options

#: The project's configuration of pytest, which would otherwise depend on the paths among its arguments; and the options
#: of the suite, which pytest knows before it looks for the first conftest.py, so that their values are no tests.
SUITE = (f"--config-file={ROOT / 'pyproject.toml'}", "-p", "suite.verify.options")
#: The tests of a file are run by one process, since they share what it makes.
WORKERS = ("-q", "--numprocesses=auto", "--no-loadscope-reorder", "-p", "no:benchmark")
#: Seconds after which a process prints where its test is, and ends: more than any test takes that ends. A test that
#: hangs is found sooner where no test takes long: with `--impl`, and on a GPU, where a kernel may wait for ever.
LIMIT = 1000
SHORT_LIMIT = 120


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m suite.run_tests", description=__doc__, allow_abbrev=False)
    add = result.add_argument
    add("--testpaths", type=existing, nargs="+", default=[], help="folders and files of tests, from the project's")
    add("--short-on-gpu", action="store_true", help="none of the tests takes long on a GPU")
    add("arguments", nargs="*", help="arguments of pytest, after --")
    return result


def existing(text: str) -> str:
    """A path of the project; pytest would leave out one that is not there."""
    if not (ROOT / text).exists():
        raise argparse.ArgumentTypeError(f"expected a file or folder of the project, but there is no {text}")
    return text


def arguments_of(options: argparse.Namespace) -> list[str]:
    """Arguments of pytest, of which the last win."""
    suite_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_options(suite_parser.add_argument)
    of_suite, _ = suite_parser.parse_known_args(options.arguments)
    # Tests of a file of `--impl` share nothing, so each process takes the next. With `--size` each comparison may take
    # most of the memory, so one process makes them one after another.
    dist = "worksteal" if of_suite.impl and not of_suite.size else "loadscope"
    all_short = of_suite.impl or (options.short_on_gpu and of_suite.device.type == DeviceType.CUDA)
    limit = SHORT_LIMIT if all_short else LIMIT
    testpaths = ["-o", f"testpaths={shlex.join(options.testpaths)}"] if options.testpaths else []
    return [*SUITE, *WORKERS, f"--dist={dist}", *ending(limit), *testpaths, *options.arguments]


def ending(seconds: int) -> list[str]:
    """Arguments with which a test that takes longer prints where it is and ends its process."""
    return ["-o", f"faulthandler_timeout={seconds}", "-o", "faulthandler_exit_on_timeout=true"]


def main(arguments: Sequence[str]) -> int:
    """Exit status of pytest."""
    options = parser().parse_args(arguments)
    # Where processes share cores, a thread that waits should not keep a core from them.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    return pytest.main(arguments_of(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
