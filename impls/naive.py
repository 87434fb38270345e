"""The basic form: a 3-d weight tensor per gate, contracted with z into every sample's own weight matrices.

This is the equation, written down. It is the oracle of the suite and is never optimised: the [H, H, Z] tensors are
built, and at every step each sample's [H, H] and [H, I] matrices are built from them.
"""

import torch
from torch import Tensor

from .definition import Inputs, LayerParams, LayerState, gate_norms, masked, norm


def run(p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
    """Run one layer over all steps by building weights (paper, section 3.2; the description's basic form).

    Returns out [T, B, H] and the last state.
    """
    x, (h, c, h_hat, c_hat) = inputs.x, inputs.start
    gates, masks = range(4), inputs.masks
    n, n_hyper = gate_norms(p.norm_weight, p.norm_bias), gate_norms(p.hyper_norm_weight, p.hyper_norm_bias)
    n_c, n_hyper_c = norm(p.norm_c_weight, p.norm_c_bias), norm(p.hyper_norm_c_weight, p.hyper_norm_c_bias)

    # W_hz^k[i, j, n] = d_weight[h, k][i, n] weight_h^k[i, j]: tied to the row-scaled form, as all compute one function.
    w_hz = [torch.einsum("in,ij->ijn", p.d_weight[0, k], p.weight_h[k]) for k in gates]  # [H, H, Z] each
    w_xz = [torch.einsum("in,ij->ijn", p.d_weight[1, k], p.weight_x[k]) for k in gates]  # [H, I, Z] each

    out = []
    for t in range(len(x)):
        a = [
            n_hyper[k](
                x[t] @ p.hyper_weight_x[k].T
                + h @ p.hyper_weight_h[k].T
                + h_hat @ p.hyper_weight_s[k].T
                + p.hyper_bias[k]
            )
            for k in gates
        ]
        c_hat = torch.sigmoid(a[1]) * c_hat + torch.sigmoid(a[0]) * torch.tanh(a[2])
        h_hat = torch.sigmoid(a[3]) * torch.tanh(n_hyper_c(c_hat))

        y = []
        for k in gates:
            z_h = h_hat @ p.z_weight[0, k].T + p.z_bias[0, k]  # [B, Z]
            z_x = h_hat @ p.z_weight[1, k].T + p.z_bias[1, k]
            z_b = h_hat @ p.z_weight[2, k].T
            w_h = torch.einsum("ijn,bn->bij", w_hz[k], z_h)  # [B, H, H]
            w_x = torch.einsum("ijn,bn->bij", w_xz[k], z_x)  # [B, H, I]
            b = z_b @ p.d_weight[2, k].T + p.bias[k]
            y.append(n[k](torch.einsum("bij,bj->bi", w_h, h) + torch.einsum("bij,bj->bi", w_x, x[t]) + b))
        c = torch.sigmoid(y[1]) * c + torch.sigmoid(y[0]) * masked(torch.tanh(y[2]), masks[t])
        h = torch.sigmoid(y[3]) * torch.tanh(n_c(c))
        out.append(h)
    return torch.stack(out), LayerState(h, c, h_hat, c_hat)
