"""Gradients for many cotangents at once, as `torch.autograd.grad(..., is_grads_batched=True)` asks for: one by one.

torch then calls a backward pass with batched tensors, whose own memory has an axis more than they show.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._C import _functorch

#: Level of `is_grads_batched`, which nests only around a second derivative.
_LEVEL = 1


def one_by_one(
    gradient: Callable[[Tensor | None, Sequence[Tensor | None]], list[Tensor]],
    d_out: Tensor | None,
    d_last: Sequence[Tensor | None],
) -> list[Tensor]:
    """The gradients for d_out and d_last; if these are batched, for each of them in turn, and batched as they are."""
    cotangents = (d_out, *d_last)
    batched = {n: d for n, d in enumerate(cotangents) if d is not None and _is_batched(d)}
    if not batched:
        return gradient(d_out, d_last)
    batches = {n: _unwrapped(d) for n, d in batched.items()}
    rows = []
    for each in zip(*batches.values(), strict=True):
        one = dict(zip(batches, each, strict=True))
        first, *others = (one.get(n, d) for n, d in enumerate(cotangents))
        rows.append(gradient(first, others))
    wrap = _wrap_like(next(iter(batched.values())))
    return [wrap(torch.stack(q)) for q in zip(*rows, strict=True)]


def _is_batched(d: Tensor | None) -> bool:
    return d is not None and (_functorch.is_legacy_batchedtensor(d) or _functorch.is_batchedtensor(d))


def _unwrapped(d: Tensor) -> Tensor:
    """The tensor with the axis of the batch first; NotImplementedError if it has several."""
    if _functorch.is_legacy_batchedtensor(d):
        value: Tensor = torch._remove_batch_dim(d, _LEVEL, 0, 0)
    else:
        value = _functorch.get_unwrapped(d).movedim(_functorch.maybe_get_bdim(d), 0)
    if _is_batched(value):
        raise NotImplementedError("a hand-written gradient takes one batch of cotangents, not batches of batches")
    return value


def _wrap_like(d: Tensor) -> Callable[[Tensor], Tensor]:
    """The function that hides the first axis of a tensor, as in a batched tensor d."""
    if _functorch.is_legacy_batchedtensor(d):
        return lambda value: torch._add_batch_dim(value, 0, _LEVEL)
    level = _functorch.maybe_get_level(d)
    return lambda value: _functorch._add_batch_dim(value, 0, level)
