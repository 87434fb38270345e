"""Cuts sequences into chunks of steps, so that temporary arrays fit into a limit that depends on the device."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch

from ..definition import SUMMED, Inputs, LayerParams, LayerState, Mask
from ..tracing import constant


class Limits(NamedTuple):
    """Limits on temporary memory of a call; a chunk has at least one step, even if that exceeds them."""

    #: Bytes of a chunk's arrays in the forward pass, which should stay in the cache.
    forward: int
    #: Bytes of a chunk's arrays in the backward pass: small compared with the states of a long sequence, but large
    #: enough for the products over a chunk to run at full speed.
    backward: int
    #: Most rows (steps times batch) that the backward pass sums over at once, see SUMMED; the results of a chunk should
    #: also be in the cache when they are summed.
    rows: int
    #: Whether residuals are saved. If not, the backward pass recomputes them, which halves the memory and takes a sixth
    #: to a third more time.
    residuals: bool = True

    def as_numbers(self) -> list[int]:
        """The same as an argument of an operator."""
        return [int(number) for number in self]


#: Array elements of a chunk per element of out, if each phase of a step has its own array.
NUMBERS = 40
_DEFAULTS = dict.fromkeys(("cpu", "meta"), Limits(forward=16 << 20, backward=32 << 20, rows=SUMMED["cpu"]))
#: The limits by device type that hold in this thread or task; those of a GPU only while they are changed.
_LIMITS: ContextVar[Mapping[str, Limits]] = ContextVar("limits", default=_DEFAULTS)
#: The part of a GPU's memory that a chunk's arrays may take.
_SHARE = 1 / 128


def limits(device: torch.device) -> Limits:
    """Limits of a device; for a GPU they are a share of its memory.

    A forward pass reads them; its backward pass may run in another thread, so it reads `Saved.limits`.
    """
    by_type = _LIMITS.get()
    if device.type in by_type:
        return by_type[device.type]
    most = int(_SHARE * torch.cuda.get_device_properties(device).total_memory)
    return Limits(forward=most, backward=most, rows=SUMMED["cuda"])


@constant  # since Dynamo of torch 2.13 and older reads no ContextVar
def limits_as_numbers(device: torch.device) -> list[int]:
    """Those of a device as an argument of an operator."""
    return limits(device).as_numbers()


@contextmanager
def limited(device_type: str, **changed: Any) -> Iterator[None]:
    """Change some `Limits` of a device type, by name, for calls of this thread or task while the context is open.

    `limited("cpu", residuals=False)` around the forward pass trains in less memory. The backward pass keeps what held
    for its forward pass. A compiled model keeps what held when it was compiled. Checkpointing runs the forward pass
    again, on a GPU in another thread: give `torch.utils.checkpoint` this context in its `context_fn`.
    """
    now = limits(torch.device(device_type))._replace(**changed)
    token = _LIMITS.set({**_LIMITS.get(), device_type: now})
    try:
        yield
    finally:
        _LIMITS.reset(token)


def bounds(most: int, numbers: int, p: LayerParams, inputs: Inputs, rows: int = 1 << 62) -> list[int]:
    """Boundaries of chunks of nearly equal length: 0, the first step of each further chunk, T.

    Chunks of packed sequences have nearly equal numbers of tokens.

    most: limit on the bytes of a chunk's arrays.
    numbers: array elements per element of out.
    rows: limit on steps times batch rows of a chunk.
    """
    row = numbers * p.bias.shape[1] * p.bias.element_size()
    if inputs.batch_sizes:
        ends = list(accumulate(inputs.batch_sizes))
        n = -(-ends[-1] // max(1, min(most // row, rows)))
        return [0, *sorted({bisect_left(ends, ends[-1] * i // n) + 1 for i in range(1, n + 1)})]
    T, B = len(inputs.x), max(inputs.x.shape[1], 1)
    n = -(-T // max(1, min(most // (row * B), rows // B)))
    return [T * i // n for i in range(n + 1)]


class Chunk(NamedTuple):
    """Consecutive steps of a sequence."""

    steps: slice
    at: slice  # into arrays over all steps, or with packed sequences over all tokens
    batch_sizes: Sequence[int] = ()


def in_chunks(bounds: Sequence[int], batch_sizes: Sequence[int]) -> list[Chunk]:
    """The chunks of a sequence between these boundaries."""
    steps = [slice(*ends) for ends in pairwise(bounds)]
    if not batch_sizes:
        return [Chunk(part, part) for part in steps]
    begins = list(accumulate(batch_sizes, initial=0))
    return [Chunk(part, slice(begins[part.start], begins[part.stop]), batch_sizes[part]) for part in steps]


def part(inputs: Inputs, chunk: Chunk, start: LayerState) -> Inputs:
    """Inputs of a chunk, with their initial state."""
    mask = inputs.mask and Mask(inputs.mask.kept[chunk.at], inputs.mask.scale)
    return inputs._replace(x=inputs.x[chunk.at], start=start, mask=mask, batch_sizes=chunk.batch_sizes)
