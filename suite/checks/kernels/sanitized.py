"""Runs tests with batched_cpu built under sanitizers of GCC, on Linux.

`python -m suite.checks.kernels.sanitized SANITIZER FOLDER ARGUMENTS`: SANITIZER is `address` or `thread`, FOLDER keeps
the build and the results, and ARGUMENTS are those of `suite.run_tests`. What a sanitizer finds it prints, and ends the
process.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from suite.run_tests import split


class Sanitizer(NamedTuple):
    """Its libraries, with which Python starts; the compiler's flags; and variables of the process."""

    libraries: tuple[str, ...]
    flags: str
    variables: Mapping[str, str]


SANITIZERS = {
    "address": Sanitizer(
        ("asan", "ubsan"),
        "-fsanitize=address,undefined -fno-sanitize-recover=all -DHYPERLSTM_POISON",
        {"ASAN_OPTIONS": "detect_leaks=0"},  # Python and torch leave much to the end of the process
    ),
    # Groups of std::thread, and nothing else in parallel: this sanitizer does not see OpenMP's barriers.
    "thread": Sanitizer(
        ("tsan",),
        "-fsanitize=thread -DHYPERLSTM_STD_THREADS",
        {"TSAN_OPTIONS": "exitcode=66", "OMP_NUM_THREADS": "1"},
    ),
}


def path_of(library: str) -> str:
    """Path of a sanitizer's library, by the name that GCC links it by."""
    command = ["g++", f"-print-file-name=lib{library}.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def variables_of(sanitizer: Sanitizer, folder: Path) -> dict[str, str]:
    """Variables of a process that builds and loads batched_cpu under a sanitizer."""
    return {
        "HYPERLSTM_CXXFLAGS": f"-O1 -g -fno-omit-frame-pointer {sanitizer.flags}",
        "LD_PRELOAD": ":".join(map(path_of, sanitizer.libraries)),
        "TORCH_EXTENSIONS_DIR": str(folder),
        **sanitizer.variables,
    }


def main(name: str, folder: str, *arguments: str) -> None:
    """Become a process that runs the tests."""
    session, user = split(arguments)
    results = Path(folder) / "results"
    # pytest would capture what a sanitizer says, and lose it when the process ends.
    options = ["-p", "suite.checks.kernels.built", "--capture=sys", "--results", str(results)]
    # In one process, and without a limit on seconds: a sanitizer takes many times as long.
    options += ["-n0", "-o", "faulthandler_timeout=0"]
    # The thread sanitizer wants memory where it expects it.
    python = ["setarch", "-R", sys.executable, "-m"]
    command = [*python, "suite.run_tests", *session, *options, "--", *user]
    os.execvpe(command[0], command, os.environ | variables_of(SANITIZERS[name], Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
