"""Uses in which something else requires a gradient, or other gradients arrive, than in a plain call."""

from collections.abc import Collection
from functools import partial

import torch

from impls import HyperLSTM
from impls.definition import LayerParams
from impls.gradient.chunks import limited
from suite.cases.case import Case
from suite.checks.equality.comparisons import Use, Uses
from suite.comparison.draws import Draw
from suite.comparison.runs import Outcome, Run, Selector, arguments, gradients, outputs, run_plain
from suite.comparison.tensors import OUTPUTS, Gradient, Results, in_layer, is_parameter

# What requires a gradient


def without_other_gradients(select: Selector, results: Results) -> Results:
    """Results without the gradients of arguments that do not require one."""
    return {key: value for key, value in results.items() if not isinstance(key, Gradient) or select(key.of)}


def _training(name: str, select: Selector) -> Use:
    return Use(name, partial(run_plain, select=select), partial(without_other_gradients, select))


def _alone(name: str) -> Use:
    """The parameter of that name, in each layer."""
    return _training(f"{name} alone", lambda argument: in_layer(argument) == name)


#: A parameter alone shows all that its gradient depends on; `pairs.py` has other combinations.
FROZEN: Uses = (
    *map(_alone, LayerParams._fields),
    _training("parameters alone", is_parameter),
    _training("x alone", lambda argument: argument == "x"),
    _training("h alone", lambda argument: argument == "state h"),
)


# The gradients that arrive


def _scaled(factor: float) -> Use:
    """Each gradient of the outputs is multiplied by a factor."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        scaled = sample._replace(cotangents=tuple(factor * cotangent for cotangent in sample.cotangents))
        return run_plain(model, case, scaled)

    return Use(f"gradients times {factor:g}", run, partial(_times, factor))


def _times(factor: float, results: Results) -> Results:
    """Results of which the gradients are multiplied by a factor."""
    return {key: value * factor if isinstance(key, Gradient) else value for key, value in results.items()}


def with_cotangents_of(arriving: Collection[str], sample: Draw) -> Draw:
    """A draw in which the cotangents of all other outputs are zero."""
    cotangents = []
    for output, cotangent in zip(OUTPUTS, sample.cotangents, strict=True):
        cotangents.append(cotangent if output in arriving else torch.zeros_like(cotangent))
    return sample._replace(cotangents=tuple(cotangents))


def _backward_twice(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    leaves = arguments(model, sample)
    results = outputs(model, case, leaves)
    for retain_graph in (True, False):
        torch.autograd.backward(list(results.values()), sample.cotangents, retain_graph=retain_graph)
    return Outcome(results | gradients(leaves))


def in_chunks(numbers: int, residuals: bool = True, of: Run = run_plain) -> Run:
    """A run in chunks.

    numbers: array elements that a chunk may take, per element of one step's out; one step takes 10 to 40.
    """

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        limit = numbers * case.B * case.H * sample.x.element_size()
        with limited(sample.x.device.type, forward=limit, backward=limit, residuals=residuals):
            return of(model, case, sample)

    return run


def _chunked(numbers: int, residuals: bool) -> Use:
    name = f"chunks of {numbers} numbers, residuals {residuals}"
    return Use(name, in_chunks(numbers, residuals), residuals=residuals)


GRADIENTS: Uses = (
    _scaled(1e4),
    _scaled(1e-4),
    Use("backward twice", _backward_twice, partial(_times, 2)),
    _chunked(20, residuals=True),
    _chunked(40, residuals=False),
    _chunked(80, residuals=True),
    _chunked(80, residuals=False),
)
