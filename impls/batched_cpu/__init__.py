"""The loops over steps in compiled code: each thread takes its batch rows through all steps, one fused pass a phase."""

from collections.abc import Collection

import torch
from torch import Tensor

from ..chunks import bounds, limits
from ..custom_op import as_operator
from ..definition import LayerParams, LayerState
from ..sweeps import ForwardSweep, Inputs, Past, Sweeps
from .build import library, why_unavailable

#: Groups of batch rows, and threads for each, in place of what suits the sizes and the number of threads.
SPLIT: tuple[int, int] | None = None

#: The I from which v = weight_x x is kept for the backward pass.
KEEPS_V_FROM = 96

__all__ = ["run", "why_unavailable"]


def forward(p: LayerParams) -> ForwardSweep:
    """Pack the parameters for the forward sweep and return it."""
    compiled = library()
    weights = compiled.Weights(p.present())

    def sweep(inputs: Inputs, s: LayerState, into: LayerState, residuals: Tensor | None) -> LayerState:
        compiled.forward(weights, inputs.x.contiguous(), [q.contiguous() for q in s], list(into), residuals, SPLIT)
        return LayerState(*(part[(len(into.h) - 1) % len(part)] for part in into))

    return sweep


def backward(
    p: LayerParams, wanted: Collection[str], past: Past, carried: LayerState, d_x: Tensor | None
) -> tuple[dict[str, Tensor], LayerState]:
    """Go back over a sequence; what of it stands in memory at a time is a chunk of steps."""
    (T, B, _), most, cell = past.x.shape, limits(past.x.device), past.trajectory.c.dtype
    params = p.present()
    names = LayerParams._fields[: len(params)]
    state = [q.to(cell, memory_format=torch.contiguous_format, copy=True) for q in carried]
    gradients = library().backward(
        params,
        [name in wanted for name in names],
        past.x,
        list(past.start),
        list(past.trajectory),
        past.residuals,
        past.d_out,
        state,
        d_x,
        bounds(most.backward, 10 if past.residuals is not None else 20, p, T, B, most.rows),
        SPLIT,
    )
    return {name: g for name, g in zip(names, gradients, strict=True) if g is not None}, LayerState(*state)


def _residuals(I: int, H: int, S: int) -> int:
    """Count u and the hyper LSTM's gates, and v where to multiply it again takes longer than to write and read it."""
    return 4 * (H + S) + (4 * H if I >= KEEPS_V_FROM else 0)


run = as_operator(__name__, Sweeps(forward, backward, residuals=_residuals, ring=2))
