"""Values at which a formula that is right elsewhere overflows or loses its digits."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from suite.checks.equality.uses import PLAIN
from suite.shared.oracle import Draw

#: By the last part of a parameter's name, or of a state's.
Changes = dict[str, Callable[[Tensor], Tensor]]


def _changed(changes: Changes, sample: Draw) -> Draw:
    """Change some parameters, and the cells of the state."""
    params = {name: changes.get(name.split(".")[-1], Tensor.clone)(p) for name, p in sample.params.items()}
    h, c, h_hat, c_hat = sample.state or ()
    cells = changes["cells"]
    return sample._replace(params=params, state=(h, cells(c), h_hat, cells(c_hat)))


def _kept(bias: Tensor) -> Tensor:
    """Open the forget gate, so that the cell's mean stays."""
    return bias + bias.new_tensor([0.0, 10.0, 0.0, 0.0])[:, None]


#: Under layer norm: the means of gates and cells are many deviations from 0.
FAR = {
    **dict.fromkeys(("bias", "hyper_bias"), lambda bias: bias + 30),
    **dict.fromkeys(("norm_bias", "hyper_norm_bias"), _kept),
    "cells": lambda c: c + 100,
}
#: Without layer norm: most of the exponentials of a sigmoid or tanh overflow, even in float64.
SATURATED = dict.fromkeys(("bias", "hyper_bias", "cells"), lambda value: value.where(value.abs() < 1, 1000 * value))

VALUES = {
    name: (PLAIN._replace(name=name, numbers=partial(_changed, changes)),)
    for name, changes in (("means far from 0", FAR), ("saturated", SATURATED))
}
