"""Uses whose results follow from those of a plain call: what trains, what gradients arrive, how a model is called.

The expected results are those of the oracle, which is called in the plain way.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch._subclasses.fake_utils import CrossRefFakeMode

from impls import HyperLSTM
from impls.definition import LayerParams
from impls.gradient.chunks import NUMBERS, limited
from suite.cases.case import Case
from suite.checks.equality.use import Use
from suite.comparison.oracle import (
    Draw,
    Outcome,
    Run,
    arguments,
    backward,
    by_name,
    gradients,
    named,
    outputs,
    plain,
    run_plain,
    state_of,
)
from suite.comparison.tensors import (
    ARRIVING,
    GATE_BIASES,
    GATE_NORM_BIASES,
    OUTPUTS,
    STATE,
    Argument,
    Gradient,
    Kind,
    Results,
    X,
    parameter,
)

#: The numbers of an argument from those of a draw.
Change = Callable[[Argument, Tensor], Tensor]


def changed(sample: Draw, change: Change) -> Draw:
    """Change the numbers of a draw."""
    new = {argument: change(argument, value) for argument, value in named(sample).items()}
    params = {name: new[parameter(name)] for name in sample.params}
    state = sample.state and tuple(new[part] for part in STATE)
    cotangents = tuple(new[arriving] for arriving in ARRIVING)
    return Draw(params, new[X], state, cotangents)


def _outputs(results: Results) -> Results:
    return {name: results[name] for name in OUTPUTS}


# What requires a gradient

#: Whether an argument does.
Trains = Callable[[Argument], bool]


def of_trained(trains: Trains, results: Results) -> Results:
    """Results without the gradients of arguments that do not require one."""
    return {name: value for name, value in results.items() if not isinstance(name, Gradient) or trains(name.of)}


def _training(name: str, trains: Trains) -> Use:
    return Use(name, partial(run_plain, select=trains), partial(of_trained, trains))


def _alone(part: str) -> Use:
    """The parameter of that name, in each layer."""
    return _training(f"{part} alone", lambda leaf: leaf.kind is Kind.PARAMETER and leaf.part == part)


#: A parameter alone shows all that its gradient depends on; `pairs.py` has other combinations.
FROZEN = (
    *map(_alone, LayerParams._fields),
    _training("parameters alone", lambda leaf: leaf.kind is Kind.PARAMETER),
    _training("x alone", lambda leaf: leaf == X),
    _training("h alone", lambda leaf: leaf == Argument(Kind.STATE, "h")),
)


# The gradients that arrive


def _scaled(factor: float) -> Use:
    """Each gradient of the outputs is multiplied by a factor."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        scaled = tuple(factor * cotangent for cotangent in sample.cotangents)
        return run_plain(model, case, sample._replace(cotangents=scaled))

    return Use(f"gradients times {factor:g}", run, partial(_times, factor))


def _times(factor: float, results: Results) -> Results:
    """Results of which the gradients are multiplied by a factor."""
    return {name: value * factor if isinstance(name, Gradient) else value for name, value in results.items()}


def without_others(sample: Draw, arriving: Collection[str]) -> Draw:
    """Leave some of the outputs' gradients, and make the others zero."""
    cotangents = [
        cotangent if name in arriving else torch.zeros_like(cotangent)
        for name, cotangent in zip(OUTPUTS, sample.cotangents, strict=True)
    ]
    return sample._replace(cotangents=tuple(cotangents))


def _backward_twice(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    leaves = arguments(model, sample)
    results = outputs(model, case, leaves)
    for retain_graph in (True, False):
        torch.autograd.backward(list(results.values()), sample.cotangents, retain_graph=retain_graph)
    return Outcome(results | gradients(leaves))


def _in_chunks(numbers: int, residuals: bool = True, of: Run = run_plain) -> Run:
    """A run in chunks; numbers: array elements of a chunk per element of out, of which a step takes 10 to 40."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        limit = numbers * case.B * case.H * sample.x.element_size()
        with limited(sample.x.device.type, forward=limit, backward=limit, residuals=residuals):
            return of(model, case, sample)

    return run


def _chunked(numbers: int, residuals: bool) -> Use:
    name = f"chunks of {numbers} numbers, residuals {residuals}"
    return Use(name, _in_chunks(numbers, residuals), residuals=residuals)


GRADIENTS = (
    _scaled(1e4),
    _scaled(1e-4),
    Use("backward twice", _backward_twice, partial(_times, 2)),
    _chunked(20, residuals=True),
    _chunked(40, residuals=False),
    _chunked(80, residuals=True),
    _chunked(80, residuals=False),
)


# Calls


def _in_pieces(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """The steps in several calls, two of them without a step, which pass on the state before any goes backward."""
    leaves = arguments(model, sample)
    state = state_of(leaves)
    outs: list[Tensor] = []
    half = case.T // 2
    for steps in leaves[X].split([0, 1, 0, half, case.T - 1 - half]):
        out, state = model(steps, state)
        outs.append(out)
    results = by_name(torch.cat(outs), state or ())
    backward(results, sample)
    return Outcome(results | gradients(leaves))


def _after_other_sizes(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """The call repeated, with calls of other sizes in between, of which one has no gradient."""
    plain(model, case, sample)
    for rows, steps in ((1, 1), (2, case.T), (case.B, 1)):
        state = sample.state and tuple(part[..., :rows, :] for part in sample.state)
        d_out, *d_last = sample.cotangents
        x = sample.x[:steps, :rows]
        cotangents = (d_out[:steps, :rows], *(d[..., :rows, :] for d in d_last))
        plain(model, replace(case, lengths=()), Draw(sample.params, x, state, cotangents))
        with torch.no_grad():
            model(x)
    return run_plain(model, case, sample)


def _without_gradient(mode: Callable[[], AbstractContextManager[object]]) -> Run:
    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        with mode():
            return Outcome(outputs(model, case, arguments(model, sample)))

    return run


INFERENCE = (
    Use("inference_mode", _without_gradient(torch.inference_mode), _outputs),
    Use("no_grad", _without_gradient(torch.no_grad), _outputs),
    # Of two and three steps, the shorter ones first.
    Use("no_grad in chunks", _in_chunks(3 * NUMBERS, of=_without_gradient(torch.no_grad)), _outputs),
)


def observed(of: Run) -> Run:
    """A run under a dispatch mode, where hand-written gradients are operators, which are compared with their fakes."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        with CrossRefFakeMode(ignore_op_fn=lambda op: op.namespace in ("aten", "prim")):
            return of(model, case, sample)

    return run


#: Of one model, whose first call, in inference mode, leaves nothing that training cannot read.
CALLS = (
    *INFERENCE,
    Use("in pieces", _in_pieces),
    Use("observed", observed(run_plain)),
    Use("after calls of other sizes", _after_other_sizes),
)


# Values at which a formula that is right elsewhere overflows or loses its digits


_CELLS = (Argument(Kind.STATE, "c"), Argument(Kind.STATE, "c_hat"))


def _shifted(argument: Argument, value: Tensor) -> Tensor:
    """Under layer norm, the means of gates and cells are many deviations from 0; an open forget gate keeps them."""
    if argument.part in GATE_BIASES:
        return value + 30
    if argument.part in GATE_NORM_BIASES:
        return value + value.new_tensor([0.0, 10.0, 0.0, 0.0])[:, None]
    return value + 100 if argument in _CELLS else value


def _saturated(argument: Argument, value: Tensor) -> Tensor:
    """Without layer norm, most of the exponentials of a sigmoid or tanh overflow, even in float64."""
    magnified = argument.part in GATE_BIASES or argument in _CELLS
    return value.where(value.abs() < 1, 1000 * value) if magnified else value


def _large_cells(argument: Argument, value: Tensor) -> Tensor:
    """Without layer norm, cells so large that a difference of two has lost the digits of i g, and open forget gates."""
    if argument.part in GATE_BIASES:
        return value + value.new_tensor([0.0, 100.0, 0.0, 0.0])[:, None]
    return 1000 * value if argument in _CELLS else value


def _near_0(argument: Argument, value: Tensor) -> Tensor:
    """Without layer norm, gates and cells so small that tanh by a quotient of exponentials has lost most digits."""
    shrinks = argument.kind in (Kind.X, Kind.STATE) or argument.part in GATE_BIASES
    return 1e-5 * value if shrinks else value


def _extreme(name: str, change: Change) -> Use:
    return Use(name, run_plain, numbers=partial(changed, change=change), extreme=True)


MEANS_FAR_FROM_0 = (_extreme("means far from 0", _shifted),)
SATURATED = (
    _extreme("gates and cells overflow", _saturated),
    _extreme("cells stay large", _large_cells),
    _extreme("near 0", _near_0),
)
