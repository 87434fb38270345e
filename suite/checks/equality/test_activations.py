"""Sigmoid and tanh as implementations compute them, and their derivatives, over all arguments that matter."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM, names
from impls.definition import dtype_name
from suite.conftest import skip_unless_checked
from suite.shared.compare import FLOOR, Results, judge

#: Arguments from -MOST to MOST, in parts that are judged by themselves: where a function is nearly 0 its errors would
#: not show among larger numbers. Each part is a step of a model of UNITS units.
MOST, PARTS, UNITS = 100, 40, 100
#: The gate that is varied, and what the others are, in the order i, f, g, o: at 100 a sigmoid or tanh is 1.
GATES = {"sigmoid of i": 0, "sigmoid of f": 1, "tanh of g": 2, "sigmoid of o": 3}


@lru_cache(3)  # of the oracle, in two dtypes, and of one implementation after another
def activations(name: str, gate: int, dtype: torch.dtype, device: torch.device, rounded: torch.dtype) -> Results:
    """C and h after steps whose gates are the biases, and their derivatives by one gate; rounded: of its arguments."""
    model = HyperLSTM(1, UNITS, 1, 1, 1, impl=name, dtype=dtype, device=torch.device("meta")).to_empty(device=device)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        bias: Tensor = model.layers[0].bias  # type: ignore[assignment]
        bias.fill_(MOST)
    state = [torch.zeros(1, F, dtype=dtype, device=device) for F in (UNITS, UNITS, 1, 1)]
    state[1].fill_(0.5)
    x, results = torch.zeros(1, 1, 1, dtype=dtype, device=device), Results()
    # What an error is relative to is at least this much: a derivative's terms cancel where it is nearly 0.
    least = {"c": torch.finfo(rounded).eps, "h": torch.finfo(rounded).eps, "dc": 1.0, "dh": 1.0}
    for n, part in enumerate(torch.linspace(-MOST, MOST, PARTS * UNITS, dtype=torch.float64).to(rounded).split(UNITS)):
        with torch.no_grad():
            bias[gate] = part
        _, (h, c, *_) = model(x, state)
        # Of c alone, then of h alone: what the cell and what the output makes of the gate.
        derivatives = [torch.autograd.grad(value.sum(), bias, retain_graph=True)[0][gate] for value in (c, h)]
        for what, value in zip(least, (c, h, *derivatives), strict=True):
            results[f"{what}, part {n}"] = torch.cat([value.detach().view(-1), value.new_tensor([least[what]])])
    return results


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("dtype", FLOOR, ids=dtype_name)
@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.replace(" ", "-"))
def test_activations_and_derivatives_at_any_argument(
    name: str, dtype: torch.dtype, gate: str, device: torch.device
) -> None:
    skip_unless_checked(name, device, dtype)
    oracle, own = (activations("naive", GATES[gate], each, device, dtype) for each in (torch.float64, dtype))
    worst = judge(activations(name, GATES[gate], dtype, device, dtype), oracle, own, dtype)[0]
    assert worst.ratio <= 1, str(worst)
