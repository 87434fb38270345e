"""A HyperLSTM layer with a Triton kernel of its own for the pointwise part of a step, on a GPU or interpreted."""

import os

import torch
import triton
import triton.language as tl
from hyperlstm import Impl, deferred
from hyperlstm.definition import LayerState
from hyperlstm.gradient import HandWritten, as_operator
from torch.nn.functional import pad


@triton.jit
def cell(gates, c, h_to, c_to, N, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < N
    i, f = tl.load(gates + at, mask=inside), tl.load(gates + N + at, mask=inside)
    g, o = tl.load(gates + 2 * N + at, mask=inside), tl.load(gates + 3 * N + at, mask=inside)
    remembered = tl.sigmoid(f) * tl.load(c + at, mask=inside)
    new = remembered + tl.sigmoid(i) * (2 * tl.sigmoid(2 * g) - 1)  # which is tanh
    tl.store(c_to + at, new, mask=inside)
    tl.store(h_to + at, tl.sigmoid(o) * (2 * tl.sigmoid(2 * new) - 1), mask=inside)


def step(gates, c):
    h, new = torch.empty_like(c), torch.empty_like(c)
    cell[(triton.cdiv(c.numel(), 128),)](gates.contiguous(), c.contiguous(), h, new, c.numel(), 128)
    return h, new


def forward(p, inputs, out, states, residuals):
    h, c, h_hat, c_hat = inputs.start
    for t, x_t in enumerate(inputs.x):
        a = x_t @ p.hyper_weight_x.mT + h @ p.hyper_weight_h.mT + h_hat @ p.hyper_weight_s.mT  # [4, B, S]
        h_hat, c_hat = step(a + p.hyper_bias[:, None], c_hat)
        d_h, d_x, b = (h_hat @ p.z_weight.mT + pad(p.z_bias, (0, 0, 0, 0, 0, 1))[:, :, None]) @ p.d_weight.mT
        h, c = step(d_h * (h @ p.weight_h.mT) + d_x * (x_t @ p.weight_x.mT) + b + p.bias[:, None], c)
        for array, value in zip((out, *states), (h, c, h_hat, c_hat), strict=False):  # states may be empty
            array[t] = value
    return LayerState(h, c, h_hat, c_hat)


def backward(p, inputs, saved, d_out, d_last, needed):
    return deferred.backward(p, inputs, saved._replace(residuals=None), d_out, d_last, needed)


run = as_operator(__name__, HandWritten(forward, backward, residuals=lambda I, H, S: 0))
DEVICES = ("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)
IMPL = Impl("mine", devices=DEVICES, dtypes=(torch.float32,), options=frozenset(), hand_written=True, triton=True)
