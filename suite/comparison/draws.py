"""Random numbers of a case, and the models that take them."""

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from impls import HyperLSTM
from impls.definition import Role
from impls.registry import AUTO, ORACLE, UnsupportedError, find
from suite.cases.case import Case
from suite.comparison.tensors import OUTPUTS, STATE, Arguments, role

#: Number of draws of a case; their results are stacked, so that the rule is about norms over enough numbers.
DRAWS = 4


class Draw(NamedTuple):
    """Random parameters, input, start and cotangents of one case.

    cotangents: the gradients that arrive at the outputs of a model, in the order of `OUTPUTS`.
    """

    params: dict[str, Tensor]
    x: Tensor
    state: tuple[Tensor, ...] | None
    cotangents: tuple[Tensor, ...]


#: Modifies a draw.
DrawChange = Callable[[Draw], Draw]
#: Builds the model of a case.
Build = Callable[[Case, torch.dtype, torch.device], HyperLSTM]


@cache
def implementation(name: str, cls: type[HyperLSTM] = HyperLSTM) -> Build:
    """A builder of a case's HyperLSTM, of that class and with that implementation.

    It raises UnsupportedError before a call would, whose error torch.compile replaces by another.
    """

    def build(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
        reason = None if name == AUTO else find(name).lacking(case.options, case.sizes)
        if reason:
            raise UnsupportedError(name, reason)
        model = cls(case.I, case.H, case.S, case.Z, case.L, **case.arguments, impl=name, dtype=dtype, device=device)
        return model.train(case.training)

    return build


def draw(case: Case, seed: int, dtype: torch.dtype, device: torch.device) -> Draw:
    """Draw number `seed` of a case, rounded to dtype, in new memory; the same numbers on every device."""
    in_float64 = _draw(case, seed)
    drawn: Draw = tree_map_only(Tensor, lambda value: value.to(device, dtype, copy=True), in_float64)
    return drawn


def model_and_draw(name: str, case: Case, dtype: torch.dtype, device: torch.device) -> tuple[HyperLSTM, Draw]:
    """An implementation's model of a case with the parameters of draw 0, and all numbers of that draw."""
    build = implementation(name)
    model = build(case, dtype, device)
    sample = draw(case, 0, dtype, device)
    model.load_state_dict(sample.params)
    return model, sample


@lru_cache(DRAWS)  # to draw large parameters takes longer than to use them
def _draw(case: Case, seed: int) -> Draw:
    """Numbers of a draw in float64.

    Every parameter is random, since at the paper's initial values the hypernetwork is inert and hides every fault.
    Weights are scaled by their fan-in, so that gates neither saturate nor stay at their middle. The biases of a gate
    are spread evenly in random order: a gate whose units happened to be nearly equal would have a layer norm that
    magnifies rounding at will, and one such draw would decide the comparison.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return _normal(shape, generator)

    model = implementation(ORACLE)(case, torch.float64, torch.device("meta"))
    T, B, I, H, S, L = case.T, case.B, case.I, case.H, case.S, case.L
    params = {}
    for name, p in model.named_parameters():
        params[name] = _drawn_parameter(role(name), p.shape, generator)
    x = normal(B, T, I).transpose(0, 1) if case.strided else normal(T, B, I)
    state = None
    if case.state != "none":
        layers = (L,) if case.state == "stacked" else ()
        state = tuple(0.7 * normal(*layers, B, F) for F in (H, H, S, S))
    cotangents = (normal(T, B, H), *(normal(L, B, F) for F in (H, H, S, S)))
    return Draw(params, x, state, cotangents)


def _normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _drawn_parameter(role: Role | None, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Numbers of a parameter of that role."""
    match role:
        case Role.GATE_WEIGHT | Role.EMBEDDING_WEIGHT | Role.SCALE_WEIGHT:
            return _normal(shape, generator) * 0.7 / math.sqrt(shape[-1])
        case Role.GATE_BIAS:
            order = torch.rand(shape, generator=generator).argsort(dim=-1)
            even = torch.linspace(-1.5, 1.5, shape[-1], dtype=torch.float64)
            return even[order] + 0.2 * _normal(shape, generator)
        case Role.EMBEDDING_BIAS:
            return _normal(shape, generator)
        case Role.GATE_NORM_WEIGHT | Role.CELL_NORM_WEIGHT:
            return 1 + 0.3 * _normal(shape, generator)
        case Role.GATE_NORM_BIAS | Role.CELL_NORM_BIAS:
            return 0.3 * _normal(shape, generator)
    raise ValueError(f"role: expected that of a parameter of a layer, got {role}")


def inputs(sample: Draw) -> Arguments:
    """The input and the parts of a given state."""
    values = {"x": sample.x}
    if sample.state:
        values.update(zip(STATE, sample.state, strict=True))
    return values


def by_name(sample: Draw) -> Arguments:
    """All numbers of a draw: the arguments of a call, and `grad out` and so on for the cotangents."""
    cotangents = {f"grad {output}": value for output, value in zip(OUTPUTS, sample.cotangents, strict=True)}
    return inputs(sample) | sample.params | cotangents


#: The new value of an argument, from its name and its value in a draw.
ValueChange = Callable[[str, Tensor], Tensor]


def with_values(sample: Draw, change: ValueChange) -> Draw:
    """A draw with other values of the arguments of a call."""
    x, *state = (change(name, value) for name, value in inputs(sample).items())
    params = {name: change(name, value) for name, value in sample.params.items()}
    return sample._replace(params=params, x=x, state=sample.state and tuple(state))
