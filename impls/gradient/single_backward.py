"""Gradients that cannot be differentiated once more: to try is an error, and never a gradient that is silently zero."""

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..registry import differentiated_by_autograd


def no_second_derivative(name: str) -> NoReturn:
    """Raise NotImplementedError for an implementation, and name those that have a second derivative."""
    raise NotImplementedError(f"{name} has no second derivative; these have: {differentiated_by_autograd()}")


class _Gradients(torch.autograd.Function):
    """The identity on gradients, a function of all that they depend on, whose own backward raises."""

    @staticmethod
    def forward(ctx: Any, name: str, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(gradient.view_as(gradient) for gradient in tensors[:n])

    @staticmethod
    def backward(ctx: Any, *_: Any) -> NoReturn:
        no_second_derivative(ctx.name)


def single_backward(name: str, gradients: Sequence[Tensor], depend_on: Iterable[Tensor | None]) -> list[Tensor]:
    """Gradients as they are, but to differentiate one by what it depends on raises NotImplementedError."""
    if not torch.is_grad_enabled():  # nobody can ask for a second derivative
        return list(gradients)
    others = (q for q in depend_on if q is not None)
    return list(_Gradients.apply(name, len(gradients), *gradients, *others))
