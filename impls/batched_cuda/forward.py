"""The forward pass: one product with x, and one launch for all steps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..definition import Inputs, LayerParams, LayerState, tokens
from . import launching, split
from .forward_kernel import forward_steps
from .layout import joined_input_weight, layer, masks, narrow, room, states, steps
from .split import Card


def forward(
    p: LayerParams, inputs: Inputs, out: Tensor, after: Sequence[Tensor], residuals: Tensor | None
) -> LayerState:
    """Run over a sequence."""
    (d, own), x, B = layer(p), tokens(inputs.x), len(inputs.start.h)
    if not x.numel():
        return LayerState(*(q.clone() for q in inputs.start))
    sizes = d.sizes(B, x.dtype)
    cut = split.forward(sizes, Card.of(x.device))
    # The kernel writes rows without gaps, and c, h_hat and c_hat only if somebody reads them.
    arrays = (out, *after)
    made = [q if q.shape[-1] == F else q.new_empty(len(x), F) for q, F in zip(arrays, d.widths, strict=False)]
    last = [x.new_empty(B, F) for F in d.widths]
    numbers = B * (5 * d.H + cut.shares * d.S) + cut.programs * split.TILE * (d.S + 12 * d.Z)
    if d.NORM:
        numbers += -(-d.H // cut.units) * B * 10
    launching.start(
        forward_steps,
        cut.programs,
        (
            torch.mm(x, joined_input_weight(own)), *states(inputs.start, d), *last,
            own.weight_h, own.hyper_weight_h, own.hyper_weight_s, own.z_weight, own.z_bias, own.d_weight, own.bias,
            own.hyper_bias, *own.norms, *own.hyper_norms,
            *masks(inputs.mask, d.H), steps(inputs.batch_sizes, B, x.device),
            x.new_empty(B, 4 * (d.H + d.S)) if residuals is None else residuals, *made, *[None] * (4 - len(made)),
            room(cut, numbers, x), len(inputs.rows), B, cut.members,
        ),
        d.constants(sizes, cut)
        | {"KEPT": residuals is not None, "EXTRA": cut.extra, "ZS": split.of_z(sizes, cut.depth)},
        cooperative=not cut.alone,
    )  # fmt: skip
    for q, values in zip(arrays, made, strict=True):
        if values is not q:
            tokens(q).copy_(values[:, : q.shape[-1]])
    return LayerState._make(narrow(q, start.shape) for q, start in zip(last, inputs.start, strict=True))
