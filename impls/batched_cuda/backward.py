"""The backward sweep: what is rebuilt for a chunk at once, then which phase follows which."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..definition import LayerParams, hidden_weight
from . import backward_kernels as kernels
from . import tiles
from .target import Target, dense


def weights(p: LayerParams) -> list[Tensor | None]:
    """Return what `steps` reads of a layer: transposed, since its products sum along rows of the gradients."""
    w_d = p.d_weight.flatten(0, 1)
    turned = (hidden_weight(p).mT, p.z_weight.flatten(0, 2).mT, p.hyper_weight_s.flatten(0, 1).mT, w_d.mT)
    return [q if q is None else dense(q) for q in (*turned, w_d, p.bias, *p.norms, *p.hyper_norms)]


def outputs(uh: Tensor, H: int, S: int, Z: int, normed: bool) -> list[Tensor]:
    """Return room for what `steps` writes; sums start at 0, which they are over no rows."""
    K, B, _ = uh.shape
    float32 = uh.new_empty(0, dtype=torch.float32)
    cells = [float32.new_empty(B, H), float32.new_empty(B, S)]
    sums = [float32.new_zeros(shape) for F in (H, S) for shape in ((4, F), (4, F), (F,), (F,))] if normed else []
    return [uh.new_empty(K, B, width) for width in (4 * H + 4 * S, 4 * H, 4 * H, 12 * Z)] + cells + sums


def steps(target: Target, given: Sequence[Any], out: Sequence[Tensor]) -> None:
    """Run K steps back (impls/README.md, Gradient).

    given: products with h and x [K, B, 4H + 4S], z [K, B, 12, Z], the hyper LSTM's gates [K, B, 4S], c and c_hat before
    each step and after it [K, B, *], d_out [K, B, H], the gradients carried in (h, c, h_hat, c_hat), and `weights`.
    out: du and da [K, B, 4H + 4S], dv and dy [K, B, 4H], dz [K, B, 12Z], the gradients of c and c_hat before the first
    step [B, *], and with layer norm those of the eight norms.
    """
    uh, vx, z, a, c_before, c_hat_before, c_after, c_hat_after, d_out, dh, dc, dh_hat, dc_hat, *given = given
    w_h, w_z, w_s, w_d_t, w_d, bias, *norms = given
    rec, inp, dy, dz, dc_to, dc_hat_to, *sums = out
    (K, B, D), H, S, Z, da = uh.shape, dh.shape[1], dh_hat.shape[1], z.shape[-1], rec[..., 4 * dh.shape[1] :]
    NORM = "later" if sums else "no"

    cut = tiles.Cut(target.card, uh.dtype, target.precision)
    main, hyper = (
        [target.tiled(kernel, tile, B, F, H=H, S=S, **sizes, NORM=NORM, LATER=later) for later in (False, True)]
        for kernel, tile, F, sizes in (
            (kernels.main_gradient, cut(B, H, D), H, {}),
            (kernels.hyper_gradient, cut(B, S, 12 * Z + 4 * S), S, {"Z": Z}),
        )
    )
    embedding = target.tiled(kernels.embedding_gradient, cut(B, Z, H, copies=12, factors=3), B, Z, 12, H=H, S=S, Z=Z)

    y = torch.empty_like(dy) if sums else dy
    rebuild = target.tiled(kernels.rebuild_gates, cut(K * B, H, Z, gates=4), K * B, H, H=H, S=S, Z=Z)
    rebuild(uh, vx, z, w_d, bias, rec, inp, y, K * B)
    if sums:
        main_norms = Norms(target, y, c_after, norms[:4])
        hyper_norms = Norms(target, a, c_hat_after, norms[4:])
    else:
        da.copy_(a)

    spare_c, spare_c_hat = ([torch.empty_like(q) for _ in range(2)] for q in (dc_to, dc_hat_to))
    for t in reversed(range(K)):
        to_c, to_c_hat = (spare_c[t % 2], spare_c_hat[t % 2]) if t else (dc_to, dc_hat_to)
        later = t + 1 < K
        if sums:
            main[later](d_out, dh, rec, w_h, None, None, None, None, None, main_norms.dh, t, B)
            main_norms.step(dc, to_c, c_before, dy, rec, 0, t)
            embedding(dy, uh, vx, w_d_t, dz, t, B)
            hyper[later](dz, dh_hat, rec, w_z, w_s, None, None, None, None, hyper_norms.dh, t, B)
            hyper_norms.step(dc_hat, to_c_hat, c_hat_before, None, rec, 4 * H, t)
        else:
            main[later](d_out, dh, rec, w_h, dc, to_c, dy, c_before, c_after, None, t, B)
            embedding(dy, uh, vx, w_d_t, dz, t, B)
            hyper[later](dz, dh_hat, rec, w_z, w_s, dc_hat, to_c_hat, c_hat_before, c_hat_after, None, t, B)
        dc, dc_hat = to_c, to_c_hat

    inp.mul_(dy)  # dv: no step waits for it
    if sums:
        for to, total in zip(sums, (*main_norms.sums(), *hyper_norms.sums()), strict=True):
            to.copy_(total)


class Norms:
    """The layer norms of one LSTM over a chunk: of its gates y [K, B, 4F], normalised in place, and of its cell."""

    def __init__(self, target: Target, y: Tensor, c: Tensor, params: Sequence[Tensor | None]) -> None:
        (K, B, F), self.params, self.y = c.shape, params, y
        self.c = c.clone()
        self.rstd, self.rstd_c = c.new_empty(K, B, 4), c.new_empty(K, B)
        target.by_row(kernels.normalise, K * B * 4, F)(y, self.rstd)
        target.by_row(kernels.normalise, K * B, F)(self.c, self.rstd_c)
        self.d_gates, self.d_cell, self.dh = torch.empty_like(y), torch.empty_like(c), c.new_empty(B, F)
        self.target = target

    def step(
        self, dc: Tensor, to_c: Tensor, c_before: Tensor, dy: Tensor | None, to: Tensor, start: int, t: int
    ) -> None:
        """Write the gradients of y_t, to dy and times d_h to `to` from start, or to `to` alone, and that of c_{t-1}."""
        B, F = self.dh.shape
        sizes = {"WIDTH": to.shape[-1], "START": start, "SCALED": dy is not None}
        phase = self.target.by_row(kernels.norm_cell_gradient, B, F, **sizes)
        phase(
            self.dh, dc, to_c, self.y, self.rstd, self.c, self.rstd_c, c_before, *self.params,
            self.d_gates, self.d_cell, dy, to, t, B,
        )  # fmt: skip

    def sums(self) -> list[Tensor]:
        """Return the gradients of the norms of gates and cell, summed over steps and rows."""
        d, d_c = self.d_gates.flatten(0, 1), self.d_cell.flatten(0, 1)
        return [
            *((q.sum(0, dtype=torch.float32)).view(4, -1) for q in (d * self.y.flatten(0, 1), d)),
            *((q.sum(0)) for q in (d_c * self.c.flatten(0, 1), d_c)),
        ]
