"""Sigmoid and tanh as implementations compute them, and their derivatives: a step in which one gate is varied."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from impls import HyperLSTM
from suite.cases.case import Case, Start
from suite.comparison.tensors import Gate, Output, Piece, Results

#: Arguments from -MOST to MOST, in pieces that are judged by themselves: where a function is nearly 0 its errors would
#: not show among larger numbers. The last piece is from -NEAR_0 to NEAR_0. Each piece is a row of a batch of a model of
#: UNITS units.
MOST = 100
NEAR_0 = 1e-4
PIECES = 41
UNITS = 100
CASE = Case(T=1, B=PIECES, I=UNITS, H=UNITS, S=1, Z=1, state=Start.SHARED)


def _model(name: str, gate: Gate, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
    """A model of which one gate is x.

    The others are at 100, where a sigmoid or tanh is 1. Where f is x, g is at 0, and the cell starts at 0.5.
    """
    meta = torch.device("meta")
    model = HyperLSTM(UNITS, UNITS, 1, 1, 1, impl=name, dtype=dtype, device=meta).to_empty(device=device)
    p: Any = model.layers[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        p.bias[torch.arange(4) != gate.value] = MOST
        if gate is Gate.F:
            p.bias[Gate.G.value] = 0  # so that what is small is added to nothing
        p.weight_x[gate.value].fill_diagonal_(1)
        # The factor of W x.
        p.z_bias[1, gate.value] = 1
        p.d_weight[1, gate.value] = 1
    return model


def _arguments() -> Tensor:
    """What the gate is, [1, PIECES, UNITS]."""
    most = torch.linspace(-MOST, MOST, (PIECES - 1) * UNITS, dtype=torch.float64)
    near_0 = torch.linspace(-NEAR_0, NEAR_0, UNITS, dtype=torch.float64)
    return torch.cat([most, near_0]).view(1, PIECES, UNITS)


@lru_cache(3)  # of the oracle, in two dtypes, and of one implementation after another
def activations(name: str, gate: Gate, dtype: torch.dtype, device: torch.device, rounded: torch.dtype) -> Results:
    """C and h after a step in which one gate is x, and their derivatives by it; rounded: dtype of its arguments."""
    model = _model(name, gate, dtype, device)
    x = _arguments().to(rounded).to(device, dtype).requires_grad_()
    start = torch.zeros(PIECES, UNITS, dtype=dtype, device=device)
    cell = torch.full_like(start, 0.5 if gate is Gate.F else 0.0)
    hyper = torch.zeros(PIECES, 1, dtype=dtype, device=device)
    _, (h, c, *_) = model(x, (start, cell, hyper, hyper))
    # Of c alone, then of h alone: what the cell and what the output makes of the gate.
    (dc,) = torch.autograd.grad(c.sum(), x, retain_graph=True)
    (dh,) = torch.autograd.grad(h.sum(), x)
    eps = torch.finfo(rounded).eps
    # What an error is relative to is at least this much: a derivative's terms cancel where it is nearly 0.
    return {
        **_pieces(Output.C, c, eps),
        **_pieces(Output.H, h, eps),
        **_pieces(Output.C, dc, 1.0, derivative=True),
        **_pieces(Output.H, dh, 1.0, derivative=True),
    }


def _pieces(output: Output, values: Tensor, least: float, *, derivative: bool = False) -> Results:
    """Each row of the values, with one more number of that size."""
    results: Results = {}
    for number, row in enumerate(values.detach()[0]):
        results[Piece(output, number, derivative)] = torch.cat([row, row.new_tensor([least])])
    return results
