"""The loops over steps in compiled code: groups of threads take rows through all steps, one fused pass a phase."""

from collections.abc import Collection

from torch import Tensor

from ..definition import LayerParams, LayerState, Mask, rows_of
from ..gradient.chunks import bounds, limits
from ..gradient.interface import ForwardSweep, Inputs, Past, Sweeps
from ..gradient.operator import as_operator
from .build import library, why_unavailable

#: Steps of states, but h, that stand in memory where no backward pass will read them.
RING = 2
#: Groups of batch rows, and threads for each, in place of what suits the sizes and the number of threads.
SPLIT: tuple[int, int] | None = None

#: The I from which v = weight_x x is kept for the backward pass.
KEEPS_V_FROM = 96

__all__ = ["run", "run_packed", "why_unavailable"]


def forward(p: LayerParams) -> ForwardSweep:
    """Return the forward sweep; the first of its chunks, which has the most rows, packs the parameters."""
    compiled = library()
    weights = None

    def sweep(inputs: Inputs, s: LayerState, into: LayerState, residuals: Tensor | None) -> LayerState:
        nonlocal weights
        weights = weights or compiled.Weights(p.present(), inputs.rows[0])
        last = compiled.forward(weights, inputs.rows, inputs.x, s, into, *_factors(inputs.mask), residuals, SPLIT)
        return LayerState(*last)

    return sweep


def _factors(mask: Mask | None) -> tuple[Tensor | None, float]:
    """Return which of g are kept, and their scale."""
    return (None, 1.0) if mask is None else (mask.kept, mask.scale)


def backward(
    p: LayerParams, wanted: Collection[str], past: Past, carried: LayerState, d_x: Tensor | None
) -> tuple[dict[str, Tensor], LayerState]:
    """Go back over a sequence; what of it stands in memory at a time is a chunk of steps."""
    most, params = limits(past.x.device), p.present()
    rows, numbers = rows_of(past.x, past.batch_sizes), 10 if past.residuals is not None else 20
    names = LayerParams._fields[: len(params)]
    gradients, d_start = library().backward(
        params,
        [name in wanted for name in names],
        rows,
        past.x,
        past.start,
        past.trajectory,
        past.residuals,
        *_factors(past.mask),
        past.d_out,
        carried,
        d_x,
        bounds(most.backward, numbers, p, len(rows), rows[0], most.rows, past.batch_sizes),
        SPLIT,
    )
    return {name: g for name, g in zip(names, gradients, strict=True) if g is not None}, LayerState(*d_start)


def _residuals(I: int, H: int, S: int) -> int:
    """Count u and the hyper LSTM's gates, and v where to multiply it again takes longer than to write and read it."""
    return 4 * (H + S) + (4 * H if I >= KEEPS_V_FROM else 0)


run, run_packed = as_operator(__name__, Sweeps(forward, backward, residuals=_residuals, ring=RING))
