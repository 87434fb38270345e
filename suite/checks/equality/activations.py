"""Sigmoid and tanh as implementations compute them, and their derivatives: a step in which one gate is varied."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from impls import HyperLSTM
from suite.cases.case import Case, Start
from suite.comparison.tensors import Results

#: Arguments from -MOST to MOST, in parts that are judged by themselves: where a function is nearly 0 its errors would
#: not show among larger numbers. The last part is from -SMALL to SMALL. Each part is a row of a batch of a model of
#: UNITS units.
MOST = 100
SMALL = 1e-4
PARTS = 41
UNITS = 100
CASE = Case(T=1, B=PARTS, I=UNITS, H=UNITS, S=1, Z=1, state=Start.SHARED)
#: The gate that is varied, in the order i, f, g, o. The others are at 100, where a sigmoid or tanh is 1, but g at 0
#: beside f, which multiplies a cell that starts at 0.5 instead of 0.
GATES = {"sigmoid of i": 0, "sigmoid of f": 1, "tanh of g": 2, "sigmoid of o": 3}
OF_F = GATES["sigmoid of f"]


def _model(name: str, gate: int, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
    """A model of which one gate is x, and the others are constant."""
    meta = torch.device("meta")
    model = HyperLSTM(UNITS, UNITS, 1, 1, 1, impl=name, dtype=dtype, device=meta).to_empty(device=device)
    p: Any = model.layers[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        p.bias[torch.arange(4) != gate] = MOST
        if gate == OF_F:
            p.bias[2] = 0  # so that what is small is added to nothing
        p.weight_x[gate].fill_diagonal_(1)
        # The factor of W x.
        p.z_bias[1, gate] = 1
        p.d_weight[1, gate] = 1
    return model


def _arguments() -> Tensor:
    """What the gate is, [1, PARTS, UNITS]."""
    most = torch.linspace(-MOST, MOST, (PARTS - 1) * UNITS, dtype=torch.float64)
    small = torch.linspace(-SMALL, SMALL, UNITS, dtype=torch.float64)
    return torch.cat([most, small]).view(1, PARTS, UNITS)


@lru_cache(3)  # of the oracle, in two dtypes, and of one implementation after another
def activations(name: str, gate: int, dtype: torch.dtype, device: torch.device, rounded: torch.dtype) -> Results:
    """C and h after a step in which one gate is x, and their derivatives by it; rounded: dtype of its arguments."""
    model = _model(name, gate, dtype, device)
    x = _arguments().to(rounded).to(device, dtype).requires_grad_()
    start = torch.zeros(PARTS, UNITS, dtype=dtype, device=device)
    cell = torch.full_like(start, 0.5 if gate == OF_F else 0.0)
    hyper = torch.zeros(PARTS, 1, dtype=dtype, device=device)
    _, (h, c, *_) = model(x, (start, cell, hyper, hyper))
    # Of c alone, then of h alone: what the cell and what the output makes of the gate.
    (dc,) = torch.autograd.grad(c.sum(), x, retain_graph=True)
    (dh,) = torch.autograd.grad(h.sum(), x)
    eps = torch.finfo(rounded).eps
    # What an error is relative to is at least this much: a derivative's terms cancel where it is nearly 0.
    return {
        **_by_part("c", c, eps),
        **_by_part("h", h, eps),
        **_by_part("dc", dc, 1.0),
        **_by_part("dh", dh, 1.0),
    }


def _by_part(name: str, values: Tensor, least: float) -> Results:
    """Values of each part, and one of that size."""
    results: Results = {}
    for n, part in enumerate(values.detach()[0]):
        results[f"{name}, part {n}"] = torch.cat([part, part.new_tensor([least])])
    return results
