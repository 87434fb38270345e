"""What `torch.func` needs of an operator beyond what `torch.library` gives: vmap, and a gradient under transforms.

An operator with `register_autograd` raises under every transform. Here it is wrapped in a `torch.autograd.Function`,
which transforms support. vmap runs the samples one after the other: it takes the time of a loop in Python.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

#: Takes and returns tensors, lists of tensors, and other values.
Call = Callable[..., Any]


def active() -> bool:
    """Return whether a transform of torch.func is running; torch.compile traces transforms in its own way."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


class _Context:
    """The context of a function with flattened arguments, with `needs_input_grad` nested as the arguments were."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    @property
    def needs_input_grad(self) -> Any:
        return self._ctx.signature.given(self._ctx.needs_input_grad[1:])


class _Signature:
    """How the flat arguments and results of one call are nested."""

    def __init__(self, spec: TreeSpec) -> None:
        self.arguments, self.results = spec, spec

    def given(self, flat: Sequence[Any]) -> Any:
        return tree_unflatten(flat, self.arguments)

    def made(self, flat: Sequence[Any]) -> Any:
        return tree_unflatten(flat, self.results)

    def flat(self, results: Any) -> tuple[Any, ...]:
        leaves, self.results = tree_flatten(results)
        return tuple(leaves)


def transformable(call: Call, setup_context: Callable[..., None], backward: Call) -> Call:
    """Return call as a function that torch.func can transform.

    setup_context, backward: as `torch.library.register_autograd` takes them.
    """

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(signature: _Signature, *flat: Any) -> tuple[Any, ...]:
            return signature.flat(call(*signature.given(flat)))

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
            signature, *flat = inputs
            ctx.signature = signature
            setup_context(ctx, signature.given(flat), signature.made(output))

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
            grads = backward(_Context(ctx), *ctx.signature.made(gradients))
            return (None, *tree_leaves(grads))

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], signature: _Signature, *flat: Any) -> tuple[Any, Any]:
            def sample(n: int) -> list[Any]:
                return [q if dim is None else q.select(dim, n) for q, dim in zip(flat, in_dims[1:], strict=True)]

            samples = [signature.flat(function(*signature.given(sample(n)))) for n in range(info.batch_size)]
            return tuple(torch.stack(parts) for parts in zip(*samples, strict=True)), 0

    def function(*arguments: Any) -> Any:
        flat, spec = tree_flatten(arguments)
        signature = _Signature(spec)
        return signature.made(Function.apply(signature, *flat))

    return function


def no_second_derivative(name: str) -> NoReturn:
    """Raise NotImplementedError for an implementation, and name those that have one."""
    from .registry import IMPLS  # which imports implementations only when asked for one

    able = ", ".join(impl.name for impl in IMPLS if impl.twice_differentiable)
    raise NotImplementedError(f"{name} has no second derivative; these have: {able}")


class _Passed(torch.autograd.Function):
    """The identity on a gradient, which has no gradient itself."""

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
