"""Options in pairs: calls of a covering array, each as a case and a use.

A case has the sizes of a call and some of its options, such as its lengths and its layer norm; the use has the others.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from impls import HyperLSTM
from impls.gradient.chunks import limited
from suite.cases.case import Case
from suite.checks.equality.covering import covering_calls
from suite.checks.equality.extremes import FAR_FROM_0, LARGE_CELLS
from suite.checks.equality.gradients import with_cotangents_of, without_other_gradients
from suite.checks.equality.layouts import OF_ALL_TENSORS, in_layouts, layout_of_tokens
from suite.checks.equality.leftovers import watched
from suite.checks.equality.options import LAYER_OPTIONS, OPTIONS, Call, Domains, Form, Masks, Trained
from suite.checks.equality.tasks import Group
from suite.checks.equality.use import AutocastMode, Use
from suite.comparison.draws import Draw, inputs
from suite.comparison.runs import Outcome, Returned, Run, Selector, State, packed, run_plain
from suite.comparison.tensors import H_HAT, C, Finding, Kind, Output, Wrong, X, parameter

#: Lengths of the sequences of packed forms. The permutation that sorts UNSORTED is not its own inverse, so that to
#: confuse the two would show.
LENGTHS = {Form.SORTED: (3, 2, 1), Form.UNSORTED: (1, 3, 2)}


class Rates(NamedTuple):
    """Probabilities of dropping, as a `Case` has them."""

    dropout: float
    recurrent_dropout: float


RATES = {
    Masks.NONE: Rates(0.0, 0.0),
    Masks.DROPOUT: Rates(0.25, 0.0),
    Masks.RECURRENT: Rates(0.0, 0.4),
    Masks.BOTH: Rates(0.25, 0.4),
    Masks.EVAL: Rates(0.25, 0.4),
}
#: Whether a parameter, x, or a part of the state requires a gradient.
SELECTORS: dict[Trained, Selector] = {
    Trained.ALL: lambda leaf: True,
    Trained.X: lambda leaf: leaf == X,
    Trained.PARAMETERS: lambda leaf: leaf.kind is Kind.PARAMETER,
    Trained.BIASES: lambda leaf: leaf.role is not None and leaf.role.of_bias,
    Trained.STATE: lambda leaf: leaf.kind is Kind.STATE,
    Trained.STATE_C: lambda leaf: leaf == C,
    Trained.STATE_H_HAT: lambda leaf: leaf == H_HAT,
    Trained.NOTHING: lambda leaf: False,
}


def case_of(call: Call) -> Case:
    """The sizes of a call, and the options that a case has."""
    rates = RATES[call.masks]
    one_step = call.form is Form.ALONE and call.batch_first  # an axis to lose by mistake
    T = 1 if one_step else 3
    if call.form is Form.NO_STEPS:
        T = 0
    H, S = (72, 64) if call.extreme else (7, 6)  # the more units, the less a lost digit is chance
    return Case(
        T=T,
        B={Form.ALONE: 1, Form.NO_ROWS: 0}.get(call.form, 3),
        I=4,
        H=H,
        S=S,
        Z=2,
        L=call.layers,
        layer_norm=call.layer_norm,
        state=call.state,
        lengths=LENGTHS.get(call.form, ()),
        dropout=rates.dropout,
        recurrent_dropout=rates.recurrent_dropout,
        training=call.masks is not Masks.EVAL,
    )


def use_of(call: Call) -> Use:
    """The options of a call that a case does not have."""
    return Use(
        call.name,
        run=_run_of(call),
        expected=partial(without_other_gradients, SELECTORS[call.trained]),
        change_draw=partial(_draw_of, call),
        extreme=call.extreme,
        autocast=call.autocast,
        gradient=call.trained is not Trained.NOTHING,
        residuals=not call.recomputed,
    )


def _draw_of(call: Call, sample: Draw) -> Draw:
    """A draw with the numbers of a call, and zero for the cotangents that do not arrive."""
    if call.extreme:
        change = FAR_FROM_0 if call.layer_norm else LARGE_CELLS
        sample = change(sample)
    return with_cotangents_of(call.arriving, sample)


def _run_of(call: Call) -> Run:
    """The run of a call, from the inside out: in its form, on tensors in its layout, with its settings."""
    select = SELECTORS[call.trained]
    in_form = partial(run_plain, select=select, arriving=call.arriving, call=partial(_in_form, call))
    in_layout = in_layouts(OF_ALL_TENSORS[call.layout], in_form)
    # Watched inside the settings, since leaving them restores what a call changed of them.
    return _with_settings(call, watched(_with_graph_checked(select, in_layout)))


def _in_form(call: Call, model: nn.Module, case: Case, x: Tensor, state: State | None) -> Returned:
    """Call the model on sequences in the form of a call; one alone is a view of rows that are longer."""
    alone = call.form is Form.ALONE
    turned = call.batch_first and not (alone or case.lengths)
    if alone:
        x = pad(x[:, 0], (0, 1))[:, :-1]
        state = state and tuple(part[..., 0, :] for part in state)
    elif turned:
        x = x.transpose(0, 1).contiguous()
    out, last = packed(model, case, x, state, layout_of_tokens(OF_ALL_TENSORS[call.layout]))
    if alone:
        return out.unsqueeze(1), tuple(part.unsqueeze(1) for part in last)
    return out.transpose(0, 1) if turned else out, last


def _with_graph_checked(select: Selector, of: Run) -> Run:
    """A run with a finding if out has a graph although nothing requires a gradient, or none although something does."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        outcome = of(model, case, sample)
        given = inputs(sample) if case.T else [X]  # without steps out is no function of the state
        expects_graph = any(map(select, [*given, *map(parameter, sample.params)]))
        has_graph = outcome.results[Output.OUT].requires_grad
        if has_graph == expects_graph:
            return outcome
        finding = Finding(Wrong.UNEXPECTED_GRAPH if has_graph else Wrong.MISSING_GRAPH, Output.OUT)
        return outcome._replace(findings=(*outcome.findings, finding))

    return run


def _with_settings(call: Call, of: Run) -> Run:
    """A run with what a call sets: of the model, of hand-written gradients, and autocast."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        device = sample.x.device.type
        short = {"forward": 1, "backward": 1} if call.stepwise else {}
        autocast = torch.autocast(device, torch.bfloat16, enabled=call.autocast is not AutocastMode.EXACT)
        model.batch_first = call.batch_first
        with limited(device, residuals=not call.recomputed, **short), autocast:
            outcome = of(model, case, sample)
        model.batch_first = False
        return outcome

    return run


class Combination(NamedTuple):
    """The case and the use of a call."""

    call: Call
    case: Case
    use: Use

    @property
    def group(self) -> Group:
        """The use alone, by its name."""
        return Group(self.use.name, (self.use,))


def combinations(domains: Domains) -> list[Combination]:
    """The calls that cover all pairs of these values, each with its case and its use."""
    return [Combination(call, case_of(call), use_of(call)) for call in covering_calls(domains)]


COMBINATIONS = combinations(OPTIONS)
#: Of a layer alone, where calls take long.
OF_A_LAYER = combinations(LAYER_OPTIONS)
