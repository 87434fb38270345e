"""The HyperLSTM in JAX computes what the definition says."""

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from impls import HyperLSTM
from suite.shared.candidates import JAX, jax_as_ours
from suite.shared.cases import VERIFY, Case
from suite.shared.compare import compare, draw, implementation

CPU = torch.device("cpu")
#: Few, since each is compiled: one layer and two, given states, strided input, layer norm off and on.
CASES = [
    case
    for case in VERIFY
    if case.T > 2 and case.state != "none" and case.L < 3 and set(case.options) <= {"layer_norm"}
]
MORE = pytest.mark.thorough("more cases of JAX")


@pytest.fixture(autouse=True)
def _installed() -> None:
    """Skip with the reason why there is no JAX."""
    if reason := JAX.why_unavailable(CPU, torch.float32):
        pytest.skip(reason)


@pytest.mark.parametrize(
    "case", [*(pytest.param(c, marks=MORE, id=c.id) for c in CASES[:-1]), CASES[-1]], ids=lambda c: c.id
)
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


CASE = Case(T=5, B=3, I=4, H=16, S=8, Z=2)


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
