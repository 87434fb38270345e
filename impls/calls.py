"""Arguments of a call: their checks, the layouts of sequences, and dropout masks.

Errors name the argument, what was expected and what came. Sequences are a batch, one sequence alone, or a
PackedSequence; in the latter, consecutive steps with the same number of rows form a segment.

Masks are drawn here, so that all implementations compute the same function under one seed (README.md, Dropout and
packed sequences).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from .definition import Inputs, LayerParams, LayerState, Mask, Run, dtype_name
from .tracing import in_transform

#: Names in errors of the parts of a state.
_STATE = tuple(f"state ({part})" for part in LayerState._fields)

Sequences = Tensor | PackedSequence
Shapes = Mapping[str, tuple[int, ...]]


def positive(name: str, value: Any) -> int:
    """The value as an int; TypeError or ValueError unless it is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a positive integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """The value; TypeError unless it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def probability(name: str, value: Any) -> float:
    """The value as a float; TypeError or ValueError unless it is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a probability from 0 to 1, got {value!r}")
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {value}")
    return float(value)


def floating(dtype: Any) -> torch.dtype | None:
    """The dtype; TypeError unless it is None or a floating-point dtype."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype: expected a floating-point torch.dtype, got {dtype!r}")
    return dtype


def dense(name: str, value: Any) -> Tensor:
    """The value; TypeError unless it is a tensor in the dense layout."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {value.layout}")
    return value


def sequence(value: Any, input_size: int, axes: str) -> Tensor:
    """x; TypeError or ValueError unless it is a tensor [T, B, I], or [T, I].

    axes: names of the first two axes of a batch, for errors.
    """
    x = dense("x", value)
    if x.dim() not in (2, 3) or x.shape[-1] != input_size:
        raise ValueError(f"x: expected shape [{axes}, {input_size}] or [T, {input_size}], got {list(x.shape)}")
    return x


def batch_sizes(sequences: PackedSequence, input_size: int) -> list[int]:
    """Rows of each step; TypeError or ValueError unless the data is a tensor [N, I] that these sizes sum to."""
    x = dense("x.data", sequences.data)
    if x.dim() != 2 or x.shape[1] != input_size:
        raise ValueError(f"x.data: expected shape [N, {input_size}], got {list(x.shape)}")
    sizes: list[int] = sequences.batch_sizes.tolist()
    if not sizes or sizes[-1] < 1 or sorted(sizes, reverse=True) != sizes or sum(sizes) != len(x):
        raise ValueError(f"x.batch_sizes: expected sizes of 1 or more that never rise and sum to {len(x)}, got {sizes}")
    return sizes


def state_parts(value: Any, L: int, rows: tuple[int, ...], sizes: Sequence[int]) -> list[Tensor]:
    """h, c, h_hat and c_hat; TypeError or ValueError unless each is [L, *rows, size] or [*rows, size]."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"state: expected None or a tuple (h, c, h_hat, c_hat), got {type(value).__name__}")
    if len(value) != 4:
        raise ValueError(f"state: expected 4 tensors (h, c, h_hat, c_hat), got {len(value)}")
    parts = []
    for name, part, size in zip(_STATE, value, sizes, strict=True):
        shape = dense(name, part).shape
        if shape != (L, *rows, size) and shape != (*rows, size):
            stacked, plain = [L, *rows, size], [*rows, size]
            raise ValueError(f"{name}: expected shape {stacked} or {plain}, got {list(shape)}")
        parts.append(part)
    return parts


def like_parameters(weight: Tensor, x: Tensor, start: LayerState) -> None:
    """Raise ValueError if x or a state differs from the parameters in dtype or device."""
    dtype, device = weight.dtype, weight.device
    for name, q in zip(("x", *_STATE), (x, *start), strict=True):
        if q.dtype != dtype or q.device != device:
            raise ValueError(
                f"{name}: expected {dtype_name(dtype)} on {device} as the parameters are, "
                f"got {dtype_name(q.dtype)} on {q.device}"
            )


def parameters(
    params: Mapping[str, Tensor | None],
    shapes: Shapes,
    prefix: str,
    dtype: torch.dtype,
    where: torch.device,
    autocasts: bool,
) -> None:
    """Raise ValueError for the first parameter of a layer with a wrong shape, dtype or device.

    shapes: expected shape of each parameter, by name. autocasts: dtypes other than float64 may differ.
    """
    for name, q in params.items():
        shape = shapes.get(name)
        own_dtype = dtype if q is None or not autocasts or torch.float64 in (dtype, q.dtype) else q.dtype
        expected = None if shape is None else (shape, own_dtype, where)
        actual = None if q is None else (q.shape, q.dtype, q.device)
        if actual != expected:  # words only for an error: each call checks all parameters
            raise ValueError(f"{prefix}{name}: expected {_in_words(expected)}, got {_in_words(actual)}")


def _in_words(about: tuple[Sequence[int], torch.dtype, torch.device] | None) -> str:
    """A tensor's shape, dtype and device; None if there is no tensor."""
    if about is None:
        return "None"
    shape, dtype, device = about
    return f"{list(shape)} in {dtype_name(dtype)} on {device}"


class Layout(NamedTuple):
    """A caller's sequences as the layers read them, and functions that convert states and results."""

    x: Tensor  # [T, B, I], or for packed sequences [N, I]: all their tokens, step after step
    rows: tuple[int, ...]  # batch axis of the caller's states: (B,), or () for one sequence alone
    batch_sizes: Sequence[int] = ()  # with packed sequences: rows of each step, which never rise
    #: Converts a state of the caller's, [L, *rows, F], to [L, B, F].
    start: Callable[[Tensor], Tensor] = lambda part: part
    #: Converts a final state, [L, B, F], to [L, *rows, F].
    last: Callable[[Tensor], Tensor] = lambda part: part
    #: Converts the last layer's output to the layout of the caller's x.
    out: Callable[[Tensor], Sequences] = lambda out: out


def layout(x: Any, input_size: int, batch_first: bool) -> Layout:
    """The layout of x; TypeError or ValueError if it is no valid tensor or PackedSequence."""
    if isinstance(x, PackedSequence):
        return _packed(x, batch_sizes(x, input_size))
    x = sequence(x, input_size, "B, T" if batch_first else "T, B")
    if x.dim() == 2:
        alone = partial(torch.squeeze, dim=1)
        return Layout(x.unsqueeze(1), (), start=lambda part: part.unsqueeze(1), last=alone, out=alone)
    if batch_first:
        return Layout(x.transpose(0, 1), (x.shape[0],), out=lambda out: out.transpose(0, 1))
    return Layout(x, (x.shape[1],))


def _packed(x: PackedSequence, sizes: list[int]) -> Layout:
    """The layout of packed sequences: rows of states are sorted as the tokens are, and final states are sorted back."""
    data, batch_sizes, order, back = x
    return Layout(
        data,
        (sizes[0],),
        sizes,
        start=lambda part: part if order is None else part.index_select(1, order),
        last=lambda part: part if back is None else part.index_select(1, back),
        out=lambda out: PackedSequence(out, batch_sizes, order, back),
    )


def starts(layout: Layout, state: Sequence[Tensor] | None, L: int, sizes: tuple[int, ...]) -> list[LayerState]:
    """The initial state of each layer, [B, *] each; zeros if the caller has none."""
    if state is None:
        B = layout.rows[0] if layout.rows else 1
        zeros = {size: layout.x.new_zeros(B, size) for size in sizes}  # shared, since they are only read
        return [LayerState(*(zeros[size] for size in sizes))] * L
    by_part = []
    for part, size in zip(state_parts(state, L, layout.rows, sizes), sizes, strict=True):
        of_layers = part if part.dim() > len(layout.rows) + 1 else part.expand(L, *layout.rows, size)
        of_layers = layout.start(of_layers)
        by_part.append((of_layers.squeeze(0),) if L == 1 else of_layers.unbind())  # which takes twice the time
    return [LayerState(*of_layer) for of_layer in zip(*by_part, strict=True)]


def stacked(ends: Sequence[LayerState]) -> LayerState:
    """The final states of all layers, [L, B, *] each."""
    if len(ends) == 1:  # a view takes a third of the time of a copy
        return LayerState(*[part.unsqueeze(0) for part in ends[0]])
    return LayerState(*[torch.stack(parts) for parts in zip(*ends, strict=True)])


def by_segments(run: Run, p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
    """Run packed sequences, segment by segment, with an implementation that takes batches of one length.

    A segment runs the rows that have not ended, from the state after the previous segment; a row that has ended keeps
    its last state.
    """
    x, s, mask, batch_sizes = inputs.x, inputs.start, inputs.mask, inputs.batch_sizes
    outs, ended, end = [], [], 0
    for rows, segment in groupby(batch_sizes):
        steps = len(list(segment))
        tokens, end = slice(end, end + steps * rows), end + steps * rows
        ended.append([part[rows:] for part in s])
        s = LayerState(*(part[:rows] for part in s))
        part = mask and Mask(mask.kept[tokens].unflatten(0, (steps, rows)), mask.scale)
        out, s = run(p, inputs._replace(x=x[tokens].unflatten(0, (steps, rows)), start=s, mask=part, batch_sizes=()))
        outs.append(out.flatten(0, 1))
    # The shortest sequences end first and come last.
    last = (torch.cat(parts) for parts in zip(s, *reversed(ended), strict=True))
    return torch.cat(outs), LayerState(*last)


#: Number of values of 16 bits.
_LEVELS = 1 << 16


def draw(p: float, shape: Sequence[int], device: torch.device) -> Mask | None:
    """A mask that drops with probability p, rounded to 1/65536, from torch's generator; None if p is 0."""
    if p == 0:
        return None
    n = math.prod(shape)
    # Four values from each 64 bits: on a CPU, drawing is a serial loop, so this takes a quarter of the time.
    bits = _quarters(torch.randint(-(2**63), 2**63 - 1, (-(-n // 4),), dtype=torch.int64, device=device))[:n]
    dropped = max(1, round(p * _LEVELS))
    return Mask((bits > dropped - 1 - _LEVELS // 2).view(shape), 1 / (1 - p) if p < 1 else 0.0)


def _quarters(bits: Tensor) -> Tensor:
    """Split each int64 into four int16, the lowest bits first."""
    if in_transform():  # the vmap of torch 2.11 has no rule for a view in another dtype
        return torch.stack([(bits >> shift).to(torch.int16) for shift in range(0, 64, 16)], dim=-1).flatten(-2)
    return bits.view(torch.int16)
