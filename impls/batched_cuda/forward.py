"""The forward pass: one product with x, and one launch for all steps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..definition import LayerParams, LayerState, cell_dtype, input_weight, tokens
from ..gradient.interface import Inputs
from . import launching, split
from .forward_kernel import forward_steps
from .layout import Steps, counters, layer, masks, narrow, own_copy, wide
from .split import Card


def forward(
    p: LayerParams, inputs: Inputs, out: Tensor, states: Sequence[Tensor], residuals: Tensor | None
) -> LayerState:
    """Run over a sequence."""
    (d, own), x, B, rows = layer(p), tokens(inputs.x), len(inputs.start.h), len(inputs.rows)
    if not x.numel():
        return LayerState(*(q.clone() for q in inputs.start))
    sizes, cell = d.sizes(B, x.dtype), cell_dtype(x.dtype)
    cut = split.forward(sizes, Card.of(x.device))
    # The kernel writes rows without gaps, and c, h_hat and c_hat only if somebody reads them.
    arrays = (out, *states)
    made = [q if q.shape[-1] == F else q.new_empty(len(x), F) for q, F in zip(arrays, d.widths, strict=False)]
    # It takes states from step to step in place, and leaves the last ones; each member has a c_hat of its own.
    start = zip(inputs.start, d.widths, (x.dtype, cell, x.dtype, cell), (1, 1, 1, cut.shares), strict=True)
    h, c, h_hat, c_hat = (own_copy(wide(q, (B, F)), dtype, times) for q, F, dtype, times in start)
    launching.start(
        forward_steps,
        cut.programs,
        (
            torch.mm(x, input_weight(own).T), h, c, h_hat, c_hat,
            own.weight_h, own.hyper_weight_h, own.hyper_weight_s, own.z_weight, own.z_bias, own.d_weight, own.bias,
            own.hyper_bias, *own.norms, *own.hyper_norms,
            *masks(inputs.mask, d.H), *Steps.of(inputs.batch_sizes, B, x.device),
            x.new_empty(B, 4 * (d.H + d.S)) if residuals is None else residuals, *made, *[None] * (4 - len(made)),
            c.new_empty(B, 4 * d.H), c.new_empty(-(-d.H // cut.units), B, 10) if d.NORM else None,
            x.new_empty(cut.programs, split.TILE, d.S), x.new_empty(cut.programs, split.TILE, 12 * d.Z),
            counters(cut, x), rows, B, cut.members,
        ),
        d.constants(sizes, cut)
        | {"KEPT": residuals is not None, "EXTRA": cut.extra, "ZS": split.of_z(sizes, cut.depth)},
        cooperative=not cut.alone,
    )  # fmt: skip
    for q, values in zip(arrays, made, strict=True):
        if values is not q:
            tokens(q).copy_(values[:, : q.shape[-1]])
    last = (h, c, h_hat, c_hat[0] if cut.shares > 1 else c_hat)
    return LayerState._make(narrow(q, start.shape) for q, start in zip(last, inputs.start, strict=True))
