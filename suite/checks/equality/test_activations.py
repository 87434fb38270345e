"""Sigmoid and tanh as implementations compute them, and their derivatives, over all arguments that matter."""

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM, names
from impls.definition import dtype_name
from suite.conftest import skip_reason
from suite.shared.compare import FLOOR, Results, judge

#: Arguments from -MOST to MOST, of which each tenth is judged by itself: where a function is nearly 0 its errors would
#: not show among larger numbers.
MOST, PARTS, UNITS = 100, 40, 4000
#: The gate that is varied, and what the others are, in the order i, f, g, o: at 100 a sigmoid or tanh is 1.
GATES = {"sigmoid of i": 0, "sigmoid of f": 1, "tanh of g": 2, "sigmoid of o": 3}


def activations(name: str, gate: int, dtype: torch.dtype, device: torch.device, rounded: torch.dtype) -> Results:
    """C and h after a step whose gates are the biases, and their derivatives by one gate; rounded: of its arguments."""
    model = HyperLSTM(1, UNITS, 1, 1, 1, impl=name, dtype=dtype, device=torch.device("meta")).to_empty(device=device)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        bias: Tensor = model.layers[0].bias  # type: ignore[assignment]
        bias.fill_(MOST)
        bias[gate] = torch.linspace(-MOST, MOST, UNITS, dtype=torch.float64).to(rounded)
    state = [torch.zeros(1, F, dtype=dtype, device=device) for F in (UNITS, UNITS, 1, 1)]
    state[1].fill_(0.5)
    _, (h, c, *_) = model(torch.zeros(1, 1, 1, dtype=dtype, device=device), state)
    # Of c alone, then of h alone: what the cell and what the output makes of the gate.
    derivatives = [torch.autograd.grad(value.sum(), bias, retain_graph=True)[0][gate] for value in (c, h)]
    values = dict(zip(("c", "h", "dc", "dh"), (c.view(-1), h.view(-1), *derivatives), strict=True))
    # What an error is relative to is at least so much: a derivative's terms cancel where it is nearly 0.
    least = {"c": torch.finfo(rounded).eps, "h": torch.finfo(rounded).eps, "dc": 1.0, "dh": 1.0}
    return {
        f"{what}, part {n}": torch.cat([part.detach(), part.new_tensor([least[what]])])
        for what, value in values.items()
        for n, part in enumerate(value.chunk(PARTS))
    }


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.replace(" ", "-"))
@pytest.mark.parametrize("dtype", FLOOR, ids=dtype_name)
@pytest.mark.parametrize("name", names())
def test_activations_and_derivatives_at_any_argument(
    name: str, dtype: torch.dtype, gate: str, device: torch.device
) -> None:
    if reason := skip_reason(name, device, dtype):
        pytest.skip(reason)
    oracle, own = (activations("naive", GATES[gate], each, device, dtype) for each in (torch.float64, dtype))
    worst = judge(activations(name, GATES[gate], dtype, device, dtype), oracle, own, dtype)[0]
    assert worst.ratio <= 1, str(worst)
