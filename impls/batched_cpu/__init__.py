"""The loops over steps in compiled code: each thread takes its batch rows through all steps, one fused pass a phase."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import recurrence
from ..layer import LayerParams, LayerState
from ..recurrence import BackwardSweep, Chunk, Deltas, ForwardSweep, Inputs, Product, Sweeps, cell_dtype, rung
from .build import library, why_unavailable

__all__ = ["run", "why_unavailable"]


def forward(p: LayerParams) -> ForwardSweep:
    """Pack the parameters for the forward sweep and return it."""
    compiled = library()
    weights = compiled.Weights([q for q in p if q is not None], False)

    def sweep(inputs: Inputs, s: LayerState, into: LayerState, uh: Tensor | None) -> LayerState:
        compiled.forward(weights, inputs.x.contiguous(), [q.contiguous() for q in s], list(into), uh)
        return LayerState(*(part[-1] for part in into))

    return sweep


def backward(p: LayerParams) -> BackwardSweep:
    """Pack the transposed parameters for the backward sweep and return it."""
    compiled = library()
    weights = compiled.Weights([q for q in p if q is not None], True)
    H, Z = p.bias.shape[1], p.z_bias.shape[2]
    w_s, w_x, b = p.hyper_weight_s.flatten(0, 1), p.hyper_weight_x.flatten(0, 1), p.hyper_bias.flatten()
    cell = cell_dtype(p.bias.dtype)
    reused: dict[str, Tensor] = {}

    def reuse(name: str, *shape: int) -> Tensor:
        """Return an array whose numbers are used up before the next chunk: fresh memory costs more than writing it."""
        if name not in reused or reused[name].shape[0] < shape[0]:
            reused[name] = p.bias.new_empty(shape)
        return reused[name][: shape[0]]

    def sweep(chunk: Chunk, carried: LayerState) -> tuple[Deltas, LayerState]:
        K, B = chunk.z.shape[:2]
        a = F.linear(chunk.inputs.x, w_x, b).add_(chunk.uh[..., 4 * H :])
        a.flatten(0, 1).addmm_(chunk.before.h_hat.flatten(0, 1), w_s.T)
        rec, z = reuse("rec", *chunk.uh.shape), reuse("z", K, B, 12, Z)
        inp = reuse("inp", K, B, 4 * H)
        arrays = [chunk.inputs.x, chunk.uh, a, chunk.z.flatten(2), chunk.before.c, chunk.after.c]
        arrays += [chunk.before.c_hat, chunk.after.c_hat, chunk.d_out]
        state = [q.to(cell, memory_format=torch.contiguous_format, copy=True) for q in carried]
        d_weight, bias, *norms = compiled.backward(
            weights, [q.contiguous() for q in arrays], [rec, inp, z.flatten(2)], state
        )
        return Deltas(rec, inp, None, z, norms, {"bias": bias, "d_weight": d_weight}), LayerState(*state)

    return sweep


def add_products(products: Sequence[Product]) -> None:
    """Add each product, in bfloat16 with torch's, which has instructions for it."""
    if products and all(d.dtype == total.dtype for total, d, _ in products):
        library().add_products(*map(list, zip(*products, strict=True)))
    else:
        recurrence.add_products(products)


run = rung(__name__, Sweeps(forward, backward, keeps_products=True, numbers=16, add_products=add_products))
