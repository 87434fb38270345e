"""The loops over steps in compiled code: groups of threads take rows through all steps, one fused pass a phase."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from ..chunks import bounds, limits
from ..custom_op import as_operator
from ..definition import LayerParams, LayerState
from ..dropout import Mask
from ..packed import last_tokens, rows_of
from ..sweeps import ForwardSweep, Inputs, Past, Sweeps
from .build import library, why_unavailable

#: Steps of states, but h, that stand in memory where no backward pass will read them.
RING = 2
#: Groups of batch rows, and threads for each, in place of what suits the sizes and the number of threads.
SPLIT: tuple[int, int] | None = None

#: The I from which v = weight_x x is kept for the backward pass.
KEEPS_V_FROM = 96

__all__ = ["run", "run_packed", "why_unavailable"]


def forward(p: LayerParams) -> ForwardSweep:
    """Return the forward sweep; the first of its chunks, which has the most rows, packs the parameters."""
    compiled = library()
    weights = None

    def sweep(inputs: Inputs, s: LayerState, into: LayerState, residuals: Tensor | None) -> LayerState:
        nonlocal weights
        weights = weights or compiled.Weights(p.present(), inputs.rows[0])
        rows, start = inputs.rows, [q.contiguous() for q in s]
        x, left, *to = _tokens(inputs.x, residuals, *into)
        ring = 0 if len(to[1]) == len(to[0]) else RING
        compiled.forward(weights, rows, x, start, to, ring, *contiguous(inputs.mask), left, SPLIT)
        return _last(rows, to, ring)

    return sweep


def _tokens(*arrays: Tensor | None) -> list[Any]:
    """Return each array over all tokens, [N, *], in memory without gaps: a view if it lies so already."""
    return [q if q is None else q.contiguous().flatten(0, -2) for q in arrays]


def _last(rows: list[int], states: Sequence[Tensor], ring: int) -> LayerState:
    """Return the state of each row after its own last step; ring: of steps whose states but h are there, 0 for all."""
    if rows[-1] == rows[0]:
        B, slot = rows[0], (len(rows) - 1) % ring if ring else len(rows) - 1
        return LayerState(states[0][len(states[0]) - B :], *(q[slot * B : slot * B + B] for q in states[1:]))
    of_h, of_others = last_tokens(rows), last_tokens(rows, ring or None)
    return LayerState(states[0][of_h], *(q[of_others] for q in states[1:]))


def contiguous(mask: Mask | None) -> tuple[Tensor | None, float]:
    """Return which of g are kept, as compiled code reads it, and their scale."""
    return (None, 1.0) if mask is None else (*_tokens(mask.kept), mask.scale)


def backward(
    p: LayerParams, wanted: Collection[str], past: Past, carried: LayerState, d_x: Tensor | None
) -> tuple[dict[str, Tensor], LayerState]:
    """Go back over a sequence; what of it stands in memory at a time is a chunk of steps."""
    most, cell, params = limits(past.x.device), past.trajectory.c.dtype, p.present()
    rows, numbers = rows_of(past.x, past.batch_sizes), 10 if past.residuals is not None else 20
    names = LayerParams._fields[: len(params)]
    state = [q.to(cell, memory_format=torch.contiguous_format, copy=True) for q in carried]
    gradients = library().backward(
        params,
        [name in wanted for name in names],
        rows,
        *_tokens(past.x),
        list(past.start),
        _tokens(*past.trajectory),
        *_tokens(past.residuals),
        *contiguous(past.mask),
        *_tokens(past.d_out),
        state,
        *_tokens(d_x),
        bounds(most.backward, numbers, p, len(rows), rows[0], most.rows, past.batch_sizes),
        SPLIT,
    )
    return {name: g for name, g in zip(names, gradients, strict=True) if g is not None}, LayerState(*state)


def _residuals(I: int, H: int, S: int) -> int:
    """Count u and the hyper LSTM's gates, and v where to multiply it again takes longer than to write and read it."""
    return 4 * (H + S) + (4 * H if I >= KEEPS_V_FROM else 0)


run, run_packed = as_operator(__name__, Sweeps(forward, backward, residuals=_residuals, ring=RING))
