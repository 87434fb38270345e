"""A hand-written gradient: loops over steps compute only what must be sequential.

Forward and backward pass run over chunks of steps. Backward, products with x and h that were not saved are recomputed
before the loop over a chunk's steps; after it, its results become weight gradients. The only array over the whole
sequence that it allocates is the gradient of x.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from .definition import (
    NORM_NAMES,
    Inputs,
    LayerParams,
    LayerState,
    Mask,
    Norm,
    embedding_bias,
    hidden_weight,
    input_weight,
    masked,
    norm,
    steps_of,
    tokens,
)
from .gradient.cell import CellGradient
from .gradient.chunks import NUMBERS, Chunk, bounds, in_chunks, limits, part
from .gradient.operator import HandWritten, Saved, allocate_states, as_operator, in_dtype

#: (inputs of some steps, arrays for the states after each, array for uh or None) -> last state
_ForwardSweep = Callable[[Inputs, LayerState, Tensor | None], LayerState]


def forward(
    p: LayerParams, inputs: Inputs, out: Tensor, states: Sequence[Tensor], residuals: Tensor | None
) -> LayerState:
    """Run over a sequence chunk by chunk, so that the products with x stay in the cache."""
    chunks = in_chunks(bounds(limits(out.device).forward, NUMBERS, p, inputs), inputs.batch_sizes)
    sweep, length = _forward_sweep(p), max(chunk.at.stop - chunk.at.start for chunk in chunks)
    # Unless states are saved, each chunk overwrites the states of the previous chunk.
    arrays = states or allocate_states(p, out, (length, *out.shape[1:-1]))
    s = LayerState(*map(in_dtype, inputs.start, (q.dtype for q in (out, *arrays))))
    for chunk in chunks:
        at = chunk.at if states else slice(chunk.at.stop - chunk.at.start)
        into = LayerState(out[chunk.at], *(q[at] for q in arrays))
        s = sweep(part(inputs, chunk, s), into, None if residuals is None else residuals[chunk.at])
    return s


def _forward_sweep(p: LayerParams) -> _ForwardSweep:
    """The sweep over a chunk's steps in torch operations, in place where that saves a pass over memory."""
    H, S, Z = p.bias.shape[1], p.hyper_bias.shape[1], p.z_bias.shape[2]
    n, n_hyper = norm(p.norm_weight, p.norm_bias), norm(p.hyper_norm_weight, p.hyper_norm_bias)
    n_c, n_hyper_c = norm(p.norm_c_weight, p.norm_c_bias), norm(p.hyper_norm_c_weight, p.hyper_norm_c_bias)
    w_x, w_h = input_weight(p), hidden_weight(p).T
    w_s, w_z = p.hyper_weight_s.flatten(0, 1).T, p.z_weight.flatten(0, 2).T
    b_z, w_d, b_d = embedding_bias(p), p.d_weight.flatten(0, 1).mT, _scale_bias(p)

    def sweep(inputs: Inputs, into: LayerState, residuals: Tensor | None) -> LayerState:
        rows, vx = inputs.rows, tokens(linear(inputs.x, w_x))
        uh = torch.empty_like(vx) if residuals is None else tokens(residuals)
        v = vx[:, : 4 * H].unflatten(1, (4, H))
        a_x = vx[:, 4 * H :] + p.hyper_bias.flatten()
        h, c, h_hat, c_hat = inputs.start
        y = v.new_empty(len(h), 4, H)
        u, a_h = uh[:, : 4 * H].unflatten(1, (4, H)), uh[:, 4 * H :]
        arrays = (v, a_x, uh, u, a_h, *map(tokens, into))
        steps = zip(rows, inputs.masks, *(part.split(rows) for part in arrays), strict=True)
        ended: list[list[Tensor]] = []
        for B, mask, v_t, a_x_t, uh_t, u_t, a_h_t, to_h, to_c, to_h_hat, to_c_hat in steps:
            if len(h) > B:
                ended.append([part[B:] for part in (h, c, h_hat, c_hat)])
                h, c, h_hat, c_hat, y = (part[:B] for part in (h, c, h_hat, c_hat, y))
            torch.mm(h, w_h, out=uh_t)
            a = torch.addmm(a_x_t, h_hat, w_s).add_(a_h_t)
            h_hat, c_hat = _cell(n_hyper(a.view(B, 4, S)), c_hat, n_hyper_c, None, to_h_hat, to_c_hat)
            z = torch.addmm(b_z, h_hat, w_z).view(B, 12, Z)
            d_h, d_x, b = torch.baddbmm(b_d, z.transpose(0, 1), w_d).view(3, 4, B, H).transpose(1, 2)
            torch.mul(d_h, u_t, out=y)
            y.addcmul_(d_x, v_t).add_(b)
            h, c = _cell(n(y), c, n_c, mask, to_h, to_c)
        return LayerState(*map(torch.cat, zip((h, c, h_hat, c_hat), *reversed(ended), strict=True)))

    return sweep


def _scale_bias(p: LayerParams) -> Tensor:
    """The bias of the twelve d from z, [12, 1, H]: 0 except for the last four."""
    return torch.cat([torch.zeros_like(p.bias), torch.zeros_like(p.bias), p.bias]).unsqueeze(1)


def _cell(y: Tensor, c: Tensor, n_c: Norm, mask: Mask | None, to_h: Tensor, to_c: Tensor) -> tuple[Tensor, Tensor]:
    """Write h and c after one step of an LSTM cell with gates y [B, 4, F] and return them."""
    i, f = torch.sigmoid(y[:, :2]).unbind(1)
    g, o = masked(torch.tanh(y[:, 2]), mask), torch.sigmoid(y[:, 3])
    torch.addcmul(f * c, i, g, out=to_c)
    torch.mul(o, torch.tanh(n_c(to_c)), out=to_h)
    return to_h, to_c


class Weights(NamedTuple):
    """The matrices of products over whole chunks, concatenated once per sequence."""

    x: Tensor  # [4H + 4S, I]
    h: Tensor  # [4H + 4S, H]
    z: Tensor  # [12Z, S]
    z_bias: Tensor  # [12Z]


class Arrays(NamedTuple):
    """What the backward pass reads of a chunk, with arrays over its N tokens."""

    rows: list[int]  # of each step
    x: Tensor  # [N, I]
    mask: Mask | None
    before: LayerState  # the states that each step started from, [N, *] each
    after: LayerState  # and ended in
    uh: Tensor  # the products with h_{t-1}, [N, 4H + 4S]: u, then the hyper LSTM's part; the residuals
    vx: Tensor  # those with x_t: v, then the hyper LSTM's part
    z: Tensor  # the embeddings of the step's h_hat, [N, 12, Z]


class Deltas(NamedTuple):
    """Results of the loop back over a chunk, for the products over its N tokens."""

    du: Tensor  # [N, 4H]
    da: Tensor  # [N, 4S], of the hyper LSTM's gates before their norm
    dv: Tensor  # [N, 4H]
    dy: Tensor  # [N, 4, H], before the norm
    dz: Tensor  # [N, 12, Z]
    d_norms: Sequence[Tensor]  # of the norms in the order of LayerParams, summed over the chunk


def backward(
    p: LayerParams,
    inputs: Inputs,
    saved: Saved,
    d_out: Tensor,
    d_last: Sequence[Tensor | None],
    needed: Collection[str],
) -> dict[str, Tensor]:
    """Run back over a sequence, from the last chunk to the first."""
    cell = saved.states.c.dtype
    d_state = LayerState._make(
        torch.zeros_like(q, dtype=like.dtype) if d is None else in_dtype(d, like.dtype)
        for d, q, like in zip(d_last, inputs.start, saved.states, strict=True)
    )
    # Contiguous even if the parameter is not, since sums are added to views.
    totals = {
        name: torch.zeros_like(q, dtype=cell, memory_format=torch.contiguous_format)
        for name, q in p._asdict().items()
        if name in needed
    }
    weights = Weights(input_weight(p), hidden_weight(p), p.z_weight.flatten(0, 2), embedding_bias(p))
    most = saved.limits
    d_x = inputs.x.new_empty(inputs.x.shape) if "x" in needed else None
    cut = bounds(most.backward, NUMBERS, p, inputs, most.rows)
    for chunk in reversed(in_chunks(cut, inputs.batch_sizes)):
        arrays = _arrays(inputs, saved, chunk, weights)
        deltas, d_state = _loop_back(p, weights, arrays, tokens(d_out[chunk.at]), d_state)
        _add_weight_gradients(totals, arrays, deltas)
        if d_x is not None:
            d_vx = torch.cat([deltas.dv, deltas.da], dim=1)
            d_x[chunk.at] = (d_vx @ weights.x).view_as(d_x[chunk.at])
        del arrays, deltas  # to free their memory before the next chunk
    return totals | d_state._asdict() | ({} if d_x is None else {"x": d_x})


def _arrays(inputs: Inputs, saved: Saved, chunk: Chunk, weights: Weights) -> Arrays:
    """The arrays of a chunk, with the products that were not saved."""
    own = part(inputs, chunk, before(inputs, saved, chunk))
    start, after = (LayerState(*map(tokens, q)) for q in (own.start, [q[chunk.at] for q in saved.states]))
    uh = linear(start.h, weights.h) if saved.residuals is None else tokens(saved.residuals[chunk.at])
    z = linear(after.h_hat, weights.z, weights.z_bias).unflatten(1, (12, -1))
    x, mask = tokens(own.x), own.mask and Mask(tokens(own.mask.kept), own.mask.scale)
    return Arrays(own.rows, x, mask, start, after, uh, linear(x, weights.x), z)


def before(inputs: Inputs, saved: Saved, chunk: Chunk) -> LayerState:
    """The states before each step of a chunk: after the previous step, without the rows that ended there."""
    at = _one_step_earlier(inputs.batch_sizes, chunk)
    earlier = [q[at] for q in saved.states]
    if chunk.steps.start:
        return LayerState(*earlier)
    start = (q if chunk.batch_sizes else q.unsqueeze(0) for q in inputs.start)
    return LayerState(*(torch.cat([first.to(q.dtype), q]) for first, q in zip(start, earlier, strict=True)))


def _one_step_earlier(batch_sizes: Sequence[int], chunk: Chunk) -> slice | Tensor:
    """Index of the previous steps in arrays over all steps or tokens; the first step has none."""
    begin, end = max(chunk.steps.start, 1), chunk.steps.stop
    if not batch_sizes:
        return slice(begin - 1, end - 1)
    rows = torch.tensor(batch_sizes[begin - 1 : end])
    tokens = torch.arange(chunk.at.stop - int(rows[1:].sum()), chunk.at.stop)
    return tokens - rows[:-1].repeat_interleave(rows[1:])


def _add_weight_gradients(d_params: dict[str, Tensor], arrays: Arrays, deltas: Deltas) -> None:
    """Add one chunk's part to the gradient of each parameter that needs one: a product over all rows of the chunk."""
    cell = arrays.before.c.dtype
    du, da, dv, dy, dz, d_norms = deltas
    products = {
        "weight_x": (dv, arrays.x),
        "weight_h": (du, arrays.before.h),
        "hyper_weight_x": (da, arrays.x),
        "hyper_weight_h": (da, arrays.before.h),
        "hyper_weight_s": (da, arrays.before.h_hat),
        "z_weight": (dz.flatten(1), arrays.after.h_hat),
    }
    sums: dict[str, Callable[[], Tensor]] = {
        "hyper_bias": lambda: da.sum(0, dtype=cell),
        "z_bias": lambda: dz[:, :8].sum(0, dtype=cell),
        "bias": lambda: dy.sum(0, dtype=cell),
        "d_weight": lambda: _d_weight_gradient(arrays, dy),
    }
    norms = dict(zip(NORM_NAMES, d_norms, strict=False))
    for name, total in d_params.items():
        if name in products:
            _add_product(total.flatten(0, -2), *products[name])
        else:
            total += (norms[name] if name in norms else sums[name]()).view_as(total)


def _add_product(total: Tensor, d: Tensor, values: Tensor) -> None:
    """Add d^T values to total [F, G], of d [N, F] and values [N, G]."""
    # addmm_ may add row after row to the total, which would be one long sum over all chunks.
    total += d.T @ values


def _d_weight_gradient(arrays: Arrays, dy: Tensor) -> Tensor:
    """The gradient of d_weight [3, 4, H, Z] from that of y, dy [N, 4, H]."""
    u, v = (y[:, : 4 * dy.shape[2]].unflatten(1, (4, -1)) for y in (arrays.uh, arrays.vx))
    z = arrays.z.unflatten(1, (3, 4))
    sources = ((dy * u, 0), (dy * v, 1), (dy, 2))
    return torch.stack([torch.bmm(d.permute(1, 2, 0), z[:, s].transpose(0, 1)) for d, s in sources])


def _loop_back(
    p: LayerParams, weights: Weights, arrays: Arrays, d_out: Tensor, d_last: LayerState
) -> tuple[Deltas, LayerState]:
    """Loop back over a chunk's steps (impls/README.md, Gradient), without the sums over steps.

    d_last: gradient of the state after the chunk. Returns the deltas, and the gradient of the state before it.
    """
    H, S, Z = p.bias.shape[1], p.hyper_bias.shape[1], p.z_bias.shape[2]
    w_h, w_s, w_z = weights.h, p.hyper_weight_s.flatten(0, 1), weights.z
    w_d = p.d_weight.flatten(0, 1)
    rows, before, after, N = arrays.rows, arrays.before, arrays.after, len(arrays.x)
    u, a_h = arrays.uh.split([4 * H, 4 * S], dim=1)
    v, a_x = arrays.vx.split([4 * H, 4 * S], dim=1)
    a = (before.h_hat @ w_s.T).add_(a_h).add_(a_x).add_(p.hyper_bias.flatten())
    z = arrays.z.transpose(0, 1)  # [12, N, Z]
    d_h, d_x = torch.bmm(z[:8], w_d[:8].mT).view(2, 4, N, H).transpose(1, 2)  # [N, 4, H] each
    b = torch.baddbmm(p.bias.unsqueeze(1), z[8:], w_d[8:].mT).transpose(0, 1)
    u, v = u.unflatten(1, (4, H)), v.unflatten(1, (4, H))
    d_uh = u.new_empty(N, 4 * H + 4 * S)
    du, da = d_uh[:, : 4 * H].unflatten(1, (4, H)), d_uh[:, 4 * H :].unflatten(1, (4, S))
    dy, dz = d_uh.new_empty(N, 4, H), d_uh.new_empty(N, 12, Z)
    y = torch.mul(d_h, u, out=d_uh.new_empty(N, 4, H)).addcmul_(d_x, v).add_(b)
    del b
    main = CellGradient(y, before.c, after.c, p.norms, arrays.mask, dy)
    hyper = CellGradient(a.view(N, 4, S), before.c_hat, after.c_hat, p.hyper_norms, None, da)
    widest = d_uh.new_empty(8, rows[0], H)
    dh, dc, dh_hat, dc_hat = (d[: rows[-1]] for d in d_last)
    for B, t in reversed(list(zip(rows, steps_of(rows), strict=True))):
        if len(dh) < B:
            so_far = dh, main.last(dc), dh_hat, hyper.last(dc_hat)
            dh, dc, dh_hat, dc_hat = joined(so_far, d_last, B)
        scaled = widest[:, :B]
        torch.add(d_out[t], dh, out=main.dh[t])
        dc = main.step(t, dc)
        torch.mul(dy[t], d_h[t], out=du[t])
        torch.mul(dy[t], u[t], out=scaled[:4].transpose(0, 1))
        torch.mul(dy[t], v[t], out=scaled[4:].transpose(0, 1))
        dz[t, :8] = torch.bmm(scaled, w_d[:8]).transpose(0, 1)
        dz[t, 8:] = torch.bmm(dy[t].transpose(0, 1), w_d[8:]).transpose(0, 1)
        torch.addmm(dh_hat, dz[t].view(B, 12 * Z), w_z, out=hyper.dh[t])
        dc_hat = hyper.step(t, dc_hat)
        dh, dh_hat = d_uh[t] @ w_h, d_uh[t, 4 * H :] @ w_s
    dv, d_norms = (dy * d_x).flatten(1), (*main.norms(), *hyper.norms())
    deltas = Deltas(du.flatten(1), da.flatten(1), dv, dy, dz, d_norms)
    first = dh, main.last(dc), dh_hat, hyper.last(dc_hat)
    return deltas, LayerState(*joined(first, d_last, len(d_last.h)))


def joined(d: Sequence[Tensor], d_last: LayerState, rows: int) -> list[Tensor]:
    """The gradients d, extended to `rows` rows by the d_last of sequences that end here."""
    return [torch.cat([part, q[len(part) : rows]]) for part, q in zip(d, d_last, strict=True)]


run = as_operator(__name__, HandWritten(forward, backward, residuals=lambda I, H, S: 4 * (H + S)))
