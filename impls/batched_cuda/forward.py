"""The forward sweep: which phase follows which, on what, in which tiles."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..definition import LayerParams, embedding_bias
from . import forward_kernels as kernels
from . import tiles
from .target import Target, dense


def weights(p: LayerParams) -> list[Tensor | None]:
    """Return what `steps` reads of a layer, each dense; the norms are None without layer norm."""
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
    return [q if q is None else dense(q) for q in (*w, *p.norms, *p.hyper_norms)]


def steps(target: Target, given: Sequence[Any], out: Sequence[Tensor]) -> None:
    """Run K steps forward.

    given: products with x [K, B, 4H + 4S], the state before (h, c, h_hat, c_hat), and `weights`.
    out: h, c, h_hat, c_hat after each step, [K, B, *].
    """
    vx, h, c, h_hat, c_hat, w_h, hyper_w_h, w_s, w_z, b_z, w_d, bias, hyper_bias, *norms = given
    to_h, to_c, to_h_hat, to_c_hat = out
    (K, B, _), H, S, Z = vx.shape, h.shape[1], h_hat.shape[1], w_d.shape[-1]
    main_norms, hyper_norms = norms[:4], norms[4:]

    cut = tiles.Cut(target.card, vx.dtype, target.precision)
    hyper_tile, hyper_norm = cut.for_gates(B, S, H + S, norms[0] is not None)
    main_tile, main_norm = cut.for_gates(B, H, H, norms[0] is not None)
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
    prev = 0
    for t in range(K):
        step = t, prev, B
        hyper(vx, h, h_hat, c_hat, hyper_w_h, w_s, hyper_bias, to_h_hat, to_c_hat, a, *hyper_norms, *step)
        if a is not None:
            hyper_cell(a, c_hat, to_h_hat, to_c_hat, *hyper_norms, *step)
        if z is not None:
            embed(to_h_hat, w_z, b_z, z, t, B)
        main(vx, h, c, to_h_hat, z, w_h, w_z, b_z, w_d, bias, to_h, to_c, y, *main_norms, *step)
        if y is not None:
            main_cell(y, c, to_h, to_c, *main_norms, *step)
        h, c, h_hat, c_hat, prev = to_h, to_c, to_h_hat, to_c_hat, t
