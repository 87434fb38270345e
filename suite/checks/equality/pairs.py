"""Options in pairs: a covering array, in which any two values of two options occur together in one call."""

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
from suite.checks.equality.comparison import Group
from suite.checks.equality.extremes import FAR_FROM_0, LARGE_CELLS
from suite.checks.equality.gradients import Selector, with_cotangents_of, without_other_gradients
from suite.checks.equality.layouts import OF_ALL_TENSORS, Memory, in_layouts
from suite.checks.equality.leftovers import watched
from suite.checks.equality.use import AutocastMode, Use
from suite.comparison.draws import Draw, inputs
from suite.comparison.runs import Outcome, Returned, State, packed
from suite.comparison.tensors import H_HAT, OUTPUTS, C, Finding, Kind, Output, Wrong, X, parameter
from suite.results.defined import Defined


class Form(Enum):
    """Of the sequences of a call."""

    BATCH = auto()
    ALONE = auto()
    SORTED = auto()
    UNSORTED = auto()
    NO_STEPS = auto()
    NO_ROWS = auto()

    @property
    def empty(self) -> bool:
        """Without a number."""
        return self in (Form.NO_STEPS, Form.NO_ROWS)


class Masks(Enum):
    """What is dropped."""

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
    NOTHING = "nothing"


class Call(NamedTuple):
    """A value of each option.

    state: as a `Case` has it. arriving: the outputs whose cotangents are not zero. stepwise: in chunks of one step.
    recomputed: what hand-written gradients would else save. layout: of all tensors. extreme: of numbers far from usual.
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
    layout: Memory = Memory.CONTIGUOUS
    extreme: bool = False

    @property
    def shows_little(self) -> bool:
        """True for a call that has no number, or no gradient."""
        return self.form.empty or self.trained is Trained.NOTHING

    @property
    def name(self) -> str:
        """Name of the options that a `Case` does not have. Of the forms it names ALONE; a case shows the others."""
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
#: Sequences of a form; those of other forms all have T steps.
LENGTHS = {Form.SORTED: (3, 2, 1), Form.UNSORTED: (1, 3, 2)}  # not its own inverse


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
#: Values of options, by field of `Call`.
Domains = dict[str, tuple[Any, ...]]
#: Those of each option.
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
    "layout": tuple(Memory),
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
    "layout": (Memory.CONTIGUOUS, Memory.PADDED, Memory.TRANSPOSED),
}


def _either(option: str, values: tuple[Any, ...], other: str, others: tuple[Any, ...]) -> dict[str, Any]:
    """Constraint that one option has one of these values or another has one of those."""
    conditions = []
    for name, allowed in ((option, values), (other, others)):
        conditions.append({"operator": "in", "left": name, "values": list(allowed)})
    return {"operator": "or", "conditions": conditions}


#: Trained without a state.
_WITHOUT_STATE = (Trained.ALL, Trained.X, Trained.PARAMETERS, Trained.BIASES, Trained.NOTHING)
_CONSTRAINTS = [
    _either("masks", (Masks.NONE, Masks.RECURRENT), "layers", (2,)),  # dropout is between layers
    _either("trained", _WITHOUT_STATE, "state", (Start.SHARED, Start.STACKED)),
    _either("extreme", (False,), "autocast", (AutocastMode.EXACT,)),
    _either("extreme", (False,), "arriving", (OUTPUTS,)),  # that of h alone is all rounding where tanh(c) is 1
]


def array(domains: Domains) -> list[Call]:
    """Calls that cover all pairs: wherever they can, in calls with usual numbers and gradients, which show most."""
    with_numbers = tuple(form for form in domains["form"] if not form.empty)
    with_gradients = tuple(trained for trained in domains["trained"] if trained is not Trained.NOTHING)
    telling = domains | {"form": with_numbers, "trained": with_gradients}
    usual = _covering(telling | {"extreme": (False,)})
    extreme = [call for call in _covering(telling) if call.extreme]
    little = [call for call in _covering(domains) if call.shows_little]
    return [*usual, *extreme, *little]


def _covering(domains: Domains) -> list[Call]:
    """A covering array: calls in which any two values of two options occur together, where the constraints allow it."""
    rows = make(domains, salt="0", constraints=_CONSTRAINTS)
    return [Call(**row) for row in rows]


def case_of(call: Call) -> Case:
    """Sizes of a call, and the options that a case has."""
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
        run=partial(_run, call),
        expected=partial(without_other_gradients, SELECTORS[call.trained]),
        change_draw=partial(_draw_of, call),
        extreme=call.extreme,
        autocast=call.autocast,
        residuals=not call.recomputed,
    )


def _draw_of(call: Call, sample: Draw) -> Draw:
    if call.extreme:
        change = FAR_FROM_0 if call.layer_norm else LARGE_CELLS
        sample = change(sample)
    return with_cotangents_of(call.arriving, sample)


def _run(call: Call, model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    device = sample.x.device.type
    model.batch_first = call.batch_first
    short = {"forward": 1, "backward": 1} if call.stepwise else {}
    autocast = torch.autocast(device, torch.bfloat16, enabled=call.autocast is not AutocastMode.EXACT)
    with limited(device, residuals=not call.recomputed, **short), autocast:
        # Watched here too: leaving these restores what a call changed of them.
        outcome = watched(partial(_train, call))(model, case, sample)
    model.batch_first = False
    return outcome


def _train(call: Call, model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    select = SELECTORS[call.trained]
    layouts = OF_ALL_TENSORS[call.layout]
    run = partial(_called, call)
    outcome = in_layouts(layouts, model, case, sample, select=select, arriving=call.arriving, call=run)
    # Without steps out is no function of the state.
    leaves = [*(inputs(sample) if case.T else [X]), *map(parameter, sample.params)]
    trained = any(map(select, leaves))
    has_graph = outcome.results[Output.OUT].requires_grad
    if has_graph == trained:
        return outcome
    finding = Finding(Wrong.UNEXPECTED_GRAPH if has_graph else Wrong.MISSING_GRAPH, Output.OUT)
    return outcome._replace(findings=(*outcome.findings, finding))


def _called(call: Call, model: nn.Module, case: Case, x: Tensor, state: State | None) -> Returned:
    """Call the model on sequences in the form of the call; one alone has rows that are longer than its features."""
    alone = call.form is Form.ALONE
    turned = call.batch_first and not (alone or case.lengths)
    if alone:
        x = pad(x[:, 0], (0, 1))[:, :-1]
        state = state and tuple(part[..., 0, :] for part in state)
    elif turned:
        x = x.transpose(0, 1).contiguous()
    layout_of_tokens = OF_ALL_TENSORS[call.layout].get(Kind.X, Tensor.contiguous)
    out, last = packed(model, case, x, state, layout_of_tokens)
    if alone:
        return out.unsqueeze(1), tuple(part.unsqueeze(1) for part in last)
    return out.transpose(0, 1) if turned else out, last


class Combination(NamedTuple):
    """The case and the use of a call."""

    call: Call
    case: Case
    use: Use

    @property
    def group(self) -> Group:
        """The use alone, by its name."""
        return Group(self.use.name, (self.use,), Defined.PAIRS)


def combinations(domains: Domains) -> list[Combination]:
    """The calls of `array`, each with its case and its use."""
    return [Combination(call, case_of(call), use_of(call)) for call in array(domains)]


COMBINATIONS = combinations(OPTIONS)
#: Of a layer alone, where calls take long.
OF_A_LAYER = combinations(LAYER_OPTIONS)
