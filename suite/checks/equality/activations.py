"""Sigmoid and tanh as implementations compute them, and their derivatives: a step in which one gate is varied."""

from functools import lru_cache
from typing import Any

import torch

from impls import HyperLSTM
from suite.shared.cases import Case
from suite.shared.oracle import Results

#: Arguments from -MOST to MOST, in parts that are judged by themselves: where a function is nearly 0 its errors would
#: not show among larger numbers. The last part is from -SMALL to SMALL. Each part is a row of a batch of a model of
#: UNITS units.
MOST, SMALL, PARTS, UNITS = 100, 1e-4, 41, 100
CASE = Case(T=1, B=PARTS, I=UNITS, H=UNITS, S=1, Z=1, state="plain")
#: The gate that is varied, in the order i, f, g, o. The others are at 100, where a sigmoid or tanh is 1, but g at 0
#: beside f, which multiplies a cell that starts at 0.5 instead of 0.
GATES = {"sigmoid of i": 0, "sigmoid of f": 1, "tanh of g": 2, "sigmoid of o": 3}
OF_F = GATES["sigmoid of f"]


@lru_cache(3)  # of the oracle, in two dtypes, and of one implementation after another
def activations(name: str, gate: int, dtype: torch.dtype, device: torch.device, rounded: torch.dtype) -> Results:
    """C and h after a step in which one gate is x, and their derivatives by it; rounded: dtype of its arguments."""
    model = HyperLSTM(UNITS, UNITS, 1, 1, 1, impl=name, dtype=dtype, device=torch.device("meta")).to_empty(
        device=device
    )
    p: Any = model.layers[0]
    with torch.no_grad():
        for q in model.parameters():
            q.zero_()
        p.bias[torch.arange(4) != gate] = MOST
        if gate == OF_F:
            p.bias[2] = 0  # so that what is small is added to nothing
        p.weight_x[gate].fill_diagonal_(1)
        for q in (p.z_bias, p.d_weight):  # the factor of W x
            q[1, gate] = 1
    arguments = ((MOST, PARTS - 1), (SMALL, 1))
    x = torch.cat([torch.linspace(-most, most, n * UNITS, dtype=torch.float64) for most, n in arguments])
    x = x.to(rounded).view(1, PARTS, UNITS).to(device, dtype).requires_grad_()
    starts = 0.0, 0.5 if gate == OF_F else 0.0
    state = [torch.full((PARTS, UNITS), start, dtype=dtype, device=device) for start in starts]
    _, (h, c, *_) = model(x, (*state, *torch.zeros(2, PARTS, 1, dtype=dtype, device=device)))
    # Of c alone, then of h alone: what the cell and what the output makes of the gate.
    derivatives = [torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for value in (c, h)]
    # What an error is relative to is at least this much: a derivative's terms cancel where it is nearly 0.
    least = {"c": torch.finfo(rounded).eps, "h": torch.finfo(rounded).eps, "dc": 1.0, "dh": 1.0}
    return {
        f"{what}, part {n}": torch.cat([part, part.new_tensor([least[what]])])
        for what, values in zip(least, (c, h, *derivatives), strict=True)
        for n, part in enumerate(values.detach()[0])
    }
