"""A HyperLSTM layer that computes its four gates at once."""

import torch
from torch.nn.functional import layer_norm, pad


def cell(gates, c, norms, m=1):
    if norms.weight is not None:
        gates = layer_norm(gates, gates.shape[-1:]) * norms.weight[:, None] + norms.bias[:, None]
    i, f, g, o = gates
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g) * m
    shown = c if norms.weight is None else layer_norm(c, c.shape[-1:], norms.c_weight, norms.c_bias)
    return torch.sigmoid(o) * torch.tanh(shown), c


def run(p, inputs):
    x, (h, c, h_hat, c_hat), mask, _ = inputs
    out = []
    for x_t, m in zip(x, mask.kept.to(x.dtype) * mask.scale if mask else [1] * len(x), strict=True):
        a = x_t @ p.hyper_weight_x.mT + h @ p.hyper_weight_h.mT + h_hat @ p.hyper_weight_s.mT  # [4, B, S]
        h_hat, c_hat = cell(a + p.hyper_bias[:, None], c_hat, p.hyper_norms)
        d_h, d_x, b = (h_hat @ p.z_weight.mT + pad(p.z_bias, (0, 0, 0, 0, 0, 1))[:, :, None]) @ p.d_weight.mT
        h, c = cell(d_h * (h @ p.weight_h.mT) + d_x * (x_t @ p.weight_x.mT) + b + p.bias[:, None], c, p.norms, m)
        out.append(h)
    return torch.stack(out), (h, c, h_hat, c_hat)
