"""The row-scaled form, one gate at a time: <W_hz, z> h = d(z) * (W h), so no weight is ever built."""

import torch
from torch import Tensor

from .definition import Inputs, LayerParams, LayerState, by_gate, gate_norms, masked, norm


def run(p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
    """Run one layer over all steps, scaling the rows of W h and W x (paper, equations of A.2.2).

    Returns out [T, B, H] and the last state.
    """
    gates, (h, c, h_hat, c_hat) = by_gate(p), inputs.start
    n, n_hyper = gate_norms(p.norm_weight, p.norm_bias), gate_norms(p.hyper_norm_weight, p.hyper_norm_bias)
    n_c, n_hyper_c = norm(p.norm_c_weight, p.norm_c_bias), norm(p.hyper_norm_c_weight, p.hyper_norm_c_bias)

    out = []
    for x, mask in zip(inputs.x.unbind(), inputs.masks, strict=True):
        a_i, a_f, a_g, a_o = (
            n_k(x @ w.hyper_weight_x.T + h @ w.hyper_weight_h.T + h_hat @ w.hyper_weight_s.T + w.hyper_bias)
            for w, n_k in zip(gates, n_hyper, strict=True)
        )
        c_hat = torch.sigmoid(a_f) * c_hat + torch.sigmoid(a_i) * torch.tanh(a_g)
        h_hat = torch.sigmoid(a_o) * torch.tanh(n_hyper_c(c_hat))

        y = []
        for w, n_k in zip(gates, n, strict=True):
            z_h = h_hat @ w.z_weight[0].T + w.z_bias[0]  # [B, Z]
            z_x = h_hat @ w.z_weight[1].T + w.z_bias[1]
            z_b = h_hat @ w.z_weight[2].T
            d_h = z_h @ w.d_weight[0].T  # [B, H]
            d_x = z_x @ w.d_weight[1].T
            b = z_b @ w.d_weight[2].T + w.bias
            y.append(n_k(d_h * (h @ w.weight_h.T) + d_x * (x @ w.weight_x.T) + b))
        y_i, y_f, y_g, y_o = y
        c = torch.sigmoid(y_f) * c + torch.sigmoid(y_i) * masked(torch.tanh(y_g), mask)
        h = torch.sigmoid(y_o) * torch.tanh(n_c(c))
        out.append(h)
    return torch.stack(out), LayerState(h, c, h_hat, c_hat)
