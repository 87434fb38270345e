"""A run of several processes ends after a crash, with the results of all other tests."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from suite.shared.files import ROOT

TESTS = "import os, time\ndef test_a(): time.sleep(0.1)\ndef test_b(): {}\ndef test_c(): time.sleep(0.1)\n"
#: Tests of files that two processes take, of which the fifth ends its process.
FILES = {f"test_{i}.py": TESTS.format("os._exit(1)" if i == 5 else "time.sleep(0.1)") for i in range(1, 7)}


@pytest.mark.parametrize("options", [["--dist=loadscope", "--no-loadscope-reorder"], ["--dist=worksteal"]], ids="".join)
def test_a_late_crash_loses_one_test_alone(options: list[str], tmp_path: Path) -> None:
    for name, source in FILES.items():
        (tmp_path / name).write_text(source)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "suite.verify.scheduling", "-p", "no:benchmark"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    ended = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert re.search(r"crashed while running 'test_5\.py::test_b'[\s\S]*\n1 failed, 17 passed in ", ended.stdout)
