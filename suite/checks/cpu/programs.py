"""Programs in C++ of tests, which include parts of `batched_cpu`."""

import shutil
import subprocess
from pathlib import Path

import pytest

from impls.batched_cpu import build

#: The mark of tests that compile.
NEEDS_COMPILER = pytest.mark.skipif(shutil.which(build.compiler()[0]) is None, reason="There is no C++ compiler.")


def compiled(program: Path, source: str, *flags: str) -> None:
    """Compile a program of this source."""
    file = program.with_suffix(".cpp")
    file.write_text(source)
    command = [*build.compiler(), "-std=c++20", "-pthread", *flags, str(file), "-o", str(program)]
    subprocess.run(command, check=True)


def run(program: Path, source: str, *flags: str) -> str:
    """What a program of this source prints."""
    compiled(program, source, *flags)
    return subprocess.run([program], capture_output=True, text=True, timeout=120, check=True).stdout
