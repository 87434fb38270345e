"""The forward pass: one product with x, and one launch for all steps."""

import torch
from torch import Tensor

from ..definition import LayerParams, LayerState, input_weight, tokens
from ..gradient.interface import ForwardSweep, Inputs
from . import launching, split
from .forward_kernel import forward_steps
from .layout import Steps, counters, dense, layer, masks, narrow, room, wide
from .split import Card


def forward(p: LayerParams) -> ForwardSweep:
    """Return the sweep over all steps of a sequence."""
    d, p = layer(p)
    w_x = input_weight(p).T

    def sweep(inputs: Inputs, s: LayerState, into: LayerState, residuals: Tensor | None) -> LayerState:
        x, B, rows, (kept, scale) = tokens(inputs.x), len(s.h), len(inputs.rows), masks(inputs.mask, d.H)
        if not x.numel():
            return s
        steps, sizes = Steps.of(inputs.batch_sizes, B, x.device), d.sizes(B, x.dtype)
        cut = split.forward(sizes, Card.of(x.device))
        # The states but out are written only where all of them are kept.
        arrays = [tokens(q) for q in (into if into.c.shape[:-1] == into.h.shape[:-1] else into[:1])]
        made = [q if q.shape[1] == F else q.new_empty(len(q), F) for q, F in zip(arrays, d.widths, strict=False)]
        # The kernel takes states from step to step in place, and leaves the last ones.
        h, c, h_hat = (dense(wide(q, (B, F)).clone()) for q, F in zip(s[:3], d.widths, strict=False))
        c_hat = wide(s.c_hat, (B, d.S)).repeat(cut.shares, 1, 1)
        uh = x.new_empty(B, 4 * (d.H + d.S)) if residuals is None else tokens(residuals)
        y, parts = room(c, (B, 4 * d.H), (-(-d.H // cut.units) if d.NORM else 0, B, 10))
        own_h_hat, own_z = room(x, *((cut.programs, split.TILE, F) for F in (d.S, 12 * d.Z)))
        of_forward = {"KEPT": residuals is not None, "EXTRA": cut.extra, "ZS": split.of_z(sizes, cut.depth)}
        launching.start(
            forward_steps,
            cut.programs,
            (
                torch.mm(x, w_x), h, c, h_hat, c_hat,
                p.weight_h, p.hyper_weight_h, p.hyper_weight_s, p.z_weight, p.z_bias, p.d_weight, p.bias, p.hyper_bias,
                *p.norms, *p.hyper_norms, kept, scale, *steps,
                uh, *made, *[None] * (4 - len(made)), y, parts, own_h_hat, own_z, counters(cut, x),
                rows, B, cut.members,
            ),
            d.constants(sizes, cut) | of_forward,
            meets=not cut.alone,
        )  # fmt: skip
        for q, values in zip(arrays, made, strict=True):
            if values is not q:
                q.copy_(values[:, : q.shape[1]])
        return LayerState._make(narrow(q, part.shape) for q, part in zip((h, c, h_hat, c_hat[0]), s, strict=True))

    return sweep
