"""The loops over steps in compiled code: groups of threads take rows through all steps, one fused pass a phase."""

import ctypes
import struct
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from ..definition import LayerParams, LayerState, cell_dtype
from ..gradient.chunks import bounds, limits
from ..gradient.interface import HandWritten, Inputs, Saved, allocate_states, in_dtypes, materialized
from ..gradient.operator import as_operator
from .build import library, why_unavailable

#: Groups of batch rows, and threads for each, in place of what suits the sizes and the number of threads.
SPLIT: tuple[int, int] | None = None

#: Smallest I for which v = weight_x x is saved for the backward pass.
KEEPS_V_FROM = 96
_PARAMS = len(LayerParams._fields)
_ALLOCATE = ctypes.CFUNCTYPE(None, ctypes.py_object, ctypes.POINTER(ctypes.c_int64))

__all__ = ["run", "run_packed", "why_unavailable"]


def forward(
    p: LayerParams, inputs: Inputs, out: Tensor, states: Sequence[Tensor], residuals: Tensor | None
) -> LayerState:
    """Run over a sequence in one call; without gradients the states alternate between two buffers."""
    rows = inputs.rows
    slots = 0 if states else min(2, len(rows))
    into = (out, *(states or allocate_states(p, out, (slots, rows[0]))))
    last = LayerState(*(q.new_empty(rows[0], q.shape[-1]) for q in into))
    arguments, read = _layer(p, inputs, into)
    arguments += [slots, *_addresses((*into, *last, residuals))]
    function = library().function("forward", out.dtype, ctypes.c_char_p, ctypes.c_double)
    _check(function(_packed(arguments), inputs.mask.scale if inputs.mask else 1.0))
    return last


def backward(
    p: LayerParams,
    inputs: Inputs,
    saved: Saved,
    d_out: Tensor,
    d_last: Sequence[Tensor | None],
    needed: Collection[str],
) -> dict[str, Tensor]:
    """Go back over a sequence; a chunk of steps has its arrays in memory at a time."""
    most, cell = limits(inputs.x.device), cell_dtype(inputs.x.dtype)
    numbers = 10 if saved.residuals is not None else 20
    chunks = bounds(most.backward, numbers, p, inputs, most.rows)
    d_x = inputs.x.new_empty(inputs.x.shape) if "x" in needed else None
    contiguous = torch.contiguous_format
    d_start = [d.to(cell, copy=True, memory_format=contiguous) for d in materialized(d_last, inputs, saved)]
    arguments, read = _layer(p, inputs, saved.states)
    read += [None if q is None else q.contiguous() for q in (*saved.states, saved.residuals, d_out)]
    arguments += [*(name in needed for name in LayerParams._fields), len(chunks) - 1, *chunks]
    arguments += _addresses((*read[-6:], *d_start, d_x))
    gradients = _Gradients(p, needed, cell)
    types = (ctypes.c_char_p, ctypes.c_double, _ALLOCATE, ctypes.py_object)
    function = library().function("backward", inputs.x.dtype, *types)
    scale = inputs.mask.scale if inputs.mask else 1.0
    error = function(_packed(arguments), scale, _allocate, gradients)
    if gradients.error is not None:
        raise gradients.error
    _check(error)
    found = {"x": d_x, **dict(zip(LayerState._fields, d_start, strict=True)), **gradients.found}
    return {name: d for name, d in found.items() if d is not None}


class _Gradients:
    """Gradients of the parameters, allocated when the C++ asks for them: once it has freed most of its own memory."""

    def __init__(self, p: LayerParams, needed: Collection[str], dtype: torch.dtype) -> None:
        self.p, self.needed, self.dtype = p, needed, dtype
        self.found: dict[str, Tensor] = {}
        self.error: BaseException | None = None

    def allocate(self, addresses: Any) -> None:
        try:
            for name, q in self.p._asdict().items():
                if name in self.needed and q is not None:
                    self.found[name] = torch.empty(q.shape, dtype=self.dtype)
            for i, number in enumerate(_addresses([self.found.get(name) for name in LayerParams._fields])):
                addresses[i] = number
        except BaseException as error:  # which cannot pass through the C++
            self.error = error


@_ALLOCATE
def _allocate(gradients: _Gradients, addresses: Any) -> None:
    gradients.allocate(addresses)


def _layer(p: LayerParams, inputs: Inputs, like: Sequence[Tensor]) -> tuple[list[int], list[Tensor | None]]:
    """Arguments that both passes begin with, see Layer in layer.h, and the tensors that they are addresses of."""
    rows, (H, I) = inputs.rows, p.weight_x.shape[1:]
    S, Z = p.hyper_bias.shape[1], p.z_bias.shape[2]
    keep = inputs.mask.kept if inputs.mask else None
    tensors = (*p, inputs.x, *in_dtypes(inputs.start, like), keep)
    read = [q if q is None else q.contiguous() for q in tensors]
    return [H, S, Z, I, *(SPLIT or (0, 0)), len(rows), *rows, *_addresses(read)], read


def _addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    """Address and bytes of each contiguous tensor, zeros for None."""
    return [number for q in tensors for number in ((0, 0) if q is None else (q.data_ptr(), q.nbytes))]


def _packed(arguments: Sequence[int]) -> bytes:
    return struct.pack(f"{len(arguments)}q", *arguments)


def _check(error: bytes | None) -> None:
    if error is not None:
        raise RuntimeError(f"batched_cpu: {error.decode()}")


def _residuals(I: int, H: int, S: int) -> int:
    """U and the hyper LSTM's gates, and v where to recompute it takes longer than to write and read it."""
    return 4 * (H + S) + (4 * H if I >= KEEPS_V_FROM else 0)


run, run_packed = as_operator(__name__, HandWritten(forward, backward, _residuals))
