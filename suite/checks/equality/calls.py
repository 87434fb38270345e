"""Uses that call a model in another way: without a gradient, in pieces, observed, or after other calls."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor
from torch._subclasses.fake_utils import CrossRefFakeMode

from impls import HyperLSTM
from impls.gradient.chunks import NUMBERS
from suite.cases.case import Case
from suite.checks.equality.comparisons import Use, Uses
from suite.checks.equality.gradients import in_chunks
from suite.comparison.draws import Draw
from suite.comparison.runs import (
    Outcome,
    Run,
    arguments,
    backward,
    by_output,
    gradients,
    outputs,
    plain,
    run_plain,
    state_of,
)
from suite.comparison.tensors import OUTPUTS, Results


def _in_pieces(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """The steps in several calls, two of them without a step, which pass on the state before any goes backward."""
    leaves = arguments(model, sample)
    state = state_of(leaves)
    outs: list[Tensor] = []
    half = case.T // 2
    for steps in leaves["x"].split([0, 1, 0, half, case.T - 1 - half]):
        out, state = model(steps, state)
        outs.append(out)
    results = by_output(torch.cat(outs), state or ())
    backward(results, sample)
    return Outcome(results | gradients(leaves))


def _after_other_sizes(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """The call repeated, with calls of other sizes in between, each followed by one without a gradient."""
    plain(model, case, sample)
    for rows, steps in ((1, 1), (2, case.T), (case.B, 1)):
        state = sample.state and tuple(part[..., :rows, :] for part in sample.state)
        x = sample.x[:steps, :rows]
        d_out, *d_last = sample.cotangents
        cotangents = (d_out[:steps, :rows], *(d[..., :rows, :] for d in d_last))
        plain(model, replace(case, T=len(x), B=rows, lengths=()), Draw(sample.params, x, state, cotangents))
        with torch.no_grad():
            model(x)
    return run_plain(model, case, sample)


def _outputs(results: Results) -> Results:
    return {name: results[name] for name in OUTPUTS}


def _without_gradient(mode: Callable[[], AbstractContextManager[object]]) -> Run:
    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        with mode():
            return Outcome(outputs(model, case, arguments(model, sample)))

    return run


INFERENCE: Uses = (
    Use("inference_mode", _without_gradient(torch.inference_mode), _outputs, gradient=False),
    Use("no_grad", _without_gradient(torch.no_grad), _outputs, gradient=False),
    # Chunks of two and three steps, the shorter ones first.
    Use("no_grad in chunks", in_chunks(3 * NUMBERS, of=_without_gradient(torch.no_grad)), _outputs, gradient=False),
)


def observed(of: Run) -> Run:
    """A run under a dispatch mode, where hand-written gradients are operators, which are compared with their fakes."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        with CrossRefFakeMode(ignore_op_fn=lambda op: op.namespace in ("aten", "prim")):
            return of(model, case, sample)

    return run


#: The uses share one model. The first one runs in inference mode, of which nothing may break training afterwards.
CALLS: Uses = (
    *INFERENCE,
    Use("in pieces", _in_pieces),
    Use("observed", observed(run_plain)),
    Use("after calls of other sizes", _after_other_sizes),
)
