"""A backward pass over chunks of steps: large products, a backward sweep over the steps, and large products again.

Before the sweep, products with x and h that were not saved are recomputed; after it, its results become weight
gradients. The only array over the whole sequence that it allocates is the gradient of x.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..definition import NORM_NAMES, Inputs, LayerParams, LayerState, embedding_bias, hidden_weight, input_weight
from .chunks import NUMBERS, Stretch, bounds, limits, part, stretches
from .operator import Backward, Saved, in_dtype


class Weights(NamedTuple):
    """The matrices of products over whole chunks, concatenated once per sequence."""

    x: Tensor  # [4H + 4S, I]
    h: Tensor  # [4H + 4S, H]
    z: Tensor  # [12Z, S]
    z_bias: Tensor  # [12Z]


class Chunk(NamedTuple):
    """K consecutive steps as the backward sweep sees them.

    With packed sequences, arrays are [N, *], over the tokens of these steps, instead of [K, B, *].
    """

    inputs: Inputs
    before: LayerState  # the states that each step started from, [K, B, *] each
    after: LayerState  # and ended in
    uh: Tensor  # the products with h_{t-1}, [K, B, 4H + 4S]: u, then the hyper LSTM's part; the residuals
    vx: Tensor  # those with x_t: v, then the hyper LSTM's part
    z: Tensor  # the embeddings of the step's h_hat, [K, B, 12, Z]


def _chunk(inputs: Inputs, saved: Saved, steps: Stretch, weights: Weights) -> Chunk:
    """The chunk of some steps, with the products that were not saved."""
    start, after = before(inputs, saved, steps), LayerState(*(q[steps.at] for q in saved.states))
    uh = linear(start.h, weights.h) if saved.residuals is None else saved.residuals[steps.at]
    z = linear(after.h_hat, weights.z, weights.z_bias).unflatten(-1, (12, -1))
    own = part(inputs, steps, start)
    return Chunk(own, start, after, uh, linear(own.x, weights.x), z)


class Deltas(NamedTuple):
    """Results of the backward sweep over a chunk, for the large products; over steps and rows, or over tokens."""

    d_uh: Tensor  # [K, B, 4H + 4S] or [N, ..]: du, then da, the gradient of the hyper LSTM's gates before their norm
    dv: Tensor  # [.., 4H]
    dy: Tensor  # [.., 4, H], before the norm
    dz: Tensor  # [.., 12, Z]
    d_norms: Sequence[Tensor] = ()  # of the norms in the order of LayerParams, summed over the chunk


#: (chunk, d_out of its steps, gradient of the state after it) -> (deltas, gradient of the state before it)
BackwardSweep = Callable[[Chunk, Tensor, LayerState], tuple[Deltas, LayerState]]


def by_chunks(prepare: Callable[[LayerParams, Weights], BackwardSweep]) -> Backward:
    """Make a backward pass from a sweep over one chunk; prepare is called once per sequence."""

    def backward(
        p: LayerParams,
        inputs: Inputs,
        saved: Saved,
        d_out: Tensor,
        d_last: Sequence[Tensor | None],
        needed: Collection[str],
    ) -> dict[str, Tensor]:
        cell = saved.states.c.dtype
        d_state = LayerState(
            *(
                torch.zeros_like(q, dtype=like.dtype) if d is None else in_dtype(d, like.dtype)
                for d, q, like in zip(d_last, inputs.start, saved.states, strict=True)
            )
        )
        # Contiguous even if the parameter is not, since sums are added to views.
        totals = {
            name: torch.zeros_like(q, dtype=cell, memory_format=torch.contiguous_format)
            for name, q in p._asdict().items()
            if name in needed
        }
        weights = Weights(input_weight(p), hidden_weight(p), p.z_weight.flatten(0, 2), embedding_bias(p))
        sweep, most = prepare(p, weights), limits(inputs.x.device)
        d_x = inputs.x.new_empty(inputs.x.shape) if "x" in needed else None
        cut = bounds(most.backward, NUMBERS, p, inputs, most.rows)
        for steps in reversed(stretches(cut, inputs.batch_sizes)):
            chunk = _chunk(inputs, saved, steps, weights)
            deltas, d_state = sweep(chunk, d_out[steps.at], d_state)
            _add_weight_gradients(totals, chunk, deltas)
            if d_x is not None:
                da = deltas.d_uh[..., deltas.dv.shape[-1] :]
                d_x[steps.at] = (torch.cat([deltas.dv, da], dim=-1) @ weights.x).view_as(chunk.inputs.x)
            del chunk, deltas  # to free their memory before the next chunk
        return totals | d_state._asdict() | ({} if d_x is None else {"x": d_x})

    return backward


def before(inputs: Inputs, saved: Saved, chunk: Stretch) -> LayerState:
    """The states before each of these steps: after the previous step, without the rows that ended there."""
    at = _one_step_earlier(inputs.batch_sizes, chunk)
    earlier = [q[at] for q in saved.states]
    if chunk.steps.start:
        return LayerState(*earlier)
    start = (q if chunk.batch_sizes else q.unsqueeze(0) for q in inputs.start)
    return LayerState(*(torch.cat([first.to(q.dtype), q]) for first, q in zip(start, earlier, strict=True)))


def _one_step_earlier(batch_sizes: Sequence[int], chunk: Stretch) -> slice | Tensor:
    """Index of the previous steps in arrays over all steps or tokens; the first step has none."""
    begin, end = max(chunk.steps.start, 1), chunk.steps.stop
    if not batch_sizes:
        return slice(begin - 1, end - 1)
    rows = torch.tensor(batch_sizes[begin - 1 : end])
    tokens = torch.arange(chunk.at.stop - int(rows[1:].sum()), chunk.at.stop)
    return tokens - rows[:-1].repeat_interleave(rows[1:])


def _add_weight_gradients(d_params: dict[str, Tensor], chunk: Chunk, deltas: Deltas) -> None:
    """Add one chunk's part to the gradient of each parameter that needs one: a product over all rows of the chunk."""
    cell = chunk.before.c.dtype
    d_uh, dv = (d.flatten(0, -2) for d in deltas[:2])  # [N, *] each, of N = K B rows
    dy, dz = (d.flatten(0, -3) for d in deltas[2:4])
    du, da = d_uh[:, : dv.shape[1]], d_uh[:, dv.shape[1] :]
    x, h, h_hat_before, h_hat = (
        y.flatten(0, -2) for y in (chunk.inputs.x, chunk.before.h, chunk.before.h_hat, chunk.after.h_hat)
    )
    products = {
        "weight_x": (dv, x),
        "weight_h": (du, h),
        "hyper_weight_x": (da, x),
        "hyper_weight_h": (da, h),
        "hyper_weight_s": (da, h_hat_before),
        "z_weight": (dz.flatten(1), h_hat),
    }
    sums: dict[str, Callable[[], Tensor]] = {
        "hyper_bias": lambda: da.sum(0, dtype=cell),
        "z_bias": lambda: dz[:, :8].sum(0, dtype=cell),
        "bias": lambda: dy.sum(0, dtype=cell),
        "d_weight": lambda: _d_weight_gradient(chunk, dy),
    }
    norms = dict(zip(NORM_NAMES, deltas.d_norms, strict=False))
    for name, total in d_params.items():
        if name in products:
            _add_product(total.flatten(0, -2), *products[name])
        else:
            total += (norms[name] if name in norms else sums[name]()).view_as(total)


def _add_product(total: Tensor, d: Tensor, values: Tensor) -> None:
    """Add d^T values to total [F, G], of d [N, F] and values [N, G]."""
    # addmm_ may add row after row to the total, which would be one long sum over all chunks.
    total += d.T @ values


def _d_weight_gradient(chunk: Chunk, dy: Tensor) -> Tensor:
    """The gradient of d_weight [3, 4, H, Z] from that of y, dy [N, 4, H]."""
    u, v = (y.flatten(0, -2)[:, : 4 * dy.shape[2]].unflatten(1, (4, -1)) for y in (chunk.uh, chunk.vx))
    z = chunk.z.flatten(0, -3).unflatten(1, (3, 4))
    sources = ((dy * u, 0), (dy * v, 1), (dy, 2))
    return torch.stack([torch.bmm(d.permute(1, 2, 0), z[:, s].transpose(0, 1)) for d, s in sources])
