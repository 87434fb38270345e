"""Gradients that cannot be differentiated once more: to try is an error, and never a gradient that is silently zero."""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..registry import IMPLS


def no_second_derivative(name: str) -> NoReturn:
    """Raise NotImplementedError for an implementation, and name those that have a second derivative."""
    able = ", ".join(impl.name for impl in IMPLS if impl.twice_differentiable)
    raise NotImplementedError(f"{name} has no second derivative; these have: {able}")


class _Gradients(torch.autograd.Function):
    """The identity on gradients, whose own backward raises."""

    @staticmethod
    def forward(ctx: Any, name: str, *gradients: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(gradient.view_as(gradient) for gradient in gradients)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> NoReturn:
        no_second_derivative(ctx.name)


def single_backward(name: str, gradients: Sequence[Tensor]) -> list[Tensor]:
    """Gradients as they are, but where a graph of them is recorded, to differentiate one raises NotImplementedError."""
    if not torch.is_grad_enabled():
        return list(gradients)
    return list(_Gradients.apply(name, *(gradient.detach().requires_grad_() for gradient in gradients)))


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, name: str) -> Tensor:
        ctx.name = name
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return single_backward(ctx.name, gradients)[0], None


def once_differentiable(value: Tensor, name: str) -> Tensor:
    """The value itself; a second derivative through it raises NotImplementedError, as of `single_backward`."""
    result: Tensor = _Value.apply(value, name)
    return result
