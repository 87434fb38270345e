"""A backward pass made of a sweep back over one chunk of steps: all that is a large product stands around the sweep.

Before it the products with x and h are made anew where nobody kept them; after it the deltas that the sweep leaves
become weight gradients. No array of a whole sequence is made, save the gradient of x.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..definition import NORM_NAMES, LayerParams, LayerState, rows_of
from .chunks import Stretch, bounds, limits, stretches
from .interface import Backward, Inputs, Past, Weights

#: What the arrays of one chunk take for each number of the output, where every phase of a step has its own.
_NUMBERS = 40


class Chunk(Inputs):
    """K consecutive steps as the backward sweep sees them; products that it asks for and nobody kept are made anew.

    Of packed sequences, arrays are [N, *] with the tokens of these steps in place of [K, B, *].
    """

    def __init__(self, past: Past, chunk: Stretch, weights: Weights) -> None:
        at = chunk.at
        super().__init__(past.x[at], weights, past.mask and past.mask.part(at), chunk.batch_sizes)
        #: The states that each step started from and ended in, [K, B, *] each.
        self.before = before(past, chunk)
        self.after = LayerState(*(part[at] for part in past.trajectory))
        self.d_out = past.d_out[at]  # [K, B, H]
        self._residuals = None if past.residuals is None else past.residuals[at]

    @cached_property
    def uh(self) -> Tensor:
        """The products with h_{t-1}, [K, B, 4H + 4S]: u, then the hyper LSTM's part; what a forward sweep may leave."""
        return linear(self.before.h, self.weights.h) if self._residuals is None else self._residuals

    @cached_property
    def z(self) -> Tensor:
        """The embeddings z of the step's h_hat, [K, B, 12, Z]."""
        z: Tensor = linear(self.after.h_hat, *self.weights.z).unflatten(-1, (12, -1))
        return z


class Deltas(NamedTuple):
    """What one chunk's backward sweep leaves to the large products, over steps and rows, or over tokens."""

    d_uh: Tensor  # [K, B, 4H + 4S] or [N, ..]: du, then da, the gradient of the hyper LSTM's gates before their norm
    dv: Tensor  # [.., 4H]
    dy: Tensor  # [.., 4, H], before the norm
    dz: Tensor  # [.., 12, Z]
    d_norms: Sequence[Tensor] = ()  # of the norms in the order of LayerParams, summed over the chunk


#: (chunk, gradient of the state after it) -> (deltas, gradient of the state before it)
BackwardSweep = Callable[[Chunk, LayerState], tuple[Deltas, LayerState]]


def by_chunks(prepare: Callable[[LayerParams, Weights], BackwardSweep]) -> Backward:
    """Make a backward pass of a sweep over one chunk; prepare is called once a sequence."""

    def backward(
        p: LayerParams, wanted: Collection[str], past: Past, carried: LayerState, d_x: Tensor | None
    ) -> tuple[dict[str, Tensor], LayerState]:
        cell = past.trajectory.c.dtype
        # Contiguous, whatever the parameter is: sums are added to views of it.
        totals = {
            name: torch.zeros_like(q, dtype=cell, memory_format=torch.contiguous_format)
            for name, q in p._asdict().items()
            if name in wanted
        }
        weights, most = Weights(p), limits(past.x.device)
        sweep = prepare(p, weights)
        T, B = len(rows_of(past.x, past.batch_sizes)), len(carried.h)
        cut = bounds(most.backward, _NUMBERS, p, T, B, most.rows, past.batch_sizes)
        for part in reversed(stretches(cut, past.batch_sizes)):
            chunk = Chunk(past, part, weights)
            deltas, carried = sweep(chunk, carried)
            _add_weight_gradients(totals, chunk, deltas)
            if d_x is not None:
                da = deltas.d_uh[..., deltas.dv.shape[-1] :]
                d_x[part.at] = (torch.cat([deltas.dv, da], dim=-1) @ weights.x).view_as(chunk.x)
        return totals, carried

    return backward


def before(past: Past, chunk: Stretch) -> LayerState:
    """Return the states that these steps started from: the trajectory one step earlier, of the rows that go on."""
    at = _one_step_earlier(past.batch_sizes, chunk)
    earlier = [part[at] for part in past.trajectory]
    if chunk.steps.start:
        return LayerState(*earlier)
    start = (part if chunk.batch_sizes else part.unsqueeze(0) for part in past.start)
    return LayerState(*(torch.cat([first.to(q.dtype), q]) for first, q in zip(start, earlier, strict=True)))


def _one_step_earlier(batch_sizes: Sequence[int], chunk: Stretch) -> slice | Tensor:
    """Return where in arrays over all steps, or tokens, the steps before these lie; none lies before the first."""
    begin, end = max(chunk.steps.start, 1), chunk.steps.stop
    if not batch_sizes:
        return slice(begin - 1, end - 1)
    rows = torch.tensor(batch_sizes[begin - 1 : end])
    tokens = torch.arange(chunk.at.stop - int(rows[1:].sum()), chunk.at.stop)
    return tokens - rows[:-1].repeat_interleave(rows[1:])


def _add_weight_gradients(d_params: dict[str, Tensor], chunk: Chunk, deltas: Deltas) -> None:
    """Add one chunk's part to the gradient of each parameter that wants one: a product over all rows of the chunk."""
    cell = chunk.before.c.dtype
    d_uh, dv = (d.flatten(0, -2) for d in deltas[:2])  # [N, *] each, of N = K B rows
    dy, dz = (d.flatten(0, -3) for d in deltas[2:4])
    du, da = d_uh[:, : dv.shape[1]], d_uh[:, dv.shape[1] :]
    x, h, h_hat_before, h_hat = (
        y.flatten(0, -2) for y in (chunk.x, chunk.before.h, chunk.before.h_hat, chunk.after.h_hat)
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
    # Not by addmm_, which may add row after row to the total: over all chunks one long sum.
    total += d.T @ values


def _d_weight_gradient(chunk: Chunk, dy: Tensor) -> Tensor:
    """Return the gradient of d_weight [3, 4, H, Z] from that of y, dy [N, 4, H]."""
    u, v = (y.flatten(0, -2)[:, : 4 * dy.shape[2]].unflatten(1, (4, -1)) for y in (chunk.uh, chunk.vx))
    z = chunk.z.flatten(0, -3).unflatten(1, (3, 4))
    sources = ((dy * u, 0), (dy * v, 1), (dy, 2))
    return torch.stack([torch.bmm(d.permute(1, 2, 0), z[:, s].transpose(0, 1)) for d, s in sources])
