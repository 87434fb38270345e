"""The loops over steps in compiled code: each thread takes its batch rows through all steps, one fused pass a phase."""

from collections.abc import Collection

import torch
from torch import Tensor

from ..layer import LayerParams, LayerState
from ..recurrence import CHUNK_BYTES, CHUNK_ROWS, ForwardSweep, Inputs, Past, Sweeps, cut, rung
from .build import library, why_unavailable

__all__ = ["run", "why_unavailable"]


def forward(p: LayerParams) -> ForwardSweep:
    """Pack the parameters for the forward sweep and return it."""
    compiled = library()
    weights = compiled.Weights([q for q in p if q is not None])

    def sweep(inputs: Inputs, s: LayerState, into: LayerState, kept: Tensor | None) -> LayerState:
        compiled.forward(weights, inputs.x.contiguous(), [q.contiguous() for q in s], list(into), kept)
        return LayerState(*(part[(len(into.h) - 1) % len(part)] for part in into))

    return sweep


def backward(
    p: LayerParams, wanted: Collection[str], past: Past, carried: LayerState, d_x: Tensor | None
) -> tuple[dict[str, Tensor], LayerState]:
    """Go back over a sequence; what of it stands in memory at a time is a chunk of steps."""
    T, B, _ = past.x.shape
    chunks = cut(CHUNK_BYTES, 16, p, T, B, CHUNK_ROWS[past.x.device.type])
    params = {name: q for name, q in p._asdict().items() if q is not None}
    cell = past.trajectory.c.dtype
    state = [q.to(cell, memory_format=torch.contiguous_format, copy=True) for q in carried]
    gradients = library().backward(
        list(params.values()),
        [name in wanted for name in params],
        past.x,
        list(past.start),
        list(past.trajectory),
        past.kept,
        past.d_out,
        state,
        d_x,
        len(chunks),
    )
    return {name: g for name, g in zip(params, gradients, strict=True) if g is not None}, LayerState(*state)


run = rung(__name__, Sweeps(forward, backward, keeps_products=True, ring=2))
