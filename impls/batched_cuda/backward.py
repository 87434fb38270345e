"""The backward pass: two launches for each chunk of steps, and the products over all its tokens around them."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..definition import NORM_NAMES, LayerParams, LayerState, hidden_weight, input_weight, tokens
from ..gradient.backward import before
from ..gradient.chunks import Stretch, bounds, limits, stretches
from ..gradient.interface import Past
from . import launching, split
from .backward_kernel import backward_steps, rebuild
from .layout import Dims, Steps, counters, dense, layer, masks, narrow, room, states, wide
from .split import Card

#: What the arrays of one chunk take for each number of the output.
_NUMBERS = 40


class Carried(NamedTuple):
    """The gradient of the states between two steps, which the kernel takes from step to step in place."""

    h: Tensor  # [4, B, H + S], of h and h_hat: the sum of four parts, one of each gate
    c: Tensor  # [B, H]
    c_hat: Tensor  # [B, S]


class Chunk(NamedTuple):
    """What the kernels leave of a chunk of steps to the large products."""

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
    p: LayerParams, wanted: Collection[str], past: Past, carried: LayerState, d_x: Tensor | None
) -> tuple[Mapping[str, Tensor], LayerState]:
    """Go back over a sequence chunk by chunk."""
    (d, own), T, B = layer(p), len(past.batch_sizes or past.x), len(carried.h)
    w_x, dh, dc, dh_hat, dc_hat = input_weight(own), *states(carried, d)
    parts = dc.new_zeros(4, B, d.H + d.S)
    parts[0, :, : d.H], parts[0, :, d.H :] = dh, dh_hat
    between, totals = Carried(parts, dc.clone(), dc_hat.clone()), dict[str, Tensor]()
    cut = bounds(limits(past.x.device).backward, _NUMBERS, p, T, B, batch_sizes=past.batch_sizes)
    for part in reversed(stretches(cut, past.batch_sizes)):
        if not past.x.numel():
            break
        chunk = _swept(d, own, w_x, past, between, part)
        for name, gradient in _gradients(d, p, chunk, wanted).items():
            # A sum of rounded parts is rounded once more.
            totals[name] = totals[name].to(dc.dtype) + gradient if name in totals else gradient
        if d_x is not None:
            torch.mm(chunk.d_vx, w_x, out=tokens(d_x[part.at]))
    h = parts.sum(0)
    first = h[:, : d.H], between.c, h[:, d.H :], between.c_hat
    zero = {name: torch.zeros_like(getattr(p, name)) for name in wanted if name not in totals}
    return totals | zero, LayerState._make(narrow(q, c.shape) for q, c in zip(first, carried, strict=True))


def _swept(d: Dims, p: LayerParams, w_x: Tensor, past: Past, carried: Carried, part: Stretch) -> Chunk:
    """Run both kernels over a chunk."""
    at, B, x = part.at, len(carried.c), tokens(past.x[part.at])
    after = states(LayerState._make(q[at] for q in past.trajectory), d)
    h, c, h_hat, c_hat = after
    N, K, D = len(x), len(range(*part.steps.indices(1 << 62))), 4 * d.H + 4 * d.S
    sizes = d.sizes(B, x.dtype)
    cut = split.backward(sizes, Card.of(x.device))
    steps, (kept, scale) = Steps.of(part.batch_sizes, B, x.device), masks(past.mask and past.mask.part(at), d.H)
    d_out, vx, uh = dense(wide(tokens(past.d_out[at]), (N, d.H))), torch.mm(x, w_x.T), _uh(d, p, past, part)
    widths = D, D, 12 * d.H, d.H, d.S, 12 * d.Z  # z comes last, since its rows need not be aligned
    d_uh, d_vx, dd, h_before, h_hat_before, z = room(x, *((N, width) for width in widths))
    of_tiles = d.constants(sizes, cut)
    tiles, parts, of_norms = -(-d.H // cut.units), cut.groups * cut.rows // split.TILE, int(d.NORM)
    dys, hat_parts, hat_dys, row_sums, stats = room(
        c, (B, 4 * d.H), (cut.shares, B, d.S), (of_norms * B, 4 * d.S), (of_norms * tiles, B, 10), (of_norms * N, 10)
    )
    ZS, ZN = split.of_z(sizes, cut.depth), split.of_z(sizes, 1 << 30)
    taken = ("H", "HN", "S", "Z", "NORM", "DEPTH", "UNITS", "GATES", "SPAN", "PRECISION", "num_warps", "num_stages")
    launching.start(
        rebuild,
        -(-N // split.TILE),
        (h_hat, uh, vx, c, p.z_weight, p.z_bias, p.d_weight, p.bias, z, d_uh, d_vx, dd, stats, N),
        {name: of_tiles[name] for name in taken} | {"ZS": ZS},
    )
    totals = c.new_zeros(parts, 10 * (d.H + d.S)) if d.NORM else None
    own_z = x.new_empty(cut.programs, split.TILE, 12 * d.Z)
    launching.start(
        backward_steps,
        cut.programs,
        (
            h, c, h_hat, c_hat, *_first(d, past, part, after), uh, vx, d_out, stats,
            p.weight_h, p.hyper_weight_h, p.hyper_weight_s, p.z_weight, p.d_weight, p.hyper_bias,
            *p.norms, *p.hyper_norms, kept, scale, *steps,
            d_uh, d_vx, dd, h_before, h_hat_before, *carried, totals, dys, hat_dys, hat_parts, row_sums, own_z,
            counters(cut, x), K, B, cut.members,
        ),
        of_tiles | {"ZN": ZN},
        meets=not cut.alone,
    )  # fmt: skip
    norms = None if totals is None else totals.sum(0).to(x.dtype)
    return Chunk(x, d_uh, d_vx, dd.view(N, 12, d.H), z.view(N, 12, d.Z), h_before, h_hat_before, h_hat, norms)


def _uh(d: Dims, p: LayerParams, past: Past, part: Stretch) -> Tensor:
    """Return [u, a], [N, 4H + 4S], without a's part of x: what the forward pass kept, or made again."""
    if past.residuals is not None:
        return tokens(past.residuals[part.at])
    h, _, h_hat, _ = states(before(past, part), d)
    uh = torch.mm(h, hidden_weight(p).T)
    uh[:, 4 * d.H :].addmm_(h_hat, p.hyper_weight_s.flatten(0, 1).T)
    return uh


def _first(d: Dims, past: Past, part: Stretch, after: list[Tensor]) -> list[Tensor]:
    """Return the states that the first step of a chunk starts from, [B, *]; of packed sequences, of the rows there."""
    t = part.steps.start
    if t == 0:
        return states(LayerState._make(q.to(kept.dtype) for q, kept in zip(past.start, after, strict=True)), d)
    step = slice(part.at.start - past.batch_sizes[t - 1], part.at.start) if part.batch_sizes else slice(t - 1, t)
    return states(LayerState._make(q[step] for q in past.trajectory), d)


def _gradients(d: Dims, p: LayerParams, chunk: Chunk, wanted: Collection[str]) -> dict[str, Tensor]:
    """Return the gradients of those parameters of p that are wanted, summed over a chunk: products over its tokens."""
    H, S, Z = d.H, d.S, d.Z
    da, found = chunk.d_uh[:, 4 * H :], dict[str, Tensor]()

    def has(*names: str) -> bool:
        return any(name in wanted for name in names)

    def both(name: str, d_sums: Tensor, values: Tensor) -> None:
        if has(name, f"hyper_{name}"):
            main, hyper = torch.mm(d_sums.T, values).split([4 * H, 4 * S])
            found.update({name: main.view(4, H, -1), f"hyper_{name}": hyper.view(4, S, -1)})

    both("weight_x", chunk.d_vx, chunk.x)
    both("weight_h", chunk.d_uh, chunk.h)
    if has("z_weight", "z_bias"):
        dz = torch.bmm(wide(p.d_weight, (3, 4, H, Z)).view(12, H, Z).mT, chunk.dd.permute(1, 2, 0)).view(12 * Z, -1)
        found["z_weight"] = torch.mm(dz, chunk.h_hat).view(3, 4, Z, S)
        found["z_bias"] = dz[: 8 * Z].sum(1).view(2, 4, Z)
    of_one: dict[str, Callable[[], Tensor]] = {
        "hyper_weight_s": lambda: torch.mm(da.T, chunk.h_hat_before).view(4, S, S),
        "d_weight": lambda: torch.bmm(chunk.dd.permute(1, 2, 0), chunk.z.transpose(0, 1)).view(3, 4, H, Z),
        "bias": lambda: chunk.dd[:, 8:].sum(0),
        "hyper_bias": lambda: da.sum(0).view(4, S),
    }
    found |= {name: make() for name, make in of_one.items() if name in wanted}
    if chunk.norms is not None and has(*NORM_NAMES):
        found |= dict(zip(NORM_NAMES, chunk.norms.split([4 * H, 4 * H, H, H, 4 * S, 4 * S, S, S]), strict=True))
        found |= {name: found[name].view(4, -1) for name in NORM_NAMES if "_c_" not in name}
    return {name: narrow(found[name], getattr(p, name).shape) for name in wanted}
