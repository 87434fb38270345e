"""The loops over steps in compiled code: each thread takes its batch rows through all steps, one fused pass a phase."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from .. import recurrence
from ..layer import LayerParams, LayerState
from ..recurrence import BackwardSweep, Chunk, Deltas, ForwardSweep, Inputs, Product, Sweeps, cell_dtype, rung
from .build import library, why_unavailable

__all__ = ["run", "why_unavailable"]

#: The sums that the compiled backward sweep returns first; those of the norms follow.
_SUMS = ("d_weight", "bias", "hyper_bias", "z_bias")


def forward(p: LayerParams) -> ForwardSweep:
    """Pack the parameters for the forward sweep and return it."""
    compiled = library()
    weights = compiled.Weights([q for q in p if q is not None], False)

    def sweep(inputs: Inputs, s: LayerState, into: LayerState, kept: Tensor | None) -> LayerState:
        compiled.forward(weights, inputs.x.contiguous(), [q.contiguous() for q in s], list(into), kept)
        return LayerState(*(part[-1] for part in into))

    return sweep


def backward(p: LayerParams) -> BackwardSweep:
    """Pack the transposed parameters for the backward sweep and return it."""
    compiled = library()
    params = [q for q in p if q is not None]
    weights, forward_weights = compiled.Weights(params, True), cache(lambda: compiled.Weights(params, False))
    H, S, Z = p.bias.shape[1], p.hyper_bias.shape[1], p.z_bias.shape[2]
    cell = cell_dtype(p.bias.dtype)
    reused: dict[str, Tensor] = {}

    def reuse(name: str, *shape: int) -> Tensor:
        """Return an array whose numbers are used up before the next chunk: fresh memory costs more than writing it."""
        if name not in reused or reused[name].shape[0] < shape[0]:
            reused[name] = p.bias.new_empty(shape)
        return reused[name][: shape[0]]

    def rebuilt(chunk: Chunk) -> Tensor:
        """Return what the forward sweep would have kept."""
        kept = reuse("kept", *chunk.x.shape[:2], 4 * H + 4 * S)
        known = (chunk.x, chunk.before.h, chunk.before.h_hat)
        compiled.rebuild(forward_weights(), *(q.contiguous() for q in known), kept)
        return kept

    def sweep(chunk: Chunk, carried: LayerState) -> tuple[Deltas, LayerState]:
        K, B = chunk.x.shape[:2]
        rec, inp, z = reuse("rec", K, B, 4 * H + 4 * S), reuse("inp", K, B, 4 * H), reuse("z", K, B, 12, Z)
        arrays = [chunk.x, rebuilt(chunk) if chunk.kept is None else chunk.kept, chunk.after.h_hat]
        arrays += [chunk.before.c, chunk.after.c, chunk.before.c_hat, chunk.after.c_hat, chunk.d_out]
        state = [q.to(cell, memory_format=torch.contiguous_format, copy=True) for q in carried]
        found = compiled.backward(weights, [q.contiguous() for q in arrays], [rec, inp, z.flatten(2)], state)
        sums = dict(zip(_SUMS, found, strict=False))
        return Deltas(rec, inp, None, z, found[len(sums) :], sums), LayerState(*state)

    return sweep


def add_products(products: Sequence[Product]) -> None:
    """Add each product, in bfloat16 with torch's, which has instructions for it."""
    if products and all(d.dtype == total.dtype for total, d, _ in products):
        library().add_products(*map(list, zip(*products, strict=True)))
    else:
        recurrence.add_products(products)


run = rung(
    __name__,
    # The forward sweep needs no arrays of a chunk but the states that nobody wants.
    Sweeps(forward, backward, keeps_products=True, forward_numbers=2, numbers=16, add_products=add_products),
)
