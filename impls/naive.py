"""The basic form: a 3-d weight tensor per gate, contracted with z into every sample's own weight matrices.

This is the equation, written down. It is the oracle of the suite, and its step is never optimised: the [H, H, Z]
tensors are built, and at every step each sample's [H, H] and [H, I] matrices are built from them.
"""

import torch
from torch import Tensor

from .definition import Inputs, LayerParams, LayerState, by_gate, gate_norms, masked, norm


def run(p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
    """Run one layer over all steps by building weights (paper, section 3.2; the description's basic form).

    Returns out [T, B, H] and the last state.
    """
    gates, (h, c, h_hat, c_hat) = by_gate(p), inputs.start
    n, n_hyper = gate_norms(p.norm_weight, p.norm_bias), gate_norms(p.hyper_norm_weight, p.hyper_norm_bias)
    n_c, n_hyper_c = norm(p.norm_c_weight, p.norm_c_bias), norm(p.hyper_norm_c_weight, p.hyper_norm_c_bias)

    # W_hz^k[i, j, n] = d_weight[h, k][i, n] weight_h^k[i, j]: tied to the row-scaled form, as all compute one function.
    w_hz = [torch.einsum("in,ij->ijn", w.d_weight[0], w.weight_h) for w in gates]  # [H, H, Z] each
    w_xz = [torch.einsum("in,ij->ijn", w.d_weight[1], w.weight_x) for w in gates]  # [H, I, Z] each

    out = []
    for x, mask in zip(inputs.x.unbind(), inputs.masks, strict=True):
        a = [
            n_k(x @ w.hyper_weight_x.T + h @ w.hyper_weight_h.T + h_hat @ w.hyper_weight_s.T + w.hyper_bias)
            for w, n_k in zip(gates, n_hyper, strict=True)
        ]
        c_hat = torch.sigmoid(a[1]) * c_hat + torch.sigmoid(a[0]) * torch.tanh(a[2])
        h_hat = torch.sigmoid(a[3]) * torch.tanh(n_hyper_c(c_hat))

        y = []
        for w, n_k, w_hz_k, w_xz_k in zip(gates, n, w_hz, w_xz, strict=True):
            z_h = h_hat @ w.z_weight[0].T + w.z_bias[0]  # [B, Z]
            z_x = h_hat @ w.z_weight[1].T + w.z_bias[1]
            z_b = h_hat @ w.z_weight[2].T
            w_h = torch.einsum("ijn,bn->bij", w_hz_k, z_h)  # [B, H, H]
            w_x = torch.einsum("ijn,bn->bij", w_xz_k, z_x)  # [B, H, I]
            b = z_b @ w.d_weight[2].T + w.bias
            y.append(n_k(torch.einsum("bij,bj->bi", w_h, h) + torch.einsum("bij,bj->bi", w_x, x) + b))
        c = torch.sigmoid(y[1]) * c + torch.sigmoid(y[0]) * masked(torch.tanh(y[2]), mask)
        h = torch.sigmoid(y[3]) * torch.tanh(n_c(c))
        out.append(h)
    return torch.stack(out), LayerState(h, c, h_hat, c_hat)
