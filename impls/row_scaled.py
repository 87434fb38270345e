"""The row-scaled form, one gate at a time: <W_hz, z> h = d(z) * (W h), so no weight is ever built."""

import torch
from torch import Tensor

from .definition import Inputs, LayerParams, LayerState, gate_norms, masked, norm


def run(p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
    """Run one layer over all steps, scaling the rows of W h and W x (paper, equations of A.2.2).

    Returns out [T, B, H] and the last state.
    """
    x, (h, c, h_hat, c_hat) = inputs.x, inputs.start
    gates, masks = range(4), inputs.masks
    n, n_hyper = gate_norms(p.norm_weight, p.norm_bias), gate_norms(p.hyper_norm_weight, p.hyper_norm_bias)
    n_c, n_hyper_c = norm(p.norm_c_weight, p.norm_c_bias), norm(p.hyper_norm_c_weight, p.hyper_norm_c_bias)

    out = []
    for t in range(len(x)):
        a_i, a_f, a_g, a_o = (
            n_hyper[k](
                x[t] @ p.hyper_weight_x[k].T
                + h @ p.hyper_weight_h[k].T
                + h_hat @ p.hyper_weight_s[k].T
                + p.hyper_bias[k]
            )
            for k in gates
        )
        c_hat = torch.sigmoid(a_f) * c_hat + torch.sigmoid(a_i) * torch.tanh(a_g)
        h_hat = torch.sigmoid(a_o) * torch.tanh(n_hyper_c(c_hat))

        y = []
        for k in gates:
            z_h = h_hat @ p.z_weight[0, k].T + p.z_bias[0, k]  # [B, Z]
            z_x = h_hat @ p.z_weight[1, k].T + p.z_bias[1, k]
            z_b = h_hat @ p.z_weight[2, k].T
            d_h = z_h @ p.d_weight[0, k].T  # [B, H]
            d_x = z_x @ p.d_weight[1, k].T
            b = z_b @ p.d_weight[2, k].T + p.bias[k]
            y.append(n[k](d_h * (h @ p.weight_h[k].T) + d_x * (x[t] @ p.weight_x[k].T) + b))
        y_i, y_f, y_g, y_o = y
        c = torch.sigmoid(y_f) * c + torch.sigmoid(y_i) * masked(torch.tanh(y_g), masks[t])
        h = torch.sigmoid(y_o) * torch.tanh(n_c(c))
        out.append(h)
    return torch.stack(out), LayerState(h, c, h_hat, c_hat)
