"""Checks that need Triton's interpreter, each file in a process that has it on.

One file alone, on one thread, since a process that was forked has no others:
`OMP_NUM_THREADS=1 TRITON_INTERPRET=1 python -m pytest --noconftest -p suite.checks.triton.interpreted FILE`.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest

from suite.checks.triton import TRITON
from suite.shared.process import run

pytestmark = [
    pytest.mark.thorough("batched_cuda interpreted: groups of several members, rounding"),
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed."),
]
#: Words of the checks of a torch operator, and of the capabilities that need nothing compiled.
AS_AN_OPERATOR = "operator or flops or autocast or fullgraph or export or checkpointing or fully_shard"
#: Seconds after which they are taken to hang; programs that wait for one another have a limit of their own.
LIMIT = 900


@pytest.mark.parametrize("subject", ["members", pytest.param("rounding", marks=pytest.mark.triton), "submission"])
def test_with_the_interpreter_on(subject: str) -> None:
    _run(str(Path(__file__).with_name(f"test_interpreted_{subject}.py")), "--noconftest")


def test_it_is_a_torch_operator(tmp_path: Path) -> None:
    """A GPU runs these checks, and all others, natively; interpreted, all take ten minutes."""
    folders = [str(Path(__file__).parents[1] / name) for name in ("module", "cost")]
    results = str(tmp_path / "results")
    _run(*folders, "--device", "cpu", "--results", results, "-k", f"{TRITON} and ({AS_AN_OPERATOR})")


def _run(*arguments: str) -> None:
    options = ("-q", "-p", "suite.checks.triton.interpreted", "-p", "no:cacheprovider", "-p", "no:benchmark")
    environment = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTEST_XDIST_WORKER": None}
    run("pytest", *arguments, *options, limit=LIMIT, **environment)
