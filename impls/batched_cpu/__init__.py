"""The loops over steps in C++: groups of threads take rows through all steps, in one fused pass per phase."""

from array import array
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from ..definition import Inputs, LayerParams, LayerState, cell_dtype
from ..gradient.chunks import bounds
from ..gradient.operator import HandWritten, Saved, as_operator, in_dtype
from .arguments import BackwardArguments, ForwardArguments, ParamArrays
from .loading import ALLOCATE, compiles_first, library, why_unavailable

#: Overrides the number of groups of batch rows, and of threads per group, for tests.
SPLIT: tuple[int, int] | None = None

#: Smallest I for which v = weight_x x is saved for the backward pass.
KEEPS_V_FROM = 96
#: Array elements of a chunk of the backward pass per element of out: what `bounds` takes, without saved residuals and
#: with them.
_RECOMPUTING, _WITH_RESIDUALS = 20, 10

__all__ = ["compiles_first", "run", "why_unavailable"]


def forward(
    p: LayerParams, inputs: Inputs, out: Tensor, states: Sequence[Tensor], residuals: Tensor | None
) -> LayerState:
    """Run over a sequence in one call of the library."""
    layer = _layer(p, inputs)
    last = LayerState(*map(torch.empty_like, layer["start"]))  # which takes half the time of `new_empty`
    all_states = (out, *(states or (None,) * 3))
    arguments = ForwardArguments.of({**layer, "states": all_states, "residuals": residuals, "last": last})
    compiled = library(out.dtype)
    compiled.check(compiled.forward(arguments))
    return last


def backward(
    p: LayerParams,
    inputs: Inputs,
    saved: Saved,
    d_out: Tensor,
    d_last: Sequence[Tensor | None],
    needed: Collection[str],
) -> dict[str, Tensor]:
    """Run backward over a sequence, with the arrays of one chunk of steps in memory at a time."""
    most, cell, whole = saved.limits, cell_dtype(inputs.x.dtype), torch.contiguous_format
    numbers = _RECOMPUTING if saved.residuals is None else _WITH_RESIDUALS
    chunks = bounds(most.backward, numbers, p, inputs, most.rows)
    needed = frozenset(needed)
    d_x = torch.empty_like(inputs.x, memory_format=whole) if "x" in needed else None
    d_start = [
        torch.zeros_like(q, dtype=cell, memory_format=whole)
        if d is None
        else d.to(cell, copy=True, memory_format=whole)
        for d, q in zip(d_last, inputs.start, strict=True)
    ]
    arguments = BackwardArguments.of(
        {
            **_layer(p, inputs),
            "states": [q.contiguous() for q in saved.states],
            "residuals": None if saved.residuals is None else saved.residuals.contiguous(),
            "needed": array("q", [name in needed for name in LayerParams._fields]),
            "chunks": len(chunks) - 1,
            "bounds": array("q", chunks),
            "d_out": d_out.contiguous(),
            "d_state": d_start,
            "d_x": d_x,
        }
    )
    gradients = _Gradients(p, needed, cell)
    compiled = library(inputs.x.dtype)
    outcome = compiled.backward(arguments, _allocate, gradients)
    if gradients.error is not None:
        raise gradients.error
    compiled.check(outcome)
    results = {"x": d_x, **dict(zip(LayerState._fields, d_start, strict=True)), **gradients.by_name}
    return {name: d for name, d in results.items() if d is not None}


class _Gradients:
    """Gradients of the parameters, allocated when the C++ asks for them, after it has freed most of its memory."""

    def __init__(self, p: LayerParams, needed: Collection[str], dtype: torch.dtype) -> None:
        self.p, self.needed, self.dtype = p, needed, dtype
        self.by_name: dict[str, Tensor] = {}
        self.error: BaseException | None = None

    def allocate(self, arrays: ParamArrays) -> None:
        """Allocate those that are needed, and point `arrays` to them."""
        for name, q in zip(LayerParams._fields, self.p, strict=True):
            if name in self.needed and q is not None:
                self.by_name[name] = torch.empty_like(q, dtype=self.dtype, memory_format=torch.contiguous_format)
        arrays.point_to([self.by_name.get(name) for name in LayerParams._fields])


@ALLOCATE  # type: ignore[untyped-decorator]  # ctypes has no types for it
def _allocate(gradients: _Gradients, arrays: Any) -> None:
    try:
        gradients.allocate(arrays.contents)
    except BaseException as error:  # exceptions cannot pass through the C++
        gradients.error = error


def _layer(p: LayerParams, inputs: Inputs) -> dict[str, Any]:
    """What both passes read, by the names of the fields: contiguous arrays, in the dtypes of the library."""
    dtype = inputs.x.dtype
    cell = cell_dtype(dtype)
    (_, H, I), S, Z = p.weight_x.shape, p.hyper_bias.shape[1], p.z_bias.shape[2]
    sizes = inputs.batch_sizes
    T, B = (len(sizes), sizes[0]) if sizes else inputs.x.shape[:2]
    groups, members = SPLIT or (0, 0)
    keep, scale = inputs.mask or (None, 1.0)
    dtypes = dtype, cell, dtype, cell
    return {
        "H": H,
        "S": S,
        "Z": Z,
        "I": I,
        "groups": groups,
        "members": members,
        "T": T,
        "B": B,
        "batch_sizes": array("q", sizes) if sizes else None,
        "params": [None if q is None else q.contiguous() for q in p],
        "x": inputs.x.contiguous(),
        "start": [in_dtype(q, like).contiguous() for q, like in zip(inputs.start, dtypes, strict=True)],
        "keep": None if keep is None else keep.contiguous(),
        "scale": scale,
        "has_v": I >= KEEPS_V_FROM,
    }


def _residuals(I: int, H: int, S: int) -> int:
    """U and the hyper LSTM's gates, and v where recomputing it takes longer than writing and reading it."""
    return 4 * (H + S) + (4 * H if I >= KEEPS_V_FROM else 0)


run = as_operator(__name__, HandWritten(forward, backward, _residuals))
