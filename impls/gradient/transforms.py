"""What autograd and `torch.func` need of a call on tensors and lists of them: its gradient, and vmap.

An operator of `torch.library` with a gradient raises under every transform, and takes its arguments apart in Python at
every call, which takes longer than the steps of a small layer. Here a call is wrapped in a `torch.autograd.Function`,
which transforms support. vmap runs the samples one after the other: it takes the time of a loop in Python.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

#: Takes and returns tensors, lists of tensors, and other values.
Call = Callable[..., Any]


def active() -> bool:
    """Return whether a transform of torch.func is running; torch.compile traces transforms in its own way."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def forward_mode() -> bool:
    """Return whether tangents may be about, of which a plain call would know nothing."""
    return forward_ad._current_level >= 0


def seen(tensors: Iterable[Tensor]) -> bool:
    """Return whether somebody wants to see the operators that are called, or is a tensor of another kind."""
    return torch._C._len_torch_dispatch_stack() > 0 or any(type(q) not in (Tensor, Parameter) for q in tensors)


class _Value(NamedTuple):
    """An argument without tensors."""

    value: Any


#: Where a tensor stands: alone, which is None; in a list of so many; or there is none.
Place = int | _Value | None


def flattened(values: Iterable[Any]) -> tuple[list[Any], list[Place]]:
    """Return the tensors among some values, and where each of the values has its own."""
    flat, places = list[Any](), list[Place]()
    for value in values:
        if isinstance(value, Tensor):
            flat.append(value)
            places.append(None)
        elif isinstance(value, list | tuple) and (not value or isinstance(value[0], Tensor)):
            flat.extend(value)
            places.append(len(value))
        else:
            places.append(_Value(value))
    return flat, places


def nested(flat: Iterable[Any], places: Sequence[Place]) -> list[Any]:
    """Return values again that stand for those that `flattened` had; so many of flat, in their order."""
    rest = iter(flat)
    values = list[Any]()
    for place in places:
        if place is None:
            values.append(next(rest))
        else:
            values.append(list(islice(rest, place)) if isinstance(place, int) else place.value)
    return values


class _Context:
    """The context of a function with flattened arguments, with `needs_input_grad` nested as the arguments were."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    @property
    def needs_input_grad(self) -> Any:
        return nested(self._ctx.needs_input_grad[1:], self._ctx.called.arguments)


@dataclass(frozen=True)
class Transformable:
    """A call as a function with a gradient that torch.func can transform.

    setup_context, backward: as `torch.library.register_autograd` takes them.
    """

    call: Call
    setup_context: Callable[..., None]
    backward: Call

    def __call__(self, *arguments: Any) -> Any:
        """Return what the call returns."""
        flat, places = flattened(arguments)
        called = _Called(self, places)
        return nested((_Transformed if active() else _Plain).apply(called, *flat), called.results)


class _Called:
    """One call of a function, and how the tensors among its arguments and results are nested."""

    def __init__(self, of: Transformable, arguments: Sequence[Place]) -> None:
        self.of, self.arguments, self.results = of, arguments, list[Place]()

    def run(self, call: Call, flat: Iterable[Any]) -> tuple[Any, ...]:
        """Return the tensors that the call makes of these."""
        made, self.results = flattened(call(*nested(flat, self.arguments)))
        return tuple(made)


def _backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    called: _Called = ctx.called
    grads = called.of.backward(_Context(ctx), *nested(gradients, called.results))
    flat: list[Tensor | None] = [None]
    for grad, place in zip(grads, called.arguments, strict=True):
        if place is None:
            flat.append(grad)
        elif isinstance(place, int):
            flat.extend(grad)
    return tuple(flat)


class _Plain(torch.autograd.Function):
    """For calls outside of transforms: without `setup_context`, torch does not bind a signature's arguments first."""

    @staticmethod
    def forward(ctx: Any, called: _Called, *flat: Any) -> tuple[Any, ...]:
        arguments = nested(flat, called.arguments)
        output = called.of.call(*arguments)
        made, called.results = flattened(output)
        ctx.called = called
        called.of.setup_context(ctx, arguments, output)
        return tuple(made)

    backward = staticmethod(_backward)


class _Transformed(torch.autograd.Function):
    @staticmethod
    def forward(called: _Called, *flat: Any) -> tuple[Any, ...]:
        return called.run(called.of.call, flat)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        called, *flat = inputs
        ctx.called = called
        called.of.setup_context(ctx, nested(flat, called.arguments), nested(output, called.results))

    backward = staticmethod(_backward)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], called: _Called, *flat: Any) -> tuple[Any, Any]:
        def sample(n: int) -> list[Any]:
            return [q if dim is None else q.select(dim, n) for q, dim in zip(flat, in_dims[1:], strict=True)]

        samples = [called.run(called.of, sample(n)) for n in range(info.batch_size)]
        return tuple(torch.stack(parts) for parts in zip(*samples, strict=True)), 0


# torch asks for it at every call; made anew, it takes longer than the steps of a small layer.
_Transformed.forward.__signature__ = inspect.signature(_Transformed.forward)  # type: ignore[attr-defined]


def no_second_derivative(name: str) -> NoReturn:
    """Raise NotImplementedError for an implementation, and name those that have one."""
    from ..registry import IMPLS  # which imports implementations only when asked for one

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
