"""The checks on simulated CUDA graphs, which run in a process of their own: `simulated_graphs.py`."""

from importlib.util import find_spec

import pandas as pd
import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
@pytest.mark.thorough("CUDA graphs simulated by Triton's interpreter")
def test_batched_cuda_on_simulated_graphs(simulated: pd.DataFrame) -> None:
    assert len(simulated)
    wrong = simulated[simulated["outcome"] != "passed"]
    assert not len(wrong), "\n\n".join(f"{row.test}: {row.outcome}\n{row.said}" for row in wrong.itertuples())
