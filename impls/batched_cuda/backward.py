"""The backward pass: two launches per chunk of steps, and the products over all its tokens before and after them."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..definition import NORM_NAMES, Inputs, LayerParams, LayerState, hidden_weight, shapes, tokens
from ..gradient.chunks import NUMBERS, Chunk, bounds, in_chunks
from ..gradient.operator import Saved
from . import launching, scratch, split
from .backward_kernel import backward_steps, rebuild
from .layout import Dims, dense, joined_input_weight, layer, masks, mm_float32, narrow, pad, room, states, steps
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


class _Operands(NamedTuple):
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
    chunks = in_chunks(bounds(saved.limits.backward, NUMBERS, p, inputs), inputs.batch_sizes)
    state = _state(d, cut, d_last, saved.states.c, B)
    shared = _Pass(own, d, sizes, cut, joined_input_weight(own), state, inputs, saved, d_out)
    d_x = inputs.x.new_empty(inputs.x.shape) if "x" in needed else None
    for chunk in reversed(chunks):
        operands = _swept(shared, chunk)
        for name, gradient in _gradients(d, own, operands, needed).items():
            # A sum of rounded parts is rounded once more.
            totals[name] = totals[name].to(state.dtype) + gradient if name in totals else gradient
        if d_x is not None:
            torch.mm(operands.d_vx.T, shared.w_x.T, out=tokens(_at(d_x, chunk)))
    if d.NORM and any(name in needed for name in NORM_NAMES):
        totals |= _norm_gradients(d, cut, state, B, inputs.x.dtype)
    if any(name in needed for name in LayerState._fields):
        h = state[: 4 * B * (d.H + d.S)].view(4, B, -1).sum(0)
        totals |= _views(d, state, B)._replace(h=h[:, : d.H], h_hat=h[:, d.H :])._asdict()
    found = {name: narrow(totals[name], q.shape) for name, q in like.items() if name in needed}
    return found if d_x is None else found | {"x": d_x}


def _state(d: Dims, cut: Split, d_last: Sequence[Tensor | None], like: Tensor, B: int) -> Tensor:
    """What `backward_steps` takes from step to step, with the gradient of the last state."""
    state = like.new_zeros(_begins(d, B, _jobs(cut))["end"])
    if any(q is not None for q in d_last):
        for q, to in zip(d_last, _views(d, state, B), strict=True):
            if q is not None:
                to[:, : q.shape[1]] = q
    return state


def _jobs(cut: Split) -> int:
    """Jobs of the hyper LSTM in a step, each with sums of its own for the gradients of the norms."""
    return cut.groups * cut.rows // cut.some


def _views(d: Dims, state: Tensor, B: int) -> LayerState:
    """The first part of the gradient of h and of h_hat, and those of the cells."""
    H, S = d.H, d.S
    at = _begins(d, B)
    h, h_hat = (state.as_strided((B, F), (H + S, 1), at["parts"] + first) for F, first in ((H, 0), (S, H)))
    c, c_hat = (state.as_strided((B, F), (F, 1), at[name]) for F, name in ((H, "dc"), (S, "dc_hat")))
    return LayerState(h, c, h_hat, c_hat)


def _begins(d: Dims, B: int, jobs: int = 0) -> dict[str, int]:
    """Where each array of the state begins, and where the last one ends."""
    return scratch.begins(scratch.backward_state(d.H, d.S, d.NORM), row=B, gate=4 * B, job=jobs)


def _norm_gradients(d: Dims, cut: Split, state: Tensor, B: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The gradients of the norms: sums over tiles of rows."""
    W, named = scratch.NORMS * (d.H + d.S), shapes(1, d.H, d.S, d.Z, layer_norm=True)
    sums = state.as_strided((_jobs(cut), W), (W, 1), _begins(d, B)["totals"]).sum(0).to(dtype)
    wanted = [named[name] for name in NORM_NAMES]
    parts = sums.split([torch.Size(shape).numel() for shape in wanted])
    return {
        name: part if len(shape) == 1 else part.view(shape)
        for name, part, shape in zip(NORM_NAMES, parts, wanted, strict=True)
    }


def _at(q: Tensor, chunk: Chunk) -> Tensor:
    """The steps of a chunk in an array; the array itself if it has no others."""
    return q if chunk.at == slice(0, len(q)) else q[chunk.at]


def _swept(shared: _Pass, chunk: Chunk) -> _Operands:
    """Run both kernels over a chunk."""
    p, d, cut, inputs, state = shared.p, shared.d, shared.cut, shared.inputs, shared.state
    x, d_out, B, (H, S, Z) = tokens(_at(inputs.x, chunk)), _at(shared.d_out, chunk), shared.sizes.B, (d.H, d.S, d.Z)
    h, c, h_hat, c_hat, lead = _states(d, inputs, shared.saved, chunk)
    firsts = steps(chunk.batch_sizes, B, x.device)
    N, K, D = len(x), chunk.steps.stop - chunk.steps.start, 4 * H + 4 * S
    if firsts is not None:
        at = _one_step_earlier(lead, firsts[: K + 1], N)
        h_before, h_hat_before = h.index_select(0, at), h_hat.index_select(0, at)
    else:
        h_before, h_hat_before = h[:N], h_hat[:N]
    # Written by rows of tokens; the products read most of them transposed.
    d_uh, d_vx = (x.new_empty_strided((D, N), (1, D)) for _ in range(2))
    dd, z = x.new_empty_strided((12, H, N), (H, 1, 12 * H)), x.new_empty_strided((12, N, Z), (Z, 12 * Z, 1))
    table = scratch.backward_room(H, S, Z, d.NORM, cut.units, cut.shares)
    numbers = scratch.begins(table, row=B, program=cut.programs)["end"]
    values = {
        "h_hat": h_hat, "c": c, "c_hat": c_hat, "lead": lead, "firsts": firsts,
        "N": N, "K": K, "B": B, "members": cut.members, "state": state, "room": room(cut, numbers, x),
        "uh": _uh(p, shared.saved, chunk, h_before, h_hat_before), "vx": mm_float32(x, shared.w_x),
        "d_uh": d_uh, "d_vx": d_vx, "dd": dd, "z": z, "stats": state.new_empty(N, scratch.MOMENTS) if d.NORM else None,
        "d_out": dense(pad(d_out, (*d_out.shape[:-1], H))),
    }  # fmt: skip
    values |= p._asdict() | masks(inputs.mask and inputs.mask._replace(kept=_at(inputs.mask.kept, chunk)), H)
    values |= d.constants(shared.sizes, cut)
    options = split.options(cut)
    launching.start(rebuild, -(-N // split.TILE), values, x.device, **options | {"launch_cooperative_grid": False})
    launching.start(backward_steps, cut.programs, values, x.device, **options)
    return _Operands(x, d_uh, d_vx, dd, z, h_before, h_hat_before.expand(4, N, S), h_hat[lead:])


def _states(d: Dims, inputs: Inputs, saved: Saved, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """The states after each step, [*, F] each, behind those before the first step, and how many rows the latter are."""
    t, packed = chunk.steps.start, bool(chunk.batch_sizes)
    lead = inputs.batch_sizes[t - 1] if packed and t else len(inputs.start.h)
    if t:
        chunk = chunk._replace(at=slice(chunk.at.start - (lead if packed else 1), chunk.at.stop))
    h, c, h_hat, c_hat = (tokens(_at(q, chunk)) for q in saved.states)
    if not t:
        # Saved cells may be wider than the first, which `cat` converts.
        h, c, h_hat, c_hat = (torch.cat(both) for both in zip(inputs.start, (h, c, h_hat, c_hat), strict=True))
    h, c, h_hat, c_hat = states(LayerState(h, c, h_hat, c_hat), d)
    return h, c, h_hat, c_hat, lead


def _one_step_earlier(lead: int, firsts: Tensor, N: int) -> Tensor:
    """Where the state before each of N tokens of packed sequences is among those of `_states`, on their device.

    firsts: the first token of each step, and N.
    """
    sizes = firsts.diff()
    before = torch.cat((sizes.new_full((1,), lead), sizes[:-1]))
    return torch.arange(lead, lead + N, device=firsts.device) - before.repeat_interleave(sizes, output_size=N)


def _uh(p: LayerParams, saved: Saved, chunk: Chunk, h: Tensor, h_hat: Tensor) -> Tensor:
    """[u, a], [N, 4H + 4S], without a's part of x: the residuals, or recomputed from the states before each step."""
    if saved.residuals is not None:
        return _at(saved.residuals, chunk)
    uh = mm_float32(h, hidden_weight(p).T)
    uh[:, 4 * p.weight_h.shape[1] :] += mm_float32(h_hat, p.hyper_weight_s.flatten(0, 1).T)
    return uh


def _gradients(d: Dims, p: LayerParams, operands: _Operands, needed: Collection[str]) -> dict[str, Tensor]:
    """Gradients of the parameters that need one but the norms', summed over a chunk: products over its tokens."""
    H, S, Z, found = d.H, d.S, d.Z, dict[str, Tensor]()

    def need(*names: str) -> bool:
        return any(name in needed for name in names)

    for name, d_sums, values in (("weight_x", operands.d_vx, operands.x), ("weight_h", operands.d_uh, operands.h)):
        if need(name, f"hyper_{name}"):
            both, G = torch.mm(d_sums, values), values.shape[1]  # [4H + 4S, G]
            found[name] = both.as_strided((4, H, G), (H * G, G, 1))
            found[f"hyper_{name}"] = both.as_strided((4, S, G), (S * G, G, 1), 4 * H * G)
    if need("z_weight", "z_bias"):
        dz = torch.bmm(p.d_weight.as_strided((12, Z, H), (H * Z, 1, Z)), operands.dd)  # [12, Z, N]
        found["z_weight"] = torch.mm(dz.view(12 * Z, -1), operands.h_hat).view(3, 4, Z, S)
        found["z_bias"] = dz.sum(2).as_strided((2, 4, Z), (4 * Z, Z, 1))  # z_b has none
    if need("d_weight"):
        found["d_weight"] = torch.bmm(operands.dd, operands.z).view(3, 4, H, Z)
    if need("bias"):
        found["bias"] = operands.dd[8:].sum(2)
    if need("hyper_weight_s", "hyper_bias"):
        da = operands.d_uh.as_strided((4, S, operands.d_uh.shape[1]), (S, 1, 4 * (H + S)), 4 * H)
        found["hyper_weight_s"] = torch.bmm(da, operands.h_hat_before)
        found["hyper_bias"] = da.sum(2)
    return {name: q for name, q in found.items() if name in needed}
