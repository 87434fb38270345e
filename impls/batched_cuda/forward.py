"""The forward sweep: one launch for all steps, or which phase of a step follows which, on what, in which tiles."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..definition import CellNorms, LayerParams, LayerState, embedding_bias
from . import forward_kernels as kernels
from . import tiles
from .forward_sequence import forward_sequence
from .target import NO_MASK, DenseMask, Target, dense, dense_norms


class Weights(NamedTuple):
    """What `steps` reads of a layer, all of it dense."""

    w_h: Tensor  # [4, H, H]
    hyper_w_h: Tensor  # [4, S, H]
    w_s: Tensor  # [4, S, S]
    w_z: Tensor  # [3, 4, Z, S]
    b_z: Tensor  # [12Z]
    w_d: Tensor  # [3, 4, H, Z]
    bias: Tensor  # [4, H]
    hyper_bias: Tensor  # [4, S]
    norms: CellNorms
    hyper_norms: CellNorms


def weights(p: LayerParams) -> Weights:
    """Return what `steps` reads of a layer."""
    w = (
        p.weight_h,
        p.hyper_weight_h,
        p.hyper_weight_s,
        p.z_weight,
        embedding_bias(p),
        p.d_weight,
        p.bias,
        p.hyper_bias,
    )
    return Weights._make((*map(dense, w), dense_norms(p.norms), dense_norms(p.hyper_norms)))


def steps(target: Target, vx: Tensor, before: LayerState, w: Weights, mask: DenseMask, to: LayerState) -> None:
    """Run K steps forward: vx [K, B, 4H + 4S], the state before [B, *], states after each step to write, [K, B, *]."""
    # Threads hold both factors of a product over a whole step along its sum: of 128 bytes some would spill.
    H, S, normed = w.w_h.shape[-1], w.w_s.shape[-1], w.norms.weight is not None
    cut = tiles.sequence(H, S, vx.dtype, whole_rows=normed, step=64)
    if cut is None:
        _in_phases(target, vx, before, w, mask, to)
    else:
        _in_one_launch(target, cut, vx, before, w, mask, to)


def _in_one_launch(
    target: Target,
    cut: tiles.Sequence,
    vx: Tensor,
    before: LayerState,
    w: Weights,
    mask: DenseMask,
    to: LayerState,
) -> None:
    *weights, norms, hyper_norms = w
    (K, B, _), H, S, Z = vx.shape, w.w_h.shape[-1], w.w_s.shape[-1], w.w_d.shape[-1]
    here, normed = 4 * Z <= 64, norms.weight is not None
    ZS = tiles.padded(4 * Z) if here else min(cut.depth, tiles.padded(Z))
    sizes = {"H": H, "S": S, "Z": Z, "ZS": ZS, "EMBED": here, "NORM": "later" if normed else "no"}
    z = None if here else vx.new_empty(B, 12 * Z)
    y, a = (vx.new_empty(B, 4 * F, dtype=torch.float32) if normed else None for F in (H, S))
    run = target.by_program(forward_sequence, cut, B, **sizes)
    run(vx, *before, *weights, *mask, z, y, a, *norms, *hyper_norms, *to, K, B)


def _in_phases(target: Target, vx: Tensor, before: LayerState, w: Weights, mask: DenseMask, to: LayerState) -> None:
    h, c, h_hat, c_hat = before
    to_h, to_c, to_h_hat, to_c_hat = to
    w_h, hyper_w_h, w_s, w_z, b_z, w_d, bias, hyper_bias, main_norms, hyper_norms = w
    (K, B, _), H, S, Z = vx.shape, h.shape[1], h_hat.shape[1], w_d.shape[-1]
    normed = main_norms.weight is not None

    cut = tiles.Cut(target.card, vx.dtype, target.precision)
    hyper_tile, hyper_norm = cut.for_gates(B, S, H + S, normed)
    main_tile, main_norm = cut.for_gates(B, H, H, normed)
    # Each tile of the main phase makes its own z where that adds little to its product.
    here = 4 * Z <= 64 and main_tile.units * H >= 12 * Z * S
    ZS = tiles.padded(4 * Z) if here else min(main_tile.depth, tiles.padded(Z))
    hyper = target.tiled(kernels.hyper_gates, hyper_tile, B, S, H=H, S=S, NORM=hyper_norm)
    embed = target.tiled(kernels.embed, cut(B, 12 * Z, S), B, 12 * Z, S=S, Z12=12 * Z)
    main = target.tiled(kernels.main_gates, main_tile, B, H, H=H, S=S, Z=Z, ZS=ZS, EMBED=here, NORM=main_norm)
    hyper_cell, main_cell = target.by_row(kernels.norm_cell, B, S), target.by_row(kernels.norm_cell, B, H)

    z = None if here else vx.new_empty(B, 12 * Z)
    a = vx.new_empty(B, 4 * S, dtype=torch.float32) if hyper_norm == "later" else None
    y = vx.new_empty(B, 4 * H, dtype=torch.float32) if main_norm == "later" else None
    of_tile, of_row = (mask, NO_MASK) if y is None else (NO_MASK, mask)
    prev = 0
    for t in range(K):
        step = t, prev, B
        hyper(vx, h, h_hat, c_hat, hyper_w_h, w_s, hyper_bias, to_h_hat, to_c_hat, a, *hyper_norms, *step)
        if a is not None:
            hyper_cell(a, c_hat, *NO_MASK, to_h_hat, to_c_hat, *hyper_norms, *step)
        if z is not None:
            embed(to_h_hat, w_z, b_z, z, t, B)
        main(vx, h, c, to_h_hat, z, w_h, w_z, b_z, w_d, bias, *of_tile, to_h, to_c, y, *main_norms, *step)
        if y is not None:
            main_cell(y, c, *of_row, to_h, to_c, *main_norms, *step)
        h, c, h_hat, c_hat, prev = to_h, to_c, to_h_hat, to_c_hat, t
