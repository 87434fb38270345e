"""Sigmoid and tanh as implementations compute them, and their derivatives, over all arguments that matter.

A step is computed in which one gate is varied.
"""

from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM, names
from impls.definition import dtype_name
from impls.registry import ORACLE
from suite.checks.implementations import skip_unless_checked
from suite.comparison.tensors import Results
from suite.comparison.tolerance import DTYPES, judge
from suite.shared.marks import impl_params

#: Arguments from -MOST to MOST, in pieces that are judged by themselves: where a function is nearly 0 its errors would
#: not show among larger numbers. The last piece is from -NEAR_0 to NEAR_0. Each piece is a row of a batch of a model of
#: UNITS units.
MOST = 100
NEAR_0 = 1e-4
PIECES = 41
UNITS = 100
#: The gates in their order on axes of length 4, and the function of each.
GATES = {"i": "sigmoid", "f": "sigmoid", "g": "tanh", "o": "sigmoid"}


def model_of(name: str, gate: str, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
    """A model of which one gate is x.

    The others are at 100, where a sigmoid or tanh is 1. Where f is x, g is at 0, and the cell starts at 0.5.
    """
    varied = [*GATES].index(gate)
    meta = torch.device("meta")
    model = HyperLSTM(UNITS, UNITS, 1, 1, 1, impl=name, dtype=dtype, device=meta).to_empty(device=device)
    p: Any = model.layers[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        p.bias[torch.arange(4) != varied] = MOST
        if gate == "f":
            p.bias[2] = 0  # of g, so that what is small is added to nothing
        p.weight_x[varied].fill_diagonal_(1)
        # The factor of W x.
        p.z_bias[1, varied] = 1
        p.d_weight[1, varied] = 1
    return model


def arguments() -> Tensor:
    """What the gate is, [1, PIECES, UNITS]."""
    most = torch.linspace(-MOST, MOST, (PIECES - 1) * UNITS, dtype=torch.float64)
    near_0 = torch.linspace(-NEAR_0, NEAR_0, UNITS, dtype=torch.float64)
    return torch.cat([most, near_0]).view(1, PIECES, UNITS)


@lru_cache(3)  # of the oracle, in two dtypes, and of one implementation after another
def activations(name: str, gate: str, dtype: torch.dtype, device: torch.device, rounded: torch.dtype) -> Results:
    """C and h after a step in which one gate is x, and their derivatives by it; rounded: dtype of its arguments."""
    model = model_of(name, gate, dtype, device)
    x = arguments().to(rounded).to(device, dtype).requires_grad_()
    start = torch.zeros(PIECES, UNITS, dtype=dtype, device=device)
    cell = torch.full_like(start, 0.5 if gate == "f" else 0.0)
    hyper = torch.zeros(PIECES, 1, dtype=dtype, device=device)
    _, (h, c, *_) = model(x, (start, cell, hyper, hyper))
    # Of c alone, then of h alone: what the cell and what the output makes of the gate.
    (dc,) = torch.autograd.grad(c.sum(), x, retain_graph=True)
    (dh,) = torch.autograd.grad(h.sum(), x)
    # What an error is relative to is at least this much: a derivative's terms cancel where it is nearly 0.
    least = {"c": torch.finfo(rounded).eps, "h": torch.finfo(rounded).eps, "dc": 1.0, "dh": 1.0}
    results: Results = {}
    for values, (label, number) in zip((c, h, dc, dh), least.items(), strict=True):
        for piece, row in enumerate(values.detach()[0]):
            results[f"{label}, piece {piece}"] = torch.cat([row, row.new_tensor([number])])
    return results


@pytest.mark.parametrize("name", impl_params(names()))
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("gate", [pytest.param(gate, id=f"{function}-of-{gate}") for gate, function in GATES.items()])
def test_activations_and_derivatives_at_any_argument(
    name: str, dtype: torch.dtype, gate: str, device: torch.device
) -> None:
    skip_unless_checked(name, device, dtype)
    exact = activations(ORACLE, gate, torch.float64, device, dtype)
    naive = activations(ORACLE, gate, dtype, device, dtype)
    worst = judge(name, activations(name, gate, dtype, device, dtype), exact, naive, dtype)[0]
    assert not worst.wrong, str(worst)
