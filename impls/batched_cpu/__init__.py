"""The loops over steps in C++: groups of threads take rows through all steps, in one fused pass per phase."""

import struct
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..definition import Inputs, LayerParams, LayerState, cell_dtype
from ..gradient.chunks import bounds
from ..gradient.operator import HandWritten, Saved, as_operator, in_dtype
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
    last = LayerState(*map(torch.empty_like, layer.start))  # which takes half the time of `new_empty`
    arguments = layer.numbers + _addresses((out, *(states or (None,) * 3), *last, residuals))
    compiled = library(out.dtype)
    compiled.check(compiled.forward(_packed(arguments), inputs.mask.scale if inputs.mask else 1.0))
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
    layer = _layer(p, inputs)
    residuals = None if saved.residuals is None else saved.residuals.contiguous()
    of_steps = [*map(Tensor.contiguous, saved.states), residuals, d_out.contiguous()]
    arguments = layer.numbers + [name in needed for name in LayerParams._fields]
    arguments += (len(chunks) - 1, *chunks)
    arguments += _addresses((*of_steps, *d_start, d_x))
    gradients = _Gradients(p, needed, cell)
    scale = inputs.mask.scale if inputs.mask else 1.0
    compiled = library(inputs.x.dtype)
    outcome = compiled.backward(_packed(arguments), scale, _allocate, gradients)
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

    def allocate(self) -> Iterable[int]:
        """Addresses and bytes, in the order of `LayerParams`."""
        for name, q in zip(LayerParams._fields, self.p, strict=True):
            if name in self.needed and q is not None:
                self.by_name[name] = torch.empty_like(q, dtype=self.dtype, memory_format=torch.contiguous_format)
        return _addresses([self.by_name.get(name) for name in LayerParams._fields])


@ALLOCATE  # type: ignore[untyped-decorator]  # ctypes has no types for it
def _allocate(gradients: _Gradients, addresses: Any) -> None:
    try:
        for i, number in enumerate(gradients.allocate()):
            addresses[i] = number
    except BaseException as error:  # exceptions cannot pass through the C++
        gradients.error = error


class _Layer(NamedTuple):
    """The first arguments of both passes."""

    numbers: list[int]  # in the order of Layer in layer.h
    start: list[Tensor]  # the initial state, contiguous, in the dtypes of the library
    read: list[Tensor | None]  # everything that the numbers have an address of, to live until the call ends


def _layer(p: LayerParams, inputs: Inputs) -> _Layer:
    dtype = inputs.x.dtype
    cell = cell_dtype(dtype)
    start = [in_dtype(q, like).contiguous() for q, like in zip(inputs.start, (dtype, cell, dtype, cell), strict=True)]
    (_, H, I), S, Z = p.weight_x.shape, p.hyper_bias.shape[1], p.z_bias.shape[2]
    keep = inputs.mask.kept if inputs.mask else None
    read = [None if q is None else q.contiguous() for q in (*p, inputs.x, *start, keep)]
    sizes = inputs.batch_sizes
    steps = (len(sizes), -1, *sizes) if sizes else inputs.x.shape[:2]
    return _Layer([H, S, Z, I, *(SPLIT or (0, 0)), *steps, *_addresses(read)], start, read)


def _addresses(tensors: Iterable[Tensor | None]) -> list[int]:
    """Address and bytes of each contiguous tensor: null and zero for None.

    No tensor stands for a missing one: it would be made where this module is imported, which may be a FakeTensorMode.
    """
    numbers = list[int]()
    for q in tensors:
        numbers += (0, 0) if q is None else (q.data_ptr(), q.nbytes)
    return numbers


def _packed(arguments: Sequence[int]) -> bytes:
    return struct.pack(f"{len(arguments)}q", *arguments)


def _residuals(I: int, H: int, S: int) -> int:
    """U and the hyper LSTM's gates, and v where recomputing it takes longer than writing and reading it."""
    return 4 * (H + S) + (4 * H if I >= KEEPS_V_FROM else 0)


run = as_operator(__name__, HandWritten(forward, backward, _residuals))
