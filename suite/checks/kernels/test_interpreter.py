"""Checks that need Triton's interpreter, in a process of their own that has it on.

One file alone: `TRITON_INTERPRET=1 python -m pytest --noconftest -p suite.checks.kernels.simulated_steps FILE`.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest

from suite.shared.children import Child


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
@pytest.mark.thorough("CUDA graphs simulated by Triton's interpreter, and what its trace finds")
@pytest.mark.parametrize("files", ["simulated_*", "traced"], ids=["simulated", "traced"])
def test_with_the_interpreter_on(files: str, tmp_path: Path) -> None:
    checks = sorted(map(str, Path(__file__).parent.glob(f"test_{files}.py")))
    options = ("-q", "--noconftest", "-p", "suite.checks.kernels.simulated_steps", "-p", "no:cacheprovider")
    environment = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTEST_XDIST_WORKER": None}
    child = Child("pytest", tmp_path / "checks", *checks, *options, environment=environment)
    assert child.wait() == "ok", child.log.read_text(encoding="utf-8")
