"""Checks that need Triton's interpreter, each file in a process that has it on.

One file alone: `TRITON_INTERPRET=1 python -m pytest --noconftest -p suite.checks.kernels.interpreter_on FILE`.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest

from suite.shared.process import Child

#: Seconds after which they are taken to hang; programs that wait for one another have a limit of their own.
LIMIT = 900


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
@pytest.mark.thorough("batched_cuda interpreted: groups of several members, uses, faults")
@pytest.mark.parametrize("file", ["members", "trace", "uses"])
def test_with_the_interpreter_on(file: str, tmp_path: Path) -> None:
    checks = str(Path(__file__).with_name(f"test_interpreted_{file}.py"))
    options = ("-q", "--noconftest", "-p", "suite.checks.kernels.interpreter_on", "-p", "no:cacheprovider")
    environment = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTEST_XDIST_WORKER": None}
    child = Child("pytest", tmp_path / "checks", checks, *options, environment=environment)
    assert child.wait(LIMIT) == "ok", child.log.read_text(encoding="utf-8")
