"""The loops over steps in compiled code: groups of threads take rows through all steps, one fused pass a phase."""

from collections.abc import Collection, Sequence

from torch import Tensor

from ..definition import Inputs, LayerParams, LayerState
from ..gradient.chunks import bounds, limits
from ..gradient.interface import HandWritten, Saved, allocate_states, in_dtypes, materialized
from ..gradient.operator import as_operator
from .build import library, why_unavailable

#: Groups of batch rows, and threads for each, in place of what suits the sizes and the number of threads.
SPLIT: tuple[int, int] | None = None

#: The I from which v = weight_x x is saved for the backward pass.
KEEPS_V_FROM = 96
_UNMASKED = None, 1.0

__all__ = ["run", "why_unavailable"]


def forward(
    p: LayerParams, inputs: Inputs, out: Tensor, states: Sequence[Tensor], residuals: Tensor | None
) -> LayerState:
    """Run over a sequence in one call; where nobody reads the states, two steps of them are overwritten in turns."""
    rows = inputs.rows
    into = (out, *(states or allocate_states(p, out, (min(2, len(rows)), rows[0]))))
    start, mask = in_dtypes(inputs.start, into), inputs.mask or _UNMASKED
    return LayerState(*library().forward(p.present(), rows, inputs.x, start, into, *mask, residuals, SPLIT))


def backward(
    p: LayerParams,
    inputs: Inputs,
    saved: Saved,
    d_out: Tensor,
    d_last: Sequence[Tensor | None],
    needed: Collection[str],
) -> dict[str, Tensor]:
    """Go back over a sequence; a chunk of steps has its arrays in memory at a time."""
    most, params = limits(inputs.x.device), p.present()
    numbers = 10 if saved.residuals is not None else 20
    names = LayerParams._fields[: len(params)]
    d_x = inputs.x.new_empty(inputs.x.shape) if "x" in needed else None
    gradients, d_start = library().backward(
        params,
        [name in needed for name in names],
        inputs.rows,
        inputs.x,
        inputs.start,
        saved.states,
        saved.residuals,
        *(inputs.mask or _UNMASKED),
        d_out,
        materialized(d_last, inputs, saved),
        d_x,
        bounds(most.backward, numbers, p, inputs, most.rows),
        SPLIT,
    )
    found = zip(("x", *LayerState._fields, *names), (d_x, *d_start, *gradients), strict=True)
    return {name: d for name, d in found if d is not None}


def _residuals(I: int, H: int, S: int) -> int:
    """U and the hyper LSTM's gates, and v where to recompute it takes longer than to write and read it."""
    return 4 * (H + S) + (4 * H if I >= KEEPS_V_FROM else 0)


run = as_operator(__name__, HandWritten(forward, backward, _residuals))
