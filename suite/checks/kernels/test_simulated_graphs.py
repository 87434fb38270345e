"""The checks on simulated CUDA graphs, which run in a process of their own: `simulated_graphs.py`."""

from importlib.util import find_spec

import pytest

from suite.shared.children import rows_of


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
@pytest.mark.thorough("CUDA graphs simulated by Triton's interpreter")
def test_batched_cuda_on_simulated_graphs() -> None:
    simulated = rows_of("suite.checks.kernels.simulated_graphs", TRITON_INTERPRET="1")
    assert len(simulated)
    wrong = simulated[simulated["outcome"] != "passed"]
    assert not len(wrong), "\n\n".join(f"{row.test}: {row.outcome}\n{row.said}" for row in wrong.itertuples())
