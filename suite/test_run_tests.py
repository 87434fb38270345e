"""Tests are run where a command line or a session says, and one that hangs ends."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from suite.checks.module.sources import EXAMPLE
from suite.shared.files import ROOT
from suite.verify.arguments import ending

TWO = "suite/shared/test_process.py", "suite/shared/test_usage.py"
OTHER = "suite/cases/test_cases.py"


@pytest.mark.parametrize(
    ("user", "files"),
    [
        (["-k", "suite", "--results", "suite/results"], TWO),
        ([OTHER, "-x"], (OTHER,)),
    ],
    ids=" ".join,
)
def test_tests_that_the_user_names_replace_those_of_a_session(user: list[str], files: Sequence[str]) -> None:
    words = ["-m", "suite.run_tests", "--testpaths", *TWO, "--", *user, "-n0", "--collect-only"]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    tests = [line.partition("::")[0] for line in run.stdout.splitlines() if "::" in line]
    assert tuple(dict.fromkeys(tests)) == tuple(files), run.stdout + run.stderr


def test_a_conftest_beside_a_file_is_not_loaded(tmp_path: Path) -> None:
    """The file may be in another checkout, whose conftest.py pytest would load for tests there."""
    (tmp_path / "conftest.py").write_text("raise ImportError('of another checkout')\n")
    (file := tmp_path / "mine.py").write_text(EXAMPLE)
    words = ["-m", "suite.run_tests", "--testpaths", "suite/checks/equality", "--", "--impl", str(file)]
    command = [sys.executable, *words, "--device", "cpu", "-n0", "--collect-only"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


SLOW_CHILDREN = """
import subprocess, sys, time
import pytest

@pytest.fixture(scope="module")
def children():
    for _ in range(3):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5)"], check=True)

def test_uses(children): pass
def test_hangs(): time.sleep(30)
"""


def test_a_test_that_hangs_ends_its_process_and_a_slow_fixture_does_not(tmp_path: Path) -> None:
    (tmp_path / "test_slow.py").write_text(SLOW_CHILDREN)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:benchmark", "-p", "no:xdist", *ending(1)]
    command += ["-p", "suite.verify.limits", f"--rootdir={tmp_path}", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert "test_uses PASSED" in run.stdout, run.stdout + run.stderr
    assert "in test_hangs" in run.stderr
    assert run.returncode != 0
