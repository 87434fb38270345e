"""The forward pass: one product with x, and one launch for all steps."""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from ..definition import Inputs, LayerParams, LayerState, tokens
from . import launching, scratch, split
from .forward_kernel import forward_steps
from .layout import joined_input_weight, layer, masks, mm_float32, narrow, room, states, steps
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
    dense_arrays = [q if q.shape[-1] == F else q.new_empty(len(x), F) for q, F in zip(arrays, d.widths, strict=False)]
    first = states(inputs.start, d)
    last = LayerState(*(torch.empty_like(q) for q in first))
    table = scratch.forward_room(d.H, d.S, d.Z, d.NORM, cut.units, cut.shares)
    numbers = scratch.begins(table, row=B, program=cut.programs)["end"]
    vx = mm_float32(x, joined_input_weight(own))
    values = {
        "vx": vx,
        **{f"first_{name}": q for name, q in first._asdict().items()},
        "h": last.h, "last_c": last.c, "h_hat": last.h_hat, "last_c_hat": last.c_hat,
        **dict(zip_longest(("h_to", "c_to", "h_hat_to", "c_hat_to"), dense_arrays)),
        "firsts": steps(inputs.batch_sizes, B, x.device), "room": room(cut, numbers, x),
        "uh": vx.new_empty(B, 4 * (d.H + d.S)) if residuals is None else residuals, "KEPT": residuals is not None,
        "T": len(inputs.rows), "B": B, "members": cut.members,
    }  # fmt: skip
    values |= own._asdict() | masks(inputs.mask, d.H) | d.constants(sizes, cut)
    launching.start(forward_steps, cut.programs, values, x.device, **split.options(cut))
    for q, copy in zip(arrays, dense_arrays, strict=True):
        if copy is not q:
            tokens(q).copy_(copy[:, : q.shape[-1]])
    return LayerState._make(narrow(q, start.shape) for q, start in zip(last, inputs.start, strict=True))
