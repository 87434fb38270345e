"""Runs tests, one process per core: `python -m suite.run_tests --testpaths FOLDER ... -- ARGUMENTS`.

ARGUMENTS are pytest's. A folder or a file of tests among them replaces those of `--testpaths`, as for pytest itself.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

import pytest

from suite.shared.files import ROOT
from suite.verify.arguments import LONG, SHORT, add_options, ending

#: The project's configuration of pytest, which would otherwise depend on the paths among its arguments; and the options
#: of the suite, which pytest knows before it looks for the first conftest.py, or it would take their values for tests.
SUITE = (f"--config-file={ROOT / 'pyproject.toml'}", "-p", "suite.verify.options")
WORKERS = ("-q", "--numprocesses=auto", "--dist=worksteal", "-p", "no:benchmark")
#: Failures of each file of `--impl` take a line, see `suite/verify/conclusion.py`.
LINES = ("--tb=no", "-rN")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m suite.run_tests", description=__doc__, allow_abbrev=False)
    add = result.add_argument
    add("--testpaths", type=existing, nargs="+", default=[], help="folders and files of tests, from the project's")
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
    arguments = [*SUITE, *WORKERS, *ending(SHORT if of_suite.impl else LONG)]
    if of_suite.impl:
        arguments += LINES
    if of_suite.size:  # each comparison may take most of the memory
        arguments.append("-n0")
    if options.testpaths:
        arguments += ["-o", f"testpaths={shlex.join(options.testpaths)}"]
    return [*arguments, *options.arguments]


#: Options of `nox -s bench`, and what to write in a verification instead.
OF_BENCH = {
    "--implementation": "-m \"impl(name='batched')\" chooses one",
    "--sweep": "--size takes several sizes, as in --size H128 H256",
    "--workload": "--size takes its sizes",
}


def why_of_bench(arguments: Sequence[str]) -> str | None:
    """Sentence about an option that a verification lacks and a benchmark has; None if there is none."""
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in OF_BENCH:
            return f"{option} is an option of nox -s bench; here, {OF_BENCH[option]}."
    return None


def main(arguments: Sequence[str]) -> int:
    """Exit status of pytest."""
    options = parser().parse_args(arguments)
    reason = why_of_bench(options.arguments)
    if reason:
        raise SystemExit(reason)
    # Where processes share cores, a thread that waits should not keep a core from them.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    return pytest.main(arguments_of(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
