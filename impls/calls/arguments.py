"""Argument validation; errors name the argument, the expectation and the value."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ..definition import LayerState, dtype_name

Shapes = Mapping[str, tuple[int, ...]]


def positive(name: str, value: Any) -> int:
    """A size as an int; TypeError or ValueError unless it is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a positive integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """An option; TypeError unless it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def probability(name: str, value: Any) -> float:
    """A probability as a float; TypeError or ValueError unless it is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a probability from 0 to 1, got {value!r}")
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {value}")
    return float(value)


def floating(dtype: Any) -> torch.dtype | None:
    """The dtype for parameters; TypeError unless it is None or a floating-point dtype."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype: expected a floating-point torch.dtype, got {dtype!r}")
    return dtype


def device(value: Any) -> torch.device | None:
    """The device for parameters; an error like torch's own unless it is None, a device or a device's name."""
    try:
        return None if value is None else torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise type(error)(f"device: expected a torch.device or its name, got {value!r}: {error}") from error


def dense(name: str, value: Any) -> Tensor:
    """The value; TypeError unless it is a tensor in the dense layout."""
    if not isinstance(value, Tensor):
        if isinstance(value, torch.fx.Proxy):
            raise TypeError(f"{name}: torch.fx.symbolic_trace does not support HyperLSTM: use torch.export")
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if value.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {value.layout}")
    return value


def sequence(value: Any, input_size: int, axes: str) -> Tensor:
    """x; TypeError or ValueError unless it is a tensor [T, B, I], or [T, I].

    axes: the first two of a batch, as an error names them.
    """
    x = dense("x", value)
    if x.dim() not in (2, 3) or x.shape[-1] != input_size:
        raise ValueError(f"x: expected shape [{axes}, {input_size}] or [T, {input_size}], got {list(x.shape)}")
    return x


def packed(sequences: PackedSequence, input_size: int) -> list[int]:
    """The batch sizes; TypeError or ValueError unless the tokens are a tensor [N, I] that these sizes divide."""
    x = dense("x.data", sequences.data)
    if x.dim() != 2 or x.shape[1] != input_size:
        raise ValueError(f"x.data: expected shape [N, {input_size}], got {list(x.shape)}")
    sizes: list[int] = _counts("x.batch_sizes", sequences.batch_sizes).tolist()
    if not sizes or sizes[-1] < 1 or sorted(sizes, reverse=True) != sizes or sum(sizes) != len(x):
        raise ValueError(f"x.batch_sizes: expected sizes of 1 or more that never rise and sum to {len(x)}, got {sizes}")
    for name in ("sorted_indices", "unsorted_indices"):
        order = getattr(sequences, name)
        if order is not None and _counts(f"x.{name}", order).shape != (sizes[0],):
            raise ValueError(f"x.{name}: expected shape [{sizes[0]}], got {list(order.shape)}")
    return sizes


def _counts(name: str, value: Any) -> Tensor:
    counts = dense(name, value)
    if counts.dim() != 1 or counts.dtype != torch.int64:
        raise TypeError(f"{name}: expected int64 in one dimension, got {dtype_name(counts.dtype)} {list(counts.shape)}")
    return counts


def state(value: Any, L: int, rows: tuple[int, ...], sizes: Sequence[int]) -> list[Tensor]:
    """h, c, h_hat and c_hat; TypeError or ValueError unless each is [L, *rows, size] or [*rows, size]."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"state: expected None or a tuple (h, c, h_hat, c_hat), got {type(value).__name__}")
    if len(value) != 4:
        raise ValueError(f"state: expected 4 tensors (h, c, h_hat, c_hat), got {len(value)}")
    parts = []
    for name, part, size in zip(LayerState._fields, value, sizes, strict=True):
        part = dense(f"state ({name})", part)
        shapes = (L, *rows, size), (*rows, size)
        if part.shape not in shapes:
            stacked, plain = map(list, shapes)
            raise ValueError(f"state ({name}): expected shape {stacked} or {plain}, got {list(part.shape)}")
        parts.append(part)
    return parts


def like_parameters(weight: Tensor, x: Tensor, start: LayerState) -> None:
    """Raise ValueError for x or a state that has another dtype or device than the parameters."""
    for name, q in zip(("x", *LayerState._fields), (x, *start), strict=True):
        if q.dtype != weight.dtype or q.device != weight.device:
            argument = name if name == "x" else f"state ({name})"
            raise ValueError(
                f"{argument}: expected {dtype_name(weight.dtype)} on {weight.device} as the parameters are, "
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
    """Raise ValueError for the first parameter of a layer that is not as it should be.

    shapes: of those that the layer should have, by name. autocasts: all dtypes but float64 are cast to one.
    """
    for name, q in params.items():
        shape = shapes.get(name)
        if q is None and shape is None:
            continue
        if q is None:
            raise ValueError(f"{prefix}{name}: expected a parameter of shape {list(shape or ())}, got None")
        own_dtype = q.dtype if autocasts and torch.float64 not in (dtype, q.dtype) else dtype
        if q.shape != shape or q.device != where or q.dtype != own_dtype:
            expected = "None" if shape is None else f"{list(shape)} in {dtype_name(own_dtype)} on {where}"
            raise ValueError(
                f"{prefix}{name}: expected {expected}, got {list(q.shape)} in {dtype_name(q.dtype)} on {q.device}"
            )
