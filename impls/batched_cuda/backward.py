"""The backward pass: two launches per chunk of steps, and the products over all its tokens before and after them."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..definition import NORM_NAMES, Inputs, LayerParams, LayerState, hidden_weight, shapes, tokens
from ..gradient.backward import before
from ..gradient.chunks import NUMBERS, Stretch, bounds, limits, stretches
from ..gradient.interface import Saved
from . import launching, split
from .backward_kernel import backward_steps, rebuild
from .layout import Dims, dense, joined_input_weight, layer, masks, narrow, room, states, steps, wide
from .split import Card, Sizes, Split


class _Pass(NamedTuple):
    """What all chunks of a pass share."""

    p: LayerParams  # as the kernels read it
    d: Dims
    sizes: Sizes
    cut: Split
    w_x: Tensor  # [I, 4H + 4S]
    state: Tensor  # of `backward_steps`
    inputs: Inputs
    saved: Saved
    d_out: Tensor


class _Chunk(NamedTuple):
    """What the kernels leave of a chunk of steps for the large products; transposed, where these read it so."""

    x: Tensor  # [N, I]
    d_uh: Tensor  # [4H + 4S, N]: du and da
    d_vx: Tensor  # [4H + 4S, N]: dv and da
    dd: Tensor  # [12, H, N]: dy u, dy v and dy, the gradients of the twelve d
    z: Tensor  # [12, N, Z]
    h: Tensor  # [N, H], before each step
    h_hat_before: Tensor  # [4, N, S], four times the same
    h_hat: Tensor  # [N, S], after each step


def backward(
    p: LayerParams,
    inputs: Inputs,
    saved: Saved,
    d_out: Tensor,
    d_last: Sequence[Tensor | None],
    needed: Collection[str],
) -> Mapping[str, Tensor]:
    """Go back over a sequence chunk by chunk."""
    like = p._asdict() | inputs.start._asdict()
    if not inputs.x.numel():
        return {name: torch.zeros_like(q) for name, q in (like | {"x": inputs.x}).items() if name in needed}
    (d, own), B, totals = layer(p), len(inputs.start.h), dict[str, Tensor]()
    sizes = d.sizes(B, inputs.x.dtype)
    cut = split.backward(sizes, Card.of(inputs.x.device))
    chunks = stretches(bounds(limits(inputs.x.device).backward, NUMBERS, p, inputs), inputs.batch_sizes)
    most = max(s.at.stop - s.at.start for s in chunks) * (1 if inputs.batch_sizes else B)
    state = _state(d, cut, d_last, saved.states.c, B, most)
    shared = _Pass(own, d, sizes, cut, joined_input_weight(own), state, inputs, saved, d_out)
    d_x = inputs.x.new_empty(inputs.x.shape) if "x" in needed else None
    for s in reversed(chunks):
        chunk = _swept(shared, s)
        for name, gradient in _gradients(d, own, chunk, needed).items():
            # A sum of rounded parts is rounded once more.
            totals[name] = totals[name].to(state.dtype) + gradient if name in totals else gradient
        if d_x is not None:
            torch.mm(chunk.d_vx.T, shared.w_x.T, out=tokens(_at(d_x, s)))
    if d.NORM and any(name in needed for name in NORM_NAMES):
        totals |= _norm_gradients(d, cut, state, B, inputs.x.dtype)
    if any(name in needed for name in LayerState._fields):
        h = state[: 4 * B * (d.H + d.S)].view(4, B, -1).sum(0)
        totals |= _views(d, state, B)._replace(h=h[:, : d.H], h_hat=h[:, d.H :])._asdict()
    found = {name: narrow(totals[name], q.shape) for name, q in like.items() if name in needed}
    return found if d_x is None else found | {"x": d_x}


def _state(d: Dims, cut: Split, d_last: Sequence[Tensor | None], like: Tensor, B: int, most: int) -> Tensor:
    """What `backward_steps` takes from step to step, with the gradient of the last state.

    most: tokens of a chunk.
    """
    wide_row, rows = d.H + d.S, 5 * B
    state = like.new_zeros(rows * wide_row + (_tiles(cut) * 10 * wide_row + most * 10 if d.NORM else 0))
    if any(q is not None for q in d_last):
        for q, to in zip(d_last, _views(d, state, B), strict=True):
            if q is not None:
                to[:, : q.shape[1]] = q
    return state


def _tiles(cut: Split) -> int:
    return cut.groups * cut.rows // split.TILE


def _views(d: Dims, state: Tensor, B: int) -> LayerState:
    """The first part of the gradient of h and of h_hat, and those of the cells."""
    H, S = d.H, d.S
    h, h_hat = (state.as_strided((B, F), (H + S, 1), offset) for F, offset in ((H, 0), (S, H)))
    c = state.as_strided((B, H), (H, 1), 4 * B * (H + S))
    return LayerState(h, c, h_hat, state.as_strided((B, S), (S, 1), 4 * B * (H + S) + B * H))


def _norm_gradients(d: Dims, cut: Split, state: Tensor, B: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The gradients of the norms: sums over tiles of rows."""
    W, named = 10 * (d.H + d.S), shapes(1, d.H, d.S, d.Z, layer_norm=True)
    sums = state.as_strided((_tiles(cut), W), (W, 1), 5 * B * (d.H + d.S)).sum(0).to(dtype)
    wanted = [named[name] for name in NORM_NAMES]
    parts = sums.split([torch.Size(shape).numel() for shape in wanted])
    return {
        name: part if len(shape) == 1 else part.view(shape)
        for name, part, shape in zip(NORM_NAMES, parts, wanted, strict=True)
    }


def _at(q: Tensor, s: Stretch) -> Tensor:
    """Some steps of an array; the array itself if it has no others."""
    return q if s.at == slice(0, len(q)) else q[s.at]


def _swept(shared: _Pass, s: Stretch) -> _Chunk:
    """Run both kernels over a chunk."""
    p, d, sizes, cut, w_x, state, inputs, saved, d_out = shared
    x, d_out, B, (H, S, Z) = tokens(_at(inputs.x, s)), _at(d_out, s), sizes.B, (d.H, d.S, d.Z)
    # The states before a chunk are those after the step before it.
    t = s.steps.start
    lead = 0 if t == 0 else inputs.batch_sizes[t - 1] if s.batch_sizes else B
    further = s._replace(at=slice(s.at.start - (lead if s.batch_sizes else t > 0), s.at.stop))
    h, c, h_hat, c_hat = states(LayerState._make(_at(q, further) for q in saved.states), d)
    N, K, D = len(x), s.steps.stop - s.steps.start, 4 * H + 4 * S
    vx, uh = torch.mm(x, w_x), _uh(d, p, inputs, saved, s)
    # Written by rows of tokens; the products read most of them turned, and h_hat once for each gate.
    d_uh, d_vx = (x.new_empty_strided((D, N), (1, D)) for _ in range(2))
    dd, z = x.new_empty_strided((12, H, N), (H, 1, 12 * H)), x.new_empty_strided((12, N, Z), (Z, 12 * Z, 1))
    h_before, h_hat_before = x.new_empty(N, H), x.new_empty_strided((4, N, S), (0, S, 1))
    numbers = B * (4 * H + cut.shares * S + 4 * S) + cut.programs * split.TILE * 12 * Z
    if d.NORM:
        numbers += -(-H // cut.units) * B * 10
    of_tiles = d.constants(sizes, cut)
    taken = ("H", "HN", "S", "Z", "NORM", "ROWS", "DEPTH", "UNITS", "GATES", "SPAN", "PRECISION")
    launching.start(
        rebuild,
        -(-N // split.TILE),
        (h_hat, uh, vx, c, p.z_weight, p.z_bias, p.d_weight, p.bias, z, d_uh, d_vx, dd, state, lead, N, B),
        {name: of_tiles[name] for name in (*taken, "num_warps", "num_stages")} | {"ZS": split.of_z(sizes, cut.depth)},
    )
    launching.start(
        backward_steps,
        cut.programs,
        (
            h, c, h_hat, c_hat, *states(inputs.start, d), uh, vx,
            dense(wide(d_out, (*d_out.shape[:-1], H))),
            p.weight_h, p.hyper_weight_h, p.hyper_weight_s, p.z_weight, p.d_weight, p.hyper_bias,
            *p.norms, *p.hyper_norms,
            *masks(inputs.mask and inputs.mask._replace(kept=_at(inputs.mask.kept, s)), H),
            steps(s.batch_sizes, B, x.device),
            d_uh, d_vx, dd, h_before, h_hat_before, state, room(cut, numbers, x), lead, K, B, cut.members,
        ),
        of_tiles | {"ZN": split.of_z(sizes, 1 << 30)},
        cooperative=not cut.alone,
    )  # fmt: skip
    return _Chunk(x, d_uh, d_vx, dd, z, h_before, h_hat_before, tokens(h_hat)[lead:] if lead else tokens(h_hat))


def _uh(d: Dims, p: LayerParams, inputs: Inputs, saved: Saved, s: Stretch) -> Tensor:
    """[u, a], [N, 4H + 4S], without a's part of x: the residuals, or recomputed."""
    if saved.residuals is not None:
        return _at(saved.residuals, s)
    h, _, h_hat, _ = map(tokens, states(before(inputs, saved, s), d))
    uh = torch.mm(h, hidden_weight(p).T)
    uh[:, 4 * d.H :].addmm_(h_hat, p.hyper_weight_s.flatten(0, 1).T)
    return uh


def _gradients(d: Dims, p: LayerParams, chunk: _Chunk, needed: Collection[str]) -> dict[str, Tensor]:
    """Gradients of the parameters that need one but the norms', summed over a chunk: products over its tokens."""
    H, S, Z, found = d.H, d.S, d.Z, dict[str, Tensor]()

    def need(*names: str) -> bool:
        return any(name in needed for name in names)

    for name, d_sums, values in (("weight_x", chunk.d_vx, chunk.x), ("weight_h", chunk.d_uh, chunk.h)):
        if need(name, f"hyper_{name}"):
            both, G = torch.mm(d_sums, values), values.shape[1]  # [4H + 4S, G]
            found[name] = both.as_strided((4, H, G), (H * G, G, 1))
            found[f"hyper_{name}"] = both.as_strided((4, S, G), (S * G, G, 1), 4 * H * G)
    if need("z_weight", "z_bias"):
        dz = torch.bmm(p.d_weight.as_strided((12, Z, H), (H * Z, 1, Z)), chunk.dd)  # [12, Z, N]
        found["z_weight"] = torch.mm(dz.view(12 * Z, -1), chunk.h_hat).view(3, 4, Z, S)
        found["z_bias"] = dz.sum(2).as_strided((2, 4, Z), (4 * Z, Z, 1))  # z_b has none
    if need("d_weight"):
        found["d_weight"] = torch.bmm(chunk.dd, chunk.z).view(3, 4, H, Z)
    if need("bias"):
        found["bias"] = chunk.dd[8:].sum(2)
    if need("hyper_weight_s", "hyper_bias"):
        da = chunk.d_uh.as_strided((4, S, chunk.d_uh.shape[1]), (S, 1, 4 * (H + S)), 4 * H)
        found["hyper_weight_s"] = torch.bmm(da, chunk.h_hat_before)
        found["hyper_bias"] = da.sum(2)
    return {name: q for name, q in found.items() if name in needed}
