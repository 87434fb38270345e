"""Four gates in one product, and the products with x for many steps in one before their loop."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .definition import (
    SUMMED,
    Inputs,
    LayerParams,
    LayerState,
    Mask,
    Run,
    embedding_bias,
    hidden_weight,
    input_weight,
    masked,
    norm,
)


class Weights(NamedTuple):
    """A layer's parameters, and matrices of them as the step multiplies them, prepared once per sequence."""

    p: LayerParams
    w_h: Tensor  # [H, 4H + 4S]: both LSTMs read h
    w_s: Tensor  # [S, 4S]
    w_z: Tensor  # [S, 12Z]
    b_z: Tensor  # [12Z]; z_b has no bias
    w_d: Tensor  # [12, Z, H]


def prepare(p: LayerParams) -> Weights:
    """The weights of the step."""
    return Weights(
        p,
        hidden_weight(p).T,
        p.hyper_weight_s.flatten(0, 1).T,
        p.z_weight.flatten(0, 2).T,
        embedding_bias(p),
        p.d_weight.flatten(0, 1).transpose(1, 2),  # and not mT, which torch.onnx.export(dynamo=False) lacks
    )


def step(w: Weights, v_t: Tensor, a_x_t: Tensor, mask: Mask | None, s: LayerState) -> LayerState:
    """Compute the next state in three products, and d from z without a [12H, S] matrix.

    v_t: [B, 4, H]. a_x_t: the hyper LSTM's part of the product with x_t, [B, 4S]. mask: of g, [B, H].
    """
    h, c, h_hat, c_hat = s
    p, B, H, S, Z = w.p, h.shape[0], w.p.bias.shape[1], w.w_s.shape[0], w.w_d.shape[1]
    n, n_hyper = norm(p.norm_weight, p.norm_bias), norm(p.hyper_norm_weight, p.hyper_norm_bias)
    n_c, n_hyper_c = norm(p.norm_c_weight, p.norm_c_bias), norm(p.hyper_norm_c_weight, p.hyper_norm_c_bias)

    u, a_h = (h @ w.w_h).split([4 * H, 4 * S], dim=-1)
    a = n_hyper(torch.addmm(a_x_t + a_h, h_hat, w.w_s).unflatten(-1, (4, S)))
    i, f, g, o = a.unbind(1)
    c_hat = torch.sigmoid(f) * c_hat + torch.sigmoid(i) * torch.tanh(g)
    h_hat = torch.sigmoid(o) * torch.tanh(n_hyper_c(c_hat))

    z = torch.addmm(w.b_z, h_hat, w.w_z).unflatten(-1, (12, Z))
    # Each of the 12 scales takes Z multiply-adds per unit; one [S, 12H] matrix from h_hat would take S.
    d_h, d_x, d_b = torch.bmm(z.transpose(0, 1), w.w_d).view(3, 4, B, H).transpose(1, 2)  # [B, 4, H] each
    y = n(d_h * u.unflatten(-1, (4, H)) + d_x * v_t + (d_b + p.bias))
    i, f, g, o = y.unbind(1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * masked(torch.tanh(g), mask)
    h = torch.sigmoid(o) * torch.tanh(n_c(c))
    return LayerState(h, c, h_hat, c_hat)


def unrolled(step: Callable[[Weights, Tensor, Tensor, Mask | None, LayerState], LayerState]) -> Run:
    """An implementation that loops over steps and computes the products with x for many steps at a time."""

    def run(p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
        """Run one layer over all steps; returns out [T, B, H] and the last state."""
        x, s = inputs.x, inputs.start
        H, S = p.bias.shape[1], p.hyper_bias.shape[1]
        w, w_x, b_a, masks = prepare(p), input_weight(p), p.hyper_bias.flatten(), inputs.masks
        out = []
        # In blocks of steps, since the gradient of w_x sums over all rows of a product; in one block while a graph is
        # traced, where the batch size may be symbolic and the block length would depend on it.
        whole = torch.compiler.is_compiling() or x.is_meta
        block = len(x) if whole else max(1, SUMMED[x.device.type] // max(1, x.shape[1]))
        for first in range(0, len(x), block):
            steps = slice(first, first + block)
            # This can precede the loop because d_x scales the rows of W x after the product.
            v, a_x = F.linear(x[steps], w_x).split([4 * H, 4 * S], dim=-1)
            for v_t, a_x_t, mask in zip(v.unflatten(-1, (4, H)), a_x + b_a, masks[steps], strict=True):
                s = step(w, v_t, a_x_t, mask, s)
                out.append(s.h)
        return torch.stack(out), s

    return run


run = unrolled(step)
