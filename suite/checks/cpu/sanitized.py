"""Runs tests with batched_cpu built under a sanitizer of GCC, on Linux.

`python -m suite.checks.cpu.sanitized SANITIZER FOLDER ARGUMENTS`: SANITIZER is a name of `SANITIZERS`, FOLDER keeps
the build and the results, and ARGUMENTS are pytest's. What a sanitizer finds it prints, and ends the process.
"""

import os
import subprocess
import sys

#: By name: its libraries, with which Python starts; the compiler's flags; a variable of the process.
SANITIZERS = {
    "address": (
        ("asan", "ubsan"),
        "-fsanitize=address,undefined -fno-sanitize-recover=all -DHYPERLSTM_POISON",
        {"ASAN_OPTIONS": "detect_leaks=0"},  # Python and torch leave much to the end of the process
    ),
    # Groups of std::thread, and nothing else in parallel: this sanitizer does not see OpenMP's barriers.
    "thread": (
        ("tsan",),
        "-fsanitize=thread -DHYPERLSTM_STD_THREADS",
        {"TSAN_OPTIONS": "exitcode=66", "OMP_NUM_THREADS": "1"},
    ),
}


def path_of(library: str) -> str:
    """Path of a sanitizer's library, by the name that GCC links it by."""
    command = ["g++", f"-print-file-name=lib{library}.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main(name: str, folder: str, *user: str) -> None:
    """Become a process that builds batched_cpu under a sanitizer and runs the tests; options of the user win."""
    libraries, flags, variables = SANITIZERS[name]
    # The thread sanitizer wants memory where it expects it.
    command = ["setarch", "-R", sys.executable, "-m", "suite.run_tests", "--testpaths", "suite/checks", "--"]
    command += ["-p", "suite.checks.cpu.must_build"]
    command += ["--thorough", "-m", f"{name}_sanitizer and impl(name='batched_cpu')"]
    # pytest would capture what a sanitizer says, and lose it when the process ends.
    command += ["--capture=sys", "--results", f"{folder}/results"]
    # In one process, and without a limit on seconds: a sanitizer takes many times as long.
    command += ["-n0", "-o", "faulthandler_timeout=0", *user]
    variables = {
        "HYPERLSTM_CXXFLAGS": f"-O1 -g1 -fno-omit-frame-pointer {flags}",
        "LD_PRELOAD": ":".join(map(path_of, libraries)),
        "TORCH_EXTENSIONS_DIR": folder,
        **variables,
    }
    os.execvpe(command[0], command, os.environ | variables)


if __name__ == "__main__":
    main(*sys.argv[1:])
