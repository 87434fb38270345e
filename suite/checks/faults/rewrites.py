"""Right implementations, written in another way: the comparison must accept each, in each dtype named."""

from dataclasses import dataclass

import torch

from suite.checks.faults.edits import Change, Edit, Edited, edits
from suite.checks.faults.faults import ONE_STEP_A_CHUNK

_WIDE = (torch.float64, torch.float32)
_ALL = (*_WIDE, torch.bfloat16)


@dataclass(frozen=True)
class Rewrite(Edited):
    """An equivalent implementation, and the dtypes in which it rounds no worse than the original."""

    dtypes: tuple[torch.dtype, ...] = _ALL


def _step(name: str, kind: str, *changes: Change) -> Rewrite:
    return Rewrite(name, kind, edits("row_scaled", *changes), "row_scaled")


def _batched(name: str, kind: str, *changes: Change) -> Rewrite:
    return Rewrite(name, kind, edits("batched", *changes), "batched")


def _by_hand(name: str, kind: str, *made: Edit) -> Rewrite:
    return Rewrite(name, kind, made, "deferred")


_SUM = """\
                x[t] @ p.hyper_weight_x[k].T
                + h @ p.hyper_weight_h[k].T
                + h_hat @ p.hyper_weight_s[k].T
                + p.hyper_bias[k]
"""
_REORDERED = """\
                p.hyper_bias[k]
                + h_hat @ p.hyper_weight_s[k].T
                + (h @ p.hyper_weight_h[k].T + x[t] @ p.hyper_weight_x[k].T)
"""
_CELL = "torch.sigmoid(y_f) * c + torch.sigmoid(y_i) * m(torch.tanh(y_g), kept[t])"

REWRITES = (
    _step("sums in another order", "sums", (_SUM, _REORDERED)),
    _step(
        "K of W h split in two",
        "blocking",
        ("(h @ p.weight_h[k].T)", "(h[:, ::2] @ p.weight_h[k].T[::2] + h[:, 1::2] @ p.weight_h[k].T[1::2])"),
    ),
    _step(
        "W h one row at a time",
        "blocking",
        ("(h @ p.weight_h[k].T)", "torch.cat([r @ p.weight_h[k].T for r in h.split(1)])"),
    ),
    _step(
        "bias fused into its product",
        "fusing",
        ("h_hat @ p.z_weight[0, k].T + p.z_bias[0, k]", "torch.addmm(p.z_bias[0, k], h_hat, p.z_weight[0, k].T)"),
    ),
    _step(
        "cell update fused",
        "fusing",
        (_CELL, "torch.addcmul(torch.sigmoid(y_f) * c, torch.sigmoid(y_i), m(torch.tanh(y_g), kept[t]))"),
    ),
    _step(
        "sigmoid by tanh",
        "functions",
        ("torch.sigmoid(y_f)", "(0.5 + 0.5 * torch.tanh(0.5 * y_f))"),
        ("torch.sigmoid(y_i)", "(0.5 + 0.5 * torch.tanh(0.5 * y_i))"),
        ("torch.sigmoid(y_o)", "(0.5 + 0.5 * torch.tanh(0.5 * y_o))"),
    ),
    _step("tanh by sigmoid", "functions", ("torch.tanh(y_g)", "(2 * torch.sigmoid(2 * y_g) - 1)")),
    _step(
        "gates from the last to the first",
        "order",
        ("for k in gates:\n            z_h", "for k in reversed(gates):\n            z_h"),
        ("y_i, y_f, y_g, y_o = y", "y_i, y_f, y_g, y_o = reversed(y)"),
    ),
    _step(
        "weights scaled before the product",
        "order",
        ("d_h * (h @ p.weight_h[k].T)", "((d_h.unsqueeze(2) * p.weight_h[k]) @ h.unsqueeze(2)).squeeze(2)"),
    ),
    _step(
        "W h in float64", "precision", ("(h @ p.weight_h[k].T)", "(h.double() @ p.weight_h[k].T.double()).to(h.dtype)")
    ),
    Rewrite(
        "layer norm by its formula",
        "functions",
        edits(
            "definition",
            (
                "F.layer_norm(y, y.shape[-1:], eps=EPS)",
                "((y - y.mean(-1, keepdim=True)) * (y.var(-1, correction=0, keepdim=True) + EPS).rsqrt())",
            ),
        ),
        "row_scaled",
        _WIDE,
    ),
    _batched(
        "transposed weights made contiguous",
        "layout",
        ("hidden_weight(p).T,", "hidden_weight(p).T.contiguous(),"),
        ("p.z_weight.flatten(0, 2).T,", "p.z_weight.flatten(0, 2).T.contiguous(),"),
    ),
    _batched(
        "products with x step by step",
        "blocking",
        ("F.linear(x[steps], w_x)", "torch.stack([F.linear(x_t, w_x) for x_t in x[steps]])"),
    ),
    _batched(
        "addmm taken apart", "fusing", ("torch.addmm(a_x_t + a_h, h_hat, w.w_s)", "(h_hat @ w.w_s + a_h + a_x_t)")
    ),
    _by_hand("one step a chunk", "blocking", *ONE_STEP_A_CHUNK),
    _by_hand(
        "weight gradients summed in two halves",
        "sums",
        *edits(
            "chunked_backward",
            ("total += d.T @ values", "total += d[1::2].T @ values[1::2]; total += d[::2].T @ values[::2]"),
        ),
    ),
    _by_hand("products with h rebuilt", "order", *edits("deferred", (", residuals=lambda I, H, S: 4 * (H + S)", ""))),
)
