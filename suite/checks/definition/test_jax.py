"""The HyperLSTM in JAX computes what the definition says."""

from dataclasses import replace

import pytest
import torch

from suite.shared.candidates import JAX, jax_as_ours
from suite.shared.cases import TWO_LAYERS, Case
from suite.shared.compare import compare, draw

CPU = torch.device("cpu")
#: One layer and two, given states, layer norm off and on; each is compiled.
CASES = [replace(TWO_LAYERS, layer_norm=True, state="plain"), Case(T=3, B=2, I=4, H=9, S=5, Z=2, state="stacked")]


@pytest.fixture(autouse=True)
def _installed() -> None:
    """Skip with the reason why there is no JAX."""
    if reason := JAX.why_unavailable(CPU, torch.float32):
        pytest.skip(reason)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_same_output_states_and_every_gradient(case: Case) -> None:
    verdicts = compare(jax_as_ours, case, torch.float32, CPU)
    assert {f"grad {name}" for name in draw(case, 0, torch.float32, CPU).params} <= {v.tensor for v in verdicts}
    assert verdicts[0].ratio <= 1, verdicts[0]
