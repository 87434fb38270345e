"""The backward pass: two launches per chunk of steps, and the products over all its tokens before and after them."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..definition import NORM_NAMES, LayerParams, LayerState, hidden_weight, input_weight, shapes, tokens
from ..gradient.backward import before
from ..gradient.chunks import Stretch, bounds, limits, stretches
from ..gradient.interface import Inputs, Saved
from . import launching, split
from .backward_kernel import backward_steps, rebuild
from .layout import Dims, Steps, counters, dense, layer, masks, narrow, own_copy, states, wide
from .split import Card

#: What the arrays of one chunk take per number of the output.
_NUMBERS = 40


class StateGradient(NamedTuple):
    """The gradient of the states between two steps, which the kernel takes from step to step in place."""

    h: Tensor  # [4, B, H + S], of h and h_hat: the sum of four parts, one of each gate
    c: Tensor  # [B, H]
    c_hat: Tensor  # [B, S]

    @classmethod
    def of(cls, d_last: Sequence[Tensor | None], d: Dims, like: Tensor) -> "StateGradient":
        """That of the last state; zeros where there is none."""
        B = len(like)
        parts = like.new_zeros(4, B, d.H + d.S)
        for of_h, q in ((0, d_last[0]), (d.H, d_last[2])):
            if q is not None:
                parts[0, :, of_h : of_h + q.shape[1]] = q
        cells = [
            like.new_zeros(B, F) if q is None else own_copy(wide(q, (B, F)), like.dtype)
            for q, F in ((d_last[1], d.H), (d_last[3], d.S))
        ]
        return cls(parts, *cells)

    def of_state(self, H: int) -> list[Tensor]:
        """The gradients of h, c, h_hat and c_hat."""
        h = self.h.sum(0)
        return [h[:, :H], self.c, h[:, H:], self.c_hat]


class Chunk(NamedTuple):
    """What the kernels leave of a chunk of steps for the large products."""

    x: Tensor  # [N, I]
    d_uh: Tensor  # [N, 4H + 4S]: du and da
    d_vx: Tensor  # [N, 4H + 4S]: dv and da
    dd: Tensor  # [N, 12, H]: dy u, dy v and dy, the gradients of the twelve d
    z: Tensor  # [N, 12, Z]
    h: Tensor  # [N, H], before each step
    h_hat_before: Tensor  # [N, S]
    h_hat: Tensor  # [N, S], after it
    norms: Tensor | None  # [10H + 10S], see `backward_steps`


def backward(
    p: LayerParams,
    inputs: Inputs,
    saved: Saved,
    d_out: Tensor,
    d_last: Sequence[Tensor | None],
    needed: Collection[str],
) -> Mapping[str, Tensor]:
    """Go back over a sequence chunk by chunk."""
    (d, own), cell = layer(p), saved.states.c
    between, totals = StateGradient.of(d_last, d, cell.new_empty(len(inputs.start.h), 0)), dict[str, Tensor]()
    w_x, d_x = input_weight(own), inputs.x.new_empty(inputs.x.shape) if "x" in needed else None
    cut = bounds(limits(inputs.x.device).backward, _NUMBERS, p, inputs) if inputs.x.numel() else []
    for steps in reversed(stretches(cut, inputs.batch_sizes)):
        chunk = _swept(d, own, w_x, inputs, saved, d_out, between, steps)
        for name, gradient in _gradients(d, p, chunk, needed).items():
            # A sum of rounded parts is rounded once more.
            totals[name] = totals[name].to(cell.dtype) + gradient if name in totals else gradient
        if d_x is not None:
            torch.mm(chunk.d_vx, w_x, out=tokens(_at(d_x, steps)))
    if any(name in needed for name in LayerState._fields):
        named = zip(LayerState._fields, between.of_state(d.H), inputs.start, strict=True)
        totals |= {name: narrow(q, start.shape) for name, q, start in named}
    if not inputs.x.numel():
        totals |= {name: torch.zeros_like(q) for name, q in p._asdict().items() if name in needed}
    return totals if d_x is None else totals | {"x": d_x}


def _at(q: Tensor, steps: Stretch) -> Tensor:
    """Some steps of an array; the array itself if it has no others."""
    return q if steps.at == slice(0, len(q)) else q[steps.at]


def _swept(
    d: Dims,
    p: LayerParams,
    w_x: Tensor,
    inputs: Inputs,
    saved: Saved,
    d_out: Tensor,
    between: StateGradient,
    s: Stretch,
) -> Chunk:
    """Run both kernels over a chunk."""
    x, d_out, B = tokens(_at(inputs.x, s)), _at(d_out, s), len(between.c)
    after = states(LayerState._make(_at(q, s) for q in saved.states), d)
    h, c, h_hat, c_hat = after
    N, K, D = len(x), s.steps.stop - s.steps.start, 4 * d.H + 4 * d.S
    sizes = d.sizes(B, x.dtype)
    cut = split.backward(sizes, Card.of(x.device))
    vx, uh = torch.mm(x, w_x.T), _uh(d, p, inputs, saved, s)
    d_uh, d_vx, dd, z = (x.new_empty(N, *F) for F in ((D,), (D,), (12, d.H), (12, d.Z)))
    h_before, h_hat_before = x.new_empty(N, d.H), x.new_empty(N, d.S)
    dys, hat_parts = c.new_empty(B, 4 * d.H), c.new_empty(cut.shares, B, d.S)
    stats = hat_dys = row_sums = totals = None
    if d.NORM:
        stats, hat_dys = c.new_empty(N, 10), c.new_empty(B, 4 * d.S)
        row_sums = c.new_empty(-(-d.H // cut.units), B, 10)
        totals = c.new_zeros(cut.groups * cut.rows // split.TILE, 10 * (d.H + d.S))
    of_tiles = d.constants(sizes, cut)
    taken = ("H", "HN", "S", "Z", "NORM", "DEPTH", "UNITS", "GATES", "SPAN", "PRECISION", "num_warps", "num_stages")
    launching.start(
        rebuild,
        -(-N // split.TILE),
        (h_hat, uh, vx, c, p.z_weight, p.z_bias, p.d_weight, p.bias, z, d_uh, d_vx, dd, stats, N),
        {name: of_tiles[name] for name in taken} | {"ZS": split.of_z(sizes, cut.depth)},
    )
    launching.start(
        backward_steps,
        cut.programs,
        (
            h, c, h_hat, c_hat, *_first(d, inputs, saved, s, after), uh, vx,
            dense(wide(d_out, (*d_out.shape[:-1], d.H))), stats,
            p.weight_h, p.hyper_weight_h, p.hyper_weight_s, p.z_weight, p.d_weight, p.hyper_bias,
            *p.norms, *p.hyper_norms,
            *masks(inputs.mask and inputs.mask._replace(kept=_at(inputs.mask.kept, s)), d.H),
            *Steps.of(s.batch_sizes, B, x.device),
            d_uh, d_vx, dd, h_before, h_hat_before, *between, totals, dys, hat_dys, hat_parts, row_sums,
            x.new_empty(cut.programs, split.TILE, 12 * d.Z), counters(cut, x), K, B, cut.members,
        ),
        of_tiles | {"ZN": split.of_z(sizes, 1 << 30)},
        cooperative=not cut.alone,
    )  # fmt: skip
    norms = None if totals is None else totals.sum(0).to(x.dtype)
    return Chunk(x, d_uh, d_vx, dd, z, h_before, h_hat_before, tokens(h_hat), norms)


def _uh(d: Dims, p: LayerParams, inputs: Inputs, saved: Saved, steps: Stretch) -> Tensor:
    """[u, a], [N, 4H + 4S], without a's part of x: the residuals, or recomputed."""
    if saved.residuals is not None:
        return _at(saved.residuals, steps)
    h, _, h_hat, _ = map(tokens, states(before(inputs, saved, steps), d))
    uh = torch.mm(h, hidden_weight(p).T)
    uh[:, 4 * d.H :].addmm_(h_hat, p.hyper_weight_s.flatten(0, 1).T)
    return uh


def _first(d: Dims, inputs: Inputs, saved: Saved, steps: Stretch, after: Sequence[Tensor]) -> list[Tensor]:
    """The states that the first step of a chunk starts from, [B, *]; of packed sequences, of the rows there."""
    t, at = steps.steps.start, steps.at.start
    if t == 0:
        return states(LayerState._make(q.to(kept.dtype) for q, kept in zip(inputs.start, after, strict=True)), d)
    step = slice(at - inputs.batch_sizes[t - 1], at) if steps.batch_sizes else slice(t - 1, t)
    return states(LayerState._make(q[step] for q in saved.states), d)


def _gradients(d: Dims, p: LayerParams, chunk: Chunk, needed: Collection[str]) -> dict[str, Tensor]:
    """Gradients of the parameters of p that need one, summed over a chunk: products over its tokens."""
    H, S, Z, found = d.H, d.S, d.Z, dict[str, Tensor]()

    def need(*names: str) -> bool:
        return any(name in needed for name in names)

    for name, d_sums, values in (("weight_x", chunk.d_vx, chunk.x), ("weight_h", chunk.d_uh, chunk.h)):
        if need(name, f"hyper_{name}"):
            both = torch.mm(d_sums.T, values)  # [4H + 4S, *]
            found |= _parts(both, {name: (4, H, both.shape[1]), f"hyper_{name}": (4, S, both.shape[1])})
    by_d = chunk.dd.permute(1, 2, 0) if need("z_weight", "z_bias", "d_weight") else chunk.dd  # [12, H, N]
    if need("z_weight", "z_bias"):
        w_d = wide(p.d_weight, (3, 4, H, Z)).view(12, H, Z)
        dz = torch.bmm(w_d.mT, by_d).view(12 * Z, -1)
        found["z_weight"] = torch.mm(dz, chunk.h_hat).view(3, 4, Z, S)
        found["z_bias"] = dz[: 8 * Z].sum(1).view(2, 4, Z)
    if need("d_weight"):
        found["d_weight"] = torch.bmm(by_d, chunk.z.transpose(0, 1)).view(3, 4, H, Z)
    if need("bias"):
        found["bias"] = chunk.dd[:, 8:].sum(0)
    if need("hyper_weight_s", "hyper_bias"):
        da = chunk.d_uh[:, 4 * H :]
        found["hyper_weight_s"] = torch.mm(da.T, chunk.h_hat_before).view(4, S, S)
        found["hyper_bias"] = da.sum(0).view(4, S)
    if chunk.norms is not None and need(*NORM_NAMES):
        named = shapes(1, H, S, Z, layer_norm=True)
        found |= _parts(chunk.norms, {name: named[name] for name in NORM_NAMES})
    return {name: narrow(q, getattr(p, name).shape) for name, q in found.items() if name in needed}


def _parts(of: Tensor, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Arrays one behind the other in the memory of a tensor, one view each."""
    found, offset = dict[str, Tensor](), 0
    for name, shape in shapes.items():
        strides = [1]
        for size in shape[:0:-1]:
            strides.insert(0, strides[0] * size)
        found[name] = of.as_strided(shape, strides, offset)
        offset += shape[0] * strides[0]
    return found
