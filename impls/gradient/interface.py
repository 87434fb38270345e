"""What an implementation with a hand-written gradient provides: a forward pass and a backward pass."""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from ..definition import Inputs, LayerParams, LayerState, cell_dtype


class Saved(NamedTuple):
    """What the forward pass saves for the backward pass."""

    states: LayerState  # [T, B, *] each: the states after each step, h being the output
    residuals: Tensor | None  # [T, B, *]: further values, which the backward pass recomputes where they are None


class Save(IntEnum):
    """What a forward pass saves for the backward pass; a number, since an operator's schema has no enumerations."""

    NONE = 0
    STATES = 1
    STATES_AND_RESIDUALS = 2


#: (parameters, inputs, out, states, residuals) -> final state, in its own memory; the cells may be wider than x.
#: out: array [T, B, H] to write. states: arrays [T, B, *] to write c, h_hat and c_hat to; empty if they are not saved.
#: residuals: array to write, or None. Of packed sequences, the last state is each row's own.
Forward = Callable[[LayerParams, Inputs, Tensor, Sequence[Tensor], Tensor | None], LayerState]
#: (parameters, inputs, saved, d_out, d_last, needed) -> gradients by name: those needed, and maybe others.
#: d_last: gradients of the last state, None where there are none. needed: "x", and names of `LayerState` (for the
#: start) and of `LayerParams`. Gradients are contiguous, and may be wider than what they are of.
Backward = Callable[
    [LayerParams, Inputs, Saved, Tensor, Sequence[Tensor | None], Collection[str]], Mapping[str, Tensor]
]
#: What a gradient may be of, in the order of an operator's arguments.
NAMES = ("x", *LayerState._fields, *LayerParams._fields)


class HandWritten(NamedTuple):
    """An implementation with a hand-written gradient."""

    forward: Forward
    backward: Backward
    #: (I, H, S) -> the residuals of one row and step.
    residuals: Callable[[int, int, int], int]


def allocate_states(p: LayerParams, x: Tensor, over: Sequence[int]) -> list[Tensor]:
    """Arrays for c, h_hat and c_hat over some axes; the cells in float32 or wider."""
    H, S, cell = p.bias.shape[1], p.hyper_bias.shape[1], cell_dtype(x.dtype)
    return [x.new_empty(*over, F, dtype=dtype) for F, dtype in ((H, cell), (S, x.dtype), (S, cell))]


def in_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value.to(dtype)`, skipped if it is a no-op: the call alone costs ten times the comparison."""
    return value if value.dtype == dtype else value.to(dtype)


def in_dtypes(values: Sequence[Tensor], like: Sequence[Tensor]) -> LayerState:
    """A state in the dtypes of another."""
    return LayerState(*(in_dtype(value, q.dtype) for value, q in zip(values, like, strict=True)))
