"""Cases at which the module is used in many ways, a model and numbers for them, and how results are compared."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from impls import HyperLSTM
from suite.cases.case import Case
from suite.cases.verification import TWO_LAYERS
from suite.comparison.draws import DRAWS, Build, Draw, model_and_draw
from suite.comparison.runs import Outcome, by_output, plain
from suite.comparison.tensors import Arguments, Gradient, Results
from suite.comparison.tolerance import assert_within_rule, evaluate

F32 = torch.float32
#: Results of a call of a model on the numbers of a draw.
Call = Callable[[HyperLSTM, Case, Draw], Results]
CASE = replace(TWO_LAYERS, T=3, layer_norm=True, state="none", strided=False)
#: For graphs, which contain every step of a loop in Python.
TRACED = replace(CASE, T=2, L=1)
#: A packed batch that is not sorted by length, and masks, which a seed makes the same everywhere.
PACKED = replace(TRACED, lengths=(1, 2, 1))
DROPPED = replace(TRACED, recurrent_dropout=0.5)
#: In evaluation mode, without dropout.
KEPT = replace(DROPPED, training=False)
#: From a state, with sizes that differ from each other.
STATED = Case(T=6, B=3, I=4, H=6, S=5, Z=2, L=2, layer_norm=True, state="stacked")


def model_and_input(
    name: str, device: torch.device, case: Case = STATED
) -> tuple[HyperLSTM, Tensor, tuple[Tensor, ...]]:
    """Draw 0 of a case, without a state an empty one."""
    model, sample = model_and_draw(name, case, F32, device)
    return model, sample.x, sample.state or ()


def agrees(build: Build, case: Case, device: torch.device, call: Call = plain) -> None:
    """Compare the results of a call in float32 with the oracle by the tolerance rule; it changes no argument."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        return Outcome(call(model, case, sample))

    outcome = evaluate(build, case, F32, device, rounded=F32, run=run)
    assert not outcome.findings, ", ".join(map(str, outcome.findings))
    assert_within_rule(outcome.results, case, device, DRAWS)


def by_grad(model: HyperLSTM, sample: Draw) -> Results:
    """out, final states and every gradient, by torch.autograd.grad: of calls that share a model none writes to it."""
    x = sample.x.detach().requires_grad_()
    leaves: Arguments = {"x": x, **dict(model.named_parameters())}
    results = by_output(*model(x))
    gradients = torch.autograd.grad(list(results.values()), list(leaves.values()), sample.cotangents)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        results[Gradient(leaf)] = gradient
    return results
