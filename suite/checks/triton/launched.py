"""The kernels of a training step of `batched_cuda` at full size, recorded on meta tensors: nothing is computed."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple
from unittest import mock

import torch

from impls import HyperLSTM
from impls.definition import Inputs, LayerParams, LayerState, Mask, dtype_name
from impls.gradient import chunks, operator
from impls.registry import find
from suite.cases.case import Case
from suite.checks.triton import TRITON
from suite.shared.arithmetic import Arithmetic
from suite.shared.usage import Called

META = torch.device("meta")


class Kernel(NamedTuple):
    """A kernel as a pass starts it: all that Triton compiles it for but the card."""

    module: str
    name: str
    arguments: tuple[tuple[str, str], ...]  # of each the dtype of a tensor, or the type: int, float or NoneType
    constants: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, kernel: Any, values: Mapping[str, Any], options: Mapping[str, Any]) -> "Kernel":
        """The kernel of a launch; values: its arguments and constants by name. options: Triton's."""
        parameters = inspect.signature(kernel.fn).parameters
        arguments, constants = {}, {}
        for name in kernel.arg_names:
            value = values[name]
            if parameters[name].annotation is not inspect.Parameter.empty:
                constants[name] = value
            else:
                arguments[name] = dtype_name(value.dtype) if hasattr(value, "dtype") else type(value).__name__
        of_launch = (tuple(each.items()) for each in (arguments, constants, options))
        return cls(kernel.fn.__module__, kernel.fn.__name__, *of_launch)


def recorded(case: Case, card: Any, arithmetic: str, alone: bool | None = None) -> tuple[list[Kernel], list[str]]:
    """The kernels that a training step of one layer starts on a card, forward first, and the torch operators it calls.

    The sequence is not cut into chunks. Without training, the step is forward alone, without gradient and without a
    mask. arithmetic: of `split.Sizes`. alone: as of `either_split`, or None.
    """
    from impls.batched_cuda import launching, layout, split  # import Triton, which may be missing

    kernels: list[Kernel] = []
    operators = Called()

    def start(kernel: Any, programs: int, values: Mapping[str, Any], device: torch.device, **options: Any) -> None:
        kernels.append(Kernel.of(kernel, values, options))

    I, H, S, Z, B = case.I, case.H, case.S, case.Z, case.B
    new: dict[str, Any] = {"dtype": Arithmetic(arithmetic).dtype, "device": META}
    layer = HyperLSTM(I, H, S, Z, 1, layer_norm=case.layer_norm, **new).layers[0]
    p = LayerParams._make(getattr(layer, name) for name in LayerParams._fields)
    over = (case.tokens,) if case.lengths else (case.T, B)
    x = torch.zeros(*over, I, **new)
    d_out = torch.zeros(*over, H, **new)
    s = LayerState(*(torch.zeros(B, F, **new) for F in (H, H, S, S)))
    mask = None
    if case.recurrent_dropout and case.training:
        kept = torch.ones(*over, H, device=META, dtype=torch.bool)
        mask = Mask(kept, 1 / (1 - case.recurrent_dropout))
    with (
        mock.patch.object(launching, "start", start),
        mock.patch.object(split.Card, "of", return_value=card),
        mock.patch.object(layout, "arithmetic", return_value=arithmetic),
        mock.patch.object(operator, "_observed", return_value=False),
        chunks.limited("meta", forward=1 << 62, backward=1 << 62, rows=1 << 62, residuals=True),
        nullcontext() if alone is None else either_split(alone),
        torch.set_grad_enabled(case.training),
        operators,
    ):
        out, _ = find(TRITON).run(p, Inputs(x, s, mask, case.batch_sizes))
        if case.training:
            torch.autograd.grad(out, p.present(), d_out)
    return kernels, operators.names


@contextmanager
def either_split(alone: bool) -> Iterator[None]:
    """Split passes into groups of one member, or of several if the card has room for them, while open."""
    from impls.batched_cuda import split

    cost = split.cost
    uncached = split._split.__wrapped__
    with (
        mock.patch.object(split, "cost", lambda candidate: (candidate.alone != alone, *cost(candidate))),
        mock.patch.object(split, "_split", uncached),
    ):
        yield
