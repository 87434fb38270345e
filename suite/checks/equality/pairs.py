"""Options in pairs: calls in which any two values of two options occur together, each as a case and a use.

A case has the sizes of a call and some of its options, such as its lengths and its layer norm; the use has the others.
The calls are a covering array, few enough to make them all.
"""

from enum import Enum, StrEnum, auto
from functools import partial
from typing import Any, NamedTuple

import torch
from covertable.main import make
from torch import Tensor, nn
from torch.nn.functional import pad

from impls import HyperLSTM
from impls.gradient.chunks import limited
from suite.cases.case import Case, Start
from suite.checks.equality.extremes import FAR_FROM_0, LARGE_CELLS
from suite.checks.equality.gradients import with_cotangents_of, without_other_gradients
from suite.checks.equality.layouts import OF_ALL_TENSORS, MemoryLayout, in_layouts, layout_of_tokens
from suite.checks.equality.leftovers import watched
from suite.checks.equality.tasks import Group
from suite.checks.equality.use import AutocastMode, Use
from suite.comparison.draws import Draw, inputs
from suite.comparison.runs import Outcome, Returned, Run, Selector, State, packed, run_plain
from suite.comparison.tensors import H_HAT, OUTPUTS, C, Finding, Kind, Output, Wrong, X, parameter


class Form(Enum):
    """The form in which a call is given its sequences."""

    BATCH = auto()
    #: One sequence, x [T, I].
    ALONE = auto()
    #: Packed, the longest first or in any order.
    SORTED = auto()
    UNSORTED = auto()
    #: T = 0 or B = 0.
    NO_STEPS = auto()
    NO_ROWS = auto()

    @property
    def empty(self) -> bool:
        """True if out has no number."""
        return self in (Form.NO_STEPS, Form.NO_ROWS)


class Masks(Enum):
    """What is dropped: the input of the second layer, g at each step, or both."""

    NONE = auto()
    DROPOUT = auto()
    RECURRENT = auto()
    BOTH = auto()
    #: What both would, in evaluation mode.
    EVAL = auto()


class Trained(StrEnum):
    """The arguments that require a gradient."""

    ALL = "all"
    X = "x"
    PARAMETERS = "parameters"
    BIASES = "biases"
    STATE = "state"
    STATE_C = "state_c"
    STATE_H_HAT = "state_h_hat"
    #: The forward pass alone.
    NOTHING = "nothing"

    @property
    def needs_state(self) -> bool:
        """True if these are parts of an initial state, which must be given."""
        return self in (Trained.STATE, Trained.STATE_C, Trained.STATE_H_HAT)


class Call(NamedTuple):
    """A call of a model, by the value of each option.

    state: as a `Case` has it.
    arriving: the outputs whose cotangents are not zero.
    stepwise: the sequence is cut into chunks of one step.
    recomputed: the backward pass computes again what hand-written gradients would else save.
    layout: of all tensors in memory.
    extreme: numbers are far from usual, where a formula may lose digits.
    """

    form: Form = Form.BATCH
    batch_first: bool = False
    layers: int = 1
    layer_norm: bool = False
    state: Start = Start.NONE
    masks: Masks = Masks.NONE
    autocast: AutocastMode = AutocastMode.EXACT
    trained: Trained = Trained.ALL
    arriving: tuple[Output, ...] = OUTPUTS
    stepwise: bool = False
    recomputed: bool = False
    layout: MemoryLayout = MemoryLayout.CONTIGUOUS
    extreme: bool = False

    @property
    def shows_little(self) -> bool:
        """True for a call that has no number, or no gradient."""
        return self.form.empty or self.trained is Trained.NOTHING

    @property
    def name(self) -> str:
        """Name of the options that differ from the default and that a `Case` does not have.

        Of the forms it has ALONE; a case shows the others.
        """
        words = [
            ("alone", self.form is Form.ALONE),
            ("batch_first", self.batch_first),
            (self.autocast, self.autocast is not DEFAULTS.autocast),
            (self.trained, self.trained is not DEFAULTS.trained),
            ("-".join(self.arriving), self.arriving != DEFAULTS.arriving),
            ("stepwise", self.stepwise),
            ("recomputed", self.recomputed),
            (self.layout, self.layout is not DEFAULTS.layout),
            ("extreme", self.extreme),
        ]
        said = [word for word, differs in words if differs]
        return f"pair-{'-'.join(said)}"


#: The default of each option.
DEFAULTS = Call()
#: Some values of each option, by field of `Call`.
Domains = dict[str, tuple[Any, ...]]
#: All values.
OPTIONS: Domains = {
    "form": tuple(Form),
    "batch_first": (False, True),
    "layers": (1, 2),
    "layer_norm": (False, True),
    "state": (Start.NONE, Start.SHARED, Start.STACKED),
    "masks": tuple(Masks),
    "autocast": tuple(AutocastMode),
    "trained": tuple(Trained),
    "arriving": (OUTPUTS, *((output,) for output in OUTPUTS)),
    "stepwise": (False, True),
    "recomputed": (False, True),
    "layout": tuple(MemoryLayout),
    "extreme": (False, True),
}
#: The values that one layer sees: the module turns the others into these, and runs what is between layers.
LAYER_OPTIONS = OPTIONS | {
    "form": (Form.BATCH, Form.UNSORTED, *(form for form in Form if form.empty)),
    "batch_first": (False,),
    "layers": (1,),
    "state": (Start.NONE, Start.SHARED),
    "masks": (Masks.NONE, Masks.RECURRENT),
    "autocast": (AutocastMode.EXACT, AutocastMode.AUTOCAST),
    "trained": (Trained.ALL, Trained.BIASES, Trained.STATE_C, Trained.STATE_H_HAT, Trained.NOTHING),
    "layout": (MemoryLayout.CONTIGUOUS, MemoryLayout.PADDED, MemoryLayout.TRANSPOSED),
}


# The calls that cover all pairs


def _either(option: str, values: tuple[Any, ...], other: str, others: tuple[Any, ...]) -> dict[str, Any]:
    """Constraint that one option has one of these values or another has one of those."""
    conditions = []
    for name, allowed in ((option, values), (other, others)):
        conditions.append({"operator": "in", "left": name, "values": list(allowed)})
    return {"operator": "or", "conditions": conditions}


#: Trained without a state.
_WITHOUT_STATE = tuple(trained for trained in Trained if not trained.needs_state)
#: What does not go together.
_CONSTRAINTS = [
    _either("masks", (Masks.NONE, Masks.RECURRENT), "layers", (2,)),  # dropout is between layers
    _either("trained", _WITHOUT_STATE, "state", (Start.SHARED, Start.STACKED)),
    _either("extreme", (False,), "autocast", (AutocastMode.EXACT,)),
    _either("extreme", (False,), "arriving", (OUTPUTS,)),  # that of h alone is all rounding where tanh(c) is 1
]


def covering_calls(domains: Domains) -> list[Call]:
    """Calls that cover all pairs of these values.

    A call without numbers or without a gradient shows little, and so does one with extreme numbers, where larger errors
    are allowed. So each pair that can be is in a usual call too.
    """
    with_numbers = tuple(form for form in domains["form"] if not form.empty)
    with_gradients = tuple(trained for trained in domains["trained"] if trained is not Trained.NOTHING)
    telling = domains | {"form": with_numbers, "trained": with_gradients}
    usual = _covering(telling | {"extreme": (False,)})
    extreme = [call for call in _covering(telling) if call.extreme]
    little = [call for call in _covering(domains) if call.shows_little]
    return [*usual, *extreme, *little]


def _covering(domains: Domains) -> list[Call]:
    """A covering array of these values, without what does not go together."""
    rows = make(domains, salt="0", constraints=_CONSTRAINTS)
    return [Call(**row) for row in rows]


# A call as a case and a use

#: Lengths of the sequences of packed forms. The permutation that sorts UNSORTED is not its own inverse, so that to
#: confuse the two would show.
LENGTHS = {Form.SORTED: (3, 2, 1), Form.UNSORTED: (1, 3, 2)}
#: The probabilities of dropping, `dropout` and `recurrent_dropout`.
RATES = {
    Masks.NONE: (0.0, 0.0),
    Masks.DROPOUT: (0.25, 0.0),
    Masks.RECURRENT: (0.0, 0.4),
    Masks.BOTH: (0.25, 0.4),
    Masks.EVAL: (0.25, 0.4),
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
    dropout, recurrent_dropout = RATES[call.masks]
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
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
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
