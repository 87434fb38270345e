"""The HyperLSTM in JAX computes what the definition says."""

from dataclasses import replace

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from impls import HyperLSTM
from suite.shared.candidates import JAX, jax_as_ours
from suite.shared.cases import TWO_LAYERS, Case
from suite.shared.compare import compare, draw, implementation

CPU = torch.device("cpu")
#: One layer and two, given states, layer norm off and on; each is compiled.
CASES = [replace(TWO_LAYERS, layer_norm=True, state="plain"), Case(T=3, B=2, I=4, H=9, S=5, Z=2, state="stacked")]
CASE = Case(T=5, B=3, I=4, H=16, S=8, Z=2)


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


@pytest.fixture
def model() -> HyperLSTM:
    """Give a model in JAX with the weights of a draw."""
    net = jax_as_ours(CASE, torch.float32, CPU)
    net.load_state_dict(draw(CASE, 0, torch.float32, CPU).params)
    return net


def test_parameters_are_read_where_they_are(model: HyperLSTM) -> None:
    x, ours = draw(CASE, 0, torch.float32, CPU).x, implementation("naive")(CASE, torch.float32, CPU)
    with torch.no_grad():
        for change in (lambda p: p.mul_(1.5), lambda p: p.set_(1.5 * p)):
            model(x)
            change(model.layers[0].weight_h)
            ours.load_state_dict(model.state_dict())
            torch.testing.assert_close(model(x)[0], ours(x)[0])


def test_packed_sequences_are_refused(model: HyperLSTM) -> None:
    with pytest.raises(TypeError, match=r"x: expected a tensor \[T, B, I\], got PackedSequence"):
        model(pack_sequence([torch.zeros(2, CASE.I)]))
