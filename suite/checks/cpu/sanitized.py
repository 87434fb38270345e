"""Runs tests with batched_cpu built under sanitizers of GCC, on Linux.

`python -m suite.checks.cpu.sanitized SANITIZER FOLDER ARGUMENTS`: SANITIZER is a name of `SANITIZERS`, FOLDER keeps
the build and the results, and ARGUMENTS are pytest's. What a sanitizer finds it prints, and ends the process.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Sanitizer(NamedTuple):
    """Its libraries, with which Python starts; the compiler's flags; variables of the process; what its tests reach."""

    name: str
    libraries: tuple[str, ...]
    flags: str
    variables: Mapping[str, str]
    reached: str

    @property
    def marker(self) -> str:
        """The marker of tests that run under it."""
        return f"{self.name}_sanitizer"


ADDRESS = Sanitizer(
    "address",
    ("asan", "ubsan"),
    "-fsanitize=address,undefined -fno-sanitize-recover=all -DHYPERLSTM_POISON",
    {"ASAN_OPTIONS": "detect_leaks=0"},  # Python and torch leave much to the end of the process
    "all memory of batched_cpu",
)
# Groups of std::thread, and nothing else in parallel: this sanitizer does not see OpenMP's barriers.
THREAD = Sanitizer(
    "thread",
    ("tsan",),
    "-fsanitize=thread -DHYPERLSTM_STD_THREADS",
    {"TSAN_OPTIONS": "exitcode=66", "OMP_NUM_THREADS": "1"},
    "all that threads share",
)
#: By name.
SANITIZERS = {sanitizer.name: sanitizer for sanitizer in (ADDRESS, THREAD)}


def path_of(library: str) -> str:
    """Path of a sanitizer's library, by the name that GCC links it by."""
    command = ["g++", f"-print-file-name=lib{library}.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def variables_of(sanitizer: Sanitizer, folder: Path) -> dict[str, str]:
    """Variables of a process that builds and loads batched_cpu under a sanitizer."""
    return {
        "HYPERLSTM_CXXFLAGS": f"-O1 -g1 -fno-omit-frame-pointer {sanitizer.flags}",
        "LD_PRELOAD": ":".join(map(path_of, sanitizer.libraries)),
        "TORCH_EXTENSIONS_DIR": str(folder),
        **sanitizer.variables,
    }


def arguments_of(sanitizer: Sanitizer, folder: Path, user: Sequence[str]) -> list[str]:
    """Arguments of `suite.run_tests`; those of a user come last, so they win."""
    chosen = ["--thorough", "-m", f"{sanitizer.marker} and impl(name='batched_cpu')"]
    # pytest would capture what a sanitizer says, and lose it when the process ends.
    options = ["-p", "suite.checks.cpu.built", "--capture=sys", "--results", str(folder / "results")]
    # In one process, and without a limit on seconds: a sanitizer takes many times as long.
    options += ["-n0", "-o", "faulthandler_timeout=0"]
    return ["--testpaths", "suite/checks", "--", *chosen, *options, *user]


def main(name: str, folder: str, *user: str) -> None:
    """Become a process that runs the tests."""
    sanitizer = SANITIZERS[name]
    arguments = arguments_of(sanitizer, Path(folder), user)
    # The thread sanitizer wants memory where it expects it.
    command = ["setarch", "-R", sys.executable, "-m", "suite.run_tests", *arguments]
    os.execvpe(command[0], command, os.environ | variables_of(sanitizer, Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
