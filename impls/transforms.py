"""What `torch.func` needs of an operator and `torch.library` does not give it: vmap, and a gradient under transforms.

A `torch.library` operator with a backward of its own raises under every transform. Here the same operator stands in an
autograd function that transforms can see into. vmap runs the samples one after the other: the numbers are those of a
loop in Python, and so is the time.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

#: (what is no tensor, tensors) -> tensors
Call = Callable[..., tuple[Tensor, ...]]
Derivative = Callable[..., tuple[Tensor | None, ...]]


def active() -> bool:
    """Return whether a transform of torch.func is running; torch.compile traces transforms in its own way."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def transformable(call: Call, save: Callable[..., None], derivative: Derivative) -> Call:
    """Return call as a function that torch.func can transform.

    call: (static, *tensors) -> tensors, where static is one argument without a gradient.
    save: (ctx, tensors, outputs) puts away what derivative: (ctx, *gradients) -> gradients of the tensors needs.
    """

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(static: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
            return call(static, *tensors)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
            save(ctx, inputs[1:], output)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
            return (None, *derivative(ctx, *gradients))

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], static: Any, *tensors: Tensor) -> tuple[tuple[Tensor, ...], int]:
            def sample(n: int) -> list[Tensor]:
                return [q if dim is None else q.select(dim, n) for q, dim in zip(tensors, in_dims[1:], strict=True)]

            samples = [apply(static, *sample(n)) for n in range(info.batch_size)]
            return tuple(torch.stack(parts) for parts in zip(*samples, strict=True)), 0

    apply: Call = Function.apply
    return apply


def no_second_derivative(name: str) -> NoReturn:
    """Raise NotImplementedError for an implementation, and name those that have one."""
    from .registry import IMPLS  # the table knows all rungs; none of them knows the table before it has to say this

    able = ", ".join(impl.name for impl in IMPLS if impl.twice_differentiable)
    raise NotImplementedError(f"{name} has no second derivative; these have: {able}")


class _Passed(torch.autograd.Function):
    """A gradient on its way out."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, name: str) -> Tensor:
        ctx.name = name
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> NoReturn:
        no_second_derivative(ctx.name)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, name: str) -> Tensor:
        ctx.name = name
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Passed.apply(gradients[0], ctx.name), None


def once(value: Tensor, name: str) -> Tensor:
    """Return the value; a second derivative through it raises in the words of `no_second_derivative`."""
    result: Tensor = _Once.apply(value, name)
    return result
