"""The barrier of batched_cpu in real threads, on its own."""

import shutil
import subprocess
from pathlib import Path

import pytest

from impls.batched_cpu import build

PROGRAM = Path(__file__).parent / "barrier_test.cpp"


@pytest.mark.impl(name="batched_cpu")
@pytest.mark.thread_sanitizer
@pytest.mark.skipif(shutil.which(build.compiler()[0]) is None, reason="There is no C++ compiler.")
def test_threads_meet_and_a_long_wait_sleeps(tmp_path: Path) -> None:
    program = tmp_path / "barrier"
    flags = ["-std=c++20", "-O2", "-pthread", *build.extra_flags()]
    subprocess.run([*build.compiler(), *flags, str(PROGRAM), "-o", str(program)], check=True)
    subprocess.run([program], timeout=120, check=True)
