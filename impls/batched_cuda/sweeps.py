"""The layer function: both sweeps plugged into the skeleton of hand-written gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..chunked_backward import BackwardSweep, Chunk, Deltas, by_chunks
from ..custom_op import as_operator
from ..definition import LayerParams, LayerState
from ..sweeps import Forward, ForwardSweep, Gradient, Inputs, Sweeps, Weights
from . import backward, forward, launching
from .passes import Passes
from .target import dense, dense_mask


def forward_sweep(p: LayerParams) -> ForwardSweep:
    """Return the sweep over a chunk's steps."""
    weights = forward.weights(p)

    def sweep(inputs: Inputs, s: LayerState, into: LayerState, _: Tensor | None) -> LayerState:
        vx, before = dense(inputs.vx), LayerState(*map(dense, s))
        launching.sweep(forward.steps, vx, vx, before, weights, dense_mask(inputs.mask), into)
        return LayerState(*(part[-1] for part in into))

    return sweep


def backward_sweep(p: LayerParams, factors: Weights) -> BackwardSweep:
    """Return the sweep back over a chunk's steps; the hyper LSTM's gates are rebuilt by one product before it."""
    H, S, Z = p.bias.shape[1], p.hyper_bias.shape[1], p.z_bias.shape[2]
    weights, w_s, b = backward.weights(p, factors.h), p.hyper_weight_s.flatten(0, 1), p.hyper_bias.flatten()

    def sweep(chunk: Chunk, carried: LayerState) -> tuple[Deltas, LayerState]:
        a = F.linear(chunk.before.h_hat, w_s, b).add_(chunk.uh[..., 4 * H :]).add_(chunk.vx[..., 4 * H :])
        cells = chunk.before.c, chunk.before.c_hat, chunk.after.c, chunk.after.c_hat
        read = map(dense, (chunk.uh, chunk.vx, chunk.z, a, *cells, chunk.d_out, *carried))
        given = backward.Given._make((*read, dense_mask(chunk.mask)))
        made = backward.room(chunk.uh, H, S, Z, p.norm_weight is not None)
        launching.sweep(backward.steps, made.d_uh, given, weights, made)
        first = LayerState(made.d_uh[0] @ factors.h, made.dc, made.d_uh[0, :, 4 * H :] @ w_s, made.dc_hat)
        dy, dz = made.dy.unflatten(-1, (4, H)), made.dz.unflatten(-1, (12, Z))
        return Deltas(made.d_uh, made.dv, dy, dz, made.d_norms), first

    return sweep


def around(forward: Forward, gradient: Gradient) -> tuple[Forward, Gradient]:
    """Return the passes as `Passes` runs them."""
    both = Passes(forward, gradient)
    return both.forward, both.gradient


run, _ = as_operator(
    __package__,
    # Inductor's own graphs cannot hold ours.
    Sweeps(forward_sweep, by_chunks(backward_sweep), around=around, tags=(torch.Tag.cudagraph_unsafe,)),
)
