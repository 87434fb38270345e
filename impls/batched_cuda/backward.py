"""The backward sweep over a chunk: one launch, or what is rebuilt at once and then which phase follows which."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..definition import CellNorms, LayerParams
from . import backward_kernels as kernels
from . import tiles
from .backward_sequence import backward_sequence
from .target import NO_MASK, DenseMask, Target, dense, dense_norms


class Weights(NamedTuple):
    """What `steps` reads of a layer, dense, and transposed since its products sum along rows of the gradients."""

    w_h: Tensor  # [H, 4H + 4S]
    w_z: Tensor  # [S, 12Z]
    w_s: Tensor  # [S, 4S]
    w_d_t: Tensor  # [12, Z, H]
    w_d: Tensor  # [12, H, Z]
    bias: Tensor  # [4, H]
    norms: CellNorms
    hyper_norms: CellNorms


class Given(NamedTuple):
    """What `steps` reads of a chunk of K steps, all of it dense."""

    uh: Tensor  # [K, B, 4H + 4S]
    vx: Tensor  # [K, B, 4H + 4S]
    z: Tensor  # [K, B, 12, Z]
    a: Tensor  # [K, B, 4S], the hyper LSTM's gates before their norm
    c_before: Tensor  # [K, B, H]: before each step, and after it
    c_hat_before: Tensor  # [K, B, S]
    c_after: Tensor
    c_hat_after: Tensor
    d_out: Tensor  # [K, B, H]
    dh: Tensor  # [B, *]: of the state after the chunk
    dc: Tensor
    dh_hat: Tensor
    dc_hat: Tensor
    mask: DenseMask  # of g


class Made(NamedTuple):
    """What `steps` writes."""

    d_uh: Tensor  # [K, B, 4H + 4S]: du, then da
    dv: Tensor  # [K, B, 4H]
    dy: Tensor  # [K, B, 4H]
    dz: Tensor  # [K, B, 12Z]
    dc: Tensor  # [B, H] and [B, S]: of the cells before the chunk
    dc_hat: Tensor
    d_norms: list[Tensor]  # of the eight norms in the order of LayerParams; none without layer norm


def weights(p: LayerParams, w_h: Tensor) -> Weights:
    """Return what `steps` reads of a layer, given both LSTMs' weights for h, [4H + 4S, H]."""
    w_d = p.d_weight.flatten(0, 1)
    turned = (w_h.mT, p.z_weight.flatten(0, 2).mT, p.hyper_weight_s.flatten(0, 1).mT, w_d.mT)
    return Weights._make((*map(dense, (*turned, w_d, p.bias)), dense_norms(p.norms), dense_norms(p.hyper_norms)))


def room(uh: Tensor, H: int, S: int, Z: int, normed: bool) -> Made:
    """Return room for what `steps` writes; sums start at 0, which they are over no rows."""
    K, B, _ = uh.shape
    float32 = uh.new_empty(0, dtype=torch.float32)
    deltas = (uh.new_empty(K, B, width) for width in (4 * H + 4 * S, 4 * H, 4 * H, 12 * Z))
    sums = [float32.new_zeros(shape) for F in (H, S) for shape in ((4, F), (4, F), (F,), (F,))] if normed else []
    return Made._make((*deltas, float32.new_empty(B, H), float32.new_empty(B, S), sums))


def steps(target: Target, given: Given, w: Weights, to: Made) -> None:
    """Run K steps back (impls/README.md, Gradient)."""
    H, S, dtype = given.dh.shape[1], given.dh_hat.shape[1], given.uh.dtype
    # Threads hold both factors of a product over a whole step along its sum: numbers of float32 would spill.
    step = 64 if dtype == torch.float32 else 128
    cut = tiles.sequence(H, S, dtype, whole_rows=False, step=step)
    if cut is None:
        _in_phases(target, given, w, to)
    else:
        _in_one_launch(target, cut, given, w, to)


def _in_one_launch(target: Target, cut: tiles.Sequence, given: Given, w: Weights, to: Made) -> None:
    *weights, norms, hyper_norms = w
    *made, sums = to
    (K, B, _), H, S, Z = given.uh.shape, given.dh.shape[1], given.dh_hat.shape[1], given.z.shape[-1]
    left = [Norms(torch.empty_like(to.dy), given.c_after), Norms(given.a, given.c_hat_after)] if sums else []
    (y, *main_room), (_, *hyper_room) = (one.room for one in left) if sums else ([None] * 5, [None] * 5)
    sizes = {"H": H, "S": S, "Z": Z, "ZS": min(cut.depth, tiles.padded(Z)), "NORM": bool(sums)}
    run = target.by_program(backward_sequence, cut, B, **sizes)
    run(*given[:-1], *given.mask, *weights, *norms, *hyper_norms, *made, y, *main_room, *hyper_room, K, B)
    _keep_sums(sums, *left)


def _in_phases(target: Target, given: Given, w: Weights, to: Made) -> None:
    uh, vx, z, a, c_before, c_hat_before, c_after, c_hat_after, d_out, dh, dc, dh_hat, dc_hat, mask = given
    w_h, w_z, w_s, w_d_t, w_d, bias, norms, hyper_norms = w
    d_uh, dv, dy, dz, dc_to, dc_hat_to, sums = to
    (K, B, D), H, S, Z = uh.shape, dh.shape[1], dh_hat.shape[1], z.shape[-1]
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
    rebuild(uh, vx, z, w_d, bias, d_uh, dv, y, K * B)
    if sums:
        main_gradient = NormPhases(target, y, c_after, norms, mask)
        hyper_gradient = NormPhases(target, a, c_hat_after, hyper_norms, NO_MASK)
    else:
        d_uh[..., 4 * H :].copy_(a)

    spare_c, spare_c_hat = ([torch.empty_like(q) for _ in range(2)] for q in (dc_to, dc_hat_to))
    for t in reversed(range(K)):
        to_c, to_c_hat = (spare_c[t % 2], spare_c_hat[t % 2]) if t else (dc_to, dc_hat_to)
        later = t + 1 < K
        if sums:
            main[later](d_out, dh, d_uh, w_h, None, None, None, None, None, *NO_MASK, main_gradient.dh, t, B)
            main_gradient.step(dc, to_c, c_before, dy, d_uh, 0, t)
            embedding(dy, uh, vx, w_d_t, dz, t, B)
            hyper[later](dz, dh_hat, d_uh, w_z, w_s, None, None, None, None, hyper_gradient.dh, t, B)
            hyper_gradient.step(dc_hat, to_c_hat, c_hat_before, None, d_uh, 4 * H, t)
        else:
            main[later](d_out, dh, d_uh, w_h, dc, to_c, dy, c_before, c_after, *mask, None, t, B)
            embedding(dy, uh, vx, w_d_t, dz, t, B)
            hyper[later](dz, dh_hat, d_uh, w_z, w_s, dc_hat, to_c_hat, c_hat_before, c_hat_after, None, t, B)
        dc, dc_hat = to_c, to_c_hat

    dv.mul_(dy)  # it was d_x until here; no step waits for it
    if sums:
        _keep_sums(sums, main_gradient, hyper_gradient)


class Norms:
    """What the layer norms of one LSTM leave of a chunk: its gates y [K, B, 4F] and cell, standardised, and gradients.

    y comes as it is before its norm, and is standardised in place.
    """

    def __init__(self, y: Tensor, c: Tensor) -> None:
        self.y, self.c = y, torch.empty_like(c)
        self.d_gates, self.d_cell, self.dh = torch.empty_like(y), torch.empty_like(c), torch.empty_like(c[0])

    @property
    def room(self) -> list[Tensor]:
        """What a launch of all steps writes, in its order."""
        return [self.y, self.c, self.d_gates, self.d_cell, self.dh]

    def sums(self) -> list[Tensor]:
        """Return the gradients of the norms of gates and cell, summed over steps and rows."""
        d, d_c = self.d_gates.flatten(0, 1), self.d_cell.flatten(0, 1)
        return [
            *((q.sum(0, dtype=torch.float32)).view(4, -1) for q in (d * self.y.flatten(0, 1), d)),
            *((q.sum(0)) for q in (d_c * self.c.flatten(0, 1), d_c)),
        ]


class NormPhases(Norms):
    """The phases of these norms: statistics of all steps at once, then gradients step by step."""

    def __init__(self, target: Target, y: Tensor, c: Tensor, params: CellNorms, mask: DenseMask) -> None:
        super().__init__(y, c)
        (K, B, F), self.params, self.mask, self.target = c.shape, params, mask, target
        self.c.copy_(c)
        self.rstd, self.rstd_c = c.new_empty(K, B, 4), c.new_empty(K, B)
        target.by_row(kernels.normalise, K * B * 4, F)(y, self.rstd)
        target.by_row(kernels.normalise, K * B, F)(self.c, self.rstd_c)

    def step(
        self, dc: Tensor, to_c: Tensor, c_before: Tensor, dy: Tensor | None, to: Tensor, start: int, t: int
    ) -> None:
        """Write the gradients of y_t, to dy and times d_h to `to` from start, or to `to` alone, and that of c_{t-1}."""
        B, F = self.dh.shape
        sizes = {"WIDTH": to.shape[-1], "START": start, "SCALED": dy is not None}
        phase = self.target.by_row(kernels.norm_cell_gradient, B, F, **sizes)
        phase(
            self.dh, dc, to_c, self.y, self.rstd, self.c, self.rstd_c, c_before, *self.mask, *self.params,
            self.d_gates, self.d_cell, dy, to, t, B,
        )  # fmt: skip


def _keep_sums(sums: list[Tensor], *norms: Norms) -> None:
    for total, found in zip(sums, (q for one in norms for q in one.sums()), strict=True):
        total.copy_(found)
