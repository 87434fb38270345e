"""Tests of a verification on a GPU are right there, as far as they compute nothing on it."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from suite.shared.process import run

PLUGIN = "suite.checks.triton.told_card"
#: Of the files that `nox -s verify` runs, those whose tests may depend on the device. What is left out computes on the
#: CPU wherever it runs: the folders `definition` and `faults`, `batched_cpu`, and what Triton interprets or compiles.
FILES = ("equality", "module", *(f"triton/test_{name}.py" for name in ("native", "mark", "batched_cuda")))
#: Of the implementations one, and no module that takes seconds to import.
CHOSEN = "(batched_cuda or not equality) and not Parallel and not shard and not two_sizes"


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
@pytest.mark.parametrize("marked", [None, "1"], ids=["unmarked", "marked"])
def test_verify_is_green_on_a_card(marked: str | None, tmp_path: Path) -> None:
    """Before the GPU has verified `batched_cuda`, and afterwards; a test that needs the GPU itself is skipped there."""
    files = [f"suite/checks/{file}" for file in FILES]
    options = ["-n", "0", "-k", CHOSEN, "--results", str(tmp_path / "results"), "-p", "no:cacheprovider"]
    run(
        "pytest", "-p", "no:benchmark", *options, *files,
        PYTEST_XDIST_WORKER=None, OMP_NUM_THREADS="1",
        PYTEST_PLUGINS=PLUGIN, HYPERLSTM_TOLD_CARD=str(tmp_path), HYPERLSTM_TOLD_MARKED=marked,
    )  # fmt: skip
