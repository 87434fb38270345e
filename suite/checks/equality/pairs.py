"""Options in pairs: calls in which any two values of two options occur together, each as a case and a use.

A case has the sizes of a call and some of its options, such as its lengths and its layer norm; the use has the others.
The calls are a covering array, few enough to make them all.
"""

from functools import cache, partial
from typing import Any, NamedTuple

import torch
from covertable.main import make
from torch import Tensor, nn
from torch.nn.functional import pad

from impls import HyperLSTM
from impls.gradient.chunks import limited
from suite.cases.case import Case, Start
from suite.checks.equality.comparisons import BF16, F32, F64, Use
from suite.checks.equality.extremes import FAR_FROM_0, LARGE_CELLS
from suite.checks.equality.gradients import with_cotangents_of, without_other_gradients
from suite.checks.equality.layouts import OF_ALL_TENSORS, in_layouts, layout_of_tokens
from suite.checks.equality.leftovers import watched
from suite.comparison.draws import Draw, inputs
from suite.comparison.runs import Outcome, Returned, Selector, State, packed, run_plain
from suite.comparison.tensors import OUTPUTS, STATE, is_parameter, role

#: T, B and lengths by the form of a call. `alone` is one sequence [T, I]. The permutation that sorts `unsorted` is not
#: its own inverse, so that to confuse the two would show.
FORMS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "batch": (3, 3, ()),
    "alone": (3, 1, ()),
    "sorted": (3, 3, (3, 2, 1)),
    "unsorted": (3, 3, (1, 3, 2)),
    "no steps": (0, 3, ()),
    "no rows": (3, 0, ()),
}
#: Forms of which out has no number.
EMPTY = ("no steps", "no rows")
#: `dropout`, `recurrent_dropout` and whether the model is in training mode, by what is dropped.
MASKS = {
    "none": (0.0, 0.0, True),
    "dropout": (0.25, 0.0, True),
    "recurrent": (0.0, 0.4, True),
    "both": (0.25, 0.4, True),
    "eval": (0.25, 0.4, False),
}


def _is_bias(argument: str) -> bool:
    of_argument = role(argument)
    return of_argument is not None and of_argument.of_bias


#: Whether an argument requires a gradient, by what is trained; of `nothing` there is a forward pass alone.
TRAINED: dict[str, Selector] = {
    "all": lambda argument: True,
    "x": lambda argument: argument == "x",
    "parameters": is_parameter,
    "biases": _is_bias,
    "state": lambda argument: argument in STATE,
    "state_c": lambda argument: argument == "state c",
    "state_h_hat": lambda argument: argument == "state h_hat",
    "nothing": lambda argument: False,
}
#: What is trained of a state, which must be given.
OF_STATE = ("state", "state_c", "state_h_hat")


class Combination(NamedTuple):
    """A value of each option of a call.

    form, masks, trained, layout: of the tables `FORMS`, `MASKS`, `TRAINED` and `OF_ALL_TENSORS`.
    autocast: `exact`, without; `autocast`, in bfloat16, of a model in float32; `float64_in_autocast`, of a model in
    float64, which autocast leaves as it is; where an implementation has no float64, as `autocast`.
    arriving: the outputs whose cotangents are not zero.
    stepwise: the sequence is cut into chunks of one step.
    recomputed: the backward pass computes again what hand-written gradients would else save.
    extreme: numbers are far from usual, where a formula may lose digits.
    """

    form: str = "batch"
    batch_first: bool = False
    layers: int = 1
    layer_norm: bool = False
    state: Start = "none"
    masks: str = "none"
    autocast: str = "exact"
    trained: str = "all"
    arriving: tuple[str, ...] = OUTPUTS
    stepwise: bool = False
    recomputed: bool = False
    layout: str = "contiguous"
    extreme: bool = False

    @property
    def name(self) -> str:
        """Name of the options that differ from the default and that a `Case` does not have.

        Of the forms it has `alone`; a case shows the others.
        """
        words = [
            (self.form, self.form == "alone"),
            ("batch_first", self.batch_first),
            (self.autocast, self.autocast != DEFAULTS.autocast),
            (self.trained, self.trained != DEFAULTS.trained),
            ("-".join(self.arriving), self.arriving != DEFAULTS.arriving),
            ("stepwise", self.stepwise),
            ("recomputed", self.recomputed),
            (self.layout, self.layout != DEFAULTS.layout),
            ("extreme", self.extreme),
        ]
        said = [word for word, differs in words if differs]
        return f"pair-{'-'.join(said)}"


#: The default of each option.
DEFAULTS = Combination()
#: Some values of each option, by field of `Combination`.
Domains = dict[str, tuple[Any, ...]]
#: All values.
DOMAINS: Domains = {
    "form": tuple(FORMS),
    "batch_first": (False, True),
    "layers": (1, 2),
    "layer_norm": (False, True),
    "state": ("none", "shared", "stacked"),
    "masks": tuple(MASKS),
    "autocast": ("exact", "autocast", "float64_in_autocast"),
    "trained": tuple(TRAINED),
    "arriving": (OUTPUTS, *((output,) for output in OUTPUTS)),
    "stepwise": (False, True),
    "recomputed": (False, True),
    "layout": tuple(OF_ALL_TENSORS),
    "extreme": (False, True),
}
#: The values that one layer sees: the module turns the others into these, and runs what is between layers.
LAYER_DOMAINS = DOMAINS | {
    "form": ("batch", "unsorted", *EMPTY),
    "batch_first": (False,),
    "layers": (1,),
    "state": ("none", "shared"),
    "masks": ("none", "recurrent"),
    "autocast": ("exact", "autocast"),
    "trained": ("all", "biases", "state_c", "state_h_hat", "nothing"),
    "layout": ("contiguous", "padded", "transposed, not aligned"),
}


# The combinations that cover all pairs


def _either(option: str, values: tuple[Any, ...], other: str, others: tuple[Any, ...]) -> dict[str, Any]:
    """Constraint that one option has one of these values or another has one of those."""
    conditions = []
    for name, allowed in ((option, values), (other, others)):
        conditions.append({"operator": "in", "left": name, "values": list(allowed)})
    return {"operator": "or", "conditions": conditions}


_WITHOUT_STATE = tuple(trained for trained in TRAINED if trained not in OF_STATE)
#: What does not go together.
_CONSTRAINTS = [
    _either("masks", ("none", "recurrent"), "layers", (2,)),  # dropout is between layers
    _either("trained", _WITHOUT_STATE, "state", ("shared", "stacked")),
    _either("extreme", (False,), "autocast", ("exact",)),
    _either("extreme", (False,), "arriving", (OUTPUTS,)),  # that of h alone is all rounding where tanh(c) is 1
]


def covering(domains: Domains) -> list[Combination]:
    """Combinations in which each pair of these values occurs.

    A call without numbers or without a gradient shows little, and so does one with extreme numbers, where larger errors
    are allowed. So each pair that can be is in a usual call too.
    """
    with_numbers = tuple(form for form in domains["form"] if form not in EMPTY)
    with_gradients = tuple(trained for trained in domains["trained"] if trained != "nothing")
    telling = domains | {"form": with_numbers, "trained": with_gradients}
    usual = _covering(telling | {"extreme": (False,)})
    extreme = [options for options in _covering(telling) if options.extreme]
    little = [options for options in _covering(domains) if options.form in EMPTY or options.trained == "nothing"]
    return [*usual, *extreme, *little]


def _covering(domains: Domains) -> list[Combination]:
    """A covering array of these values, without what does not go together."""
    rows = make(domains, salt="0", constraints=_CONSTRAINTS)
    return [Combination(**row) for row in rows]


COVERING = covering(DOMAINS)
#: Of a layer alone, where calls take long.
OF_A_LAYER = covering(LAYER_DOMAINS)


# A combination as a case and a use


def case_of(options: Combination) -> Case:
    """The sizes of a call, and those options that a case has."""
    T, B, lengths = FORMS[options.form]
    if options.form == "alone" and options.batch_first:
        T = 1  # an axis to lose by mistake
    H, S = (72, 64) if options.extreme else (7, 6)  # the more units, the less a lost digit is chance
    dropout, recurrent_dropout, training = MASKS[options.masks]
    return Case(
        T=T,
        B=B,
        I=4,
        H=H,
        S=S,
        Z=2,
        L=options.layers,
        layer_norm=options.layer_norm,
        state=options.state,
        lengths=lengths,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        training=training,
    )


@cache  # so that implementations share the references of its draws
def use_of(options: Combination) -> Use:
    """The options that a case does not have."""
    return Use(
        options.name,
        run=partial(_run, options),
        expected=partial(without_other_gradients, TRAINED[options.trained]),
        change_draw=partial(_draw_of, options),
        autocast=options.autocast != "exact",
        gradient=options.trained != "nothing",
        residuals=not options.recomputed,
    )


def dtype_of(options: Combination, most_precise: torch.dtype) -> torch.dtype:
    """The dtype of a call of an implementation with this most precise one.

    Where formulas lose digits it is float32: float64 is the oracle, and naive's own error says how many are lost.
    """
    if options.extreme:
        return F32
    if options.autocast == "exact":
        return most_precise
    return F64 if options.autocast == "float64_in_autocast" and most_precise == F64 else BF16


def _draw_of(options: Combination, sample: Draw) -> Draw:
    """A draw with extreme numbers if they are an option, and zero for the cotangents that do not arrive."""
    if options.extreme:
        change = FAR_FROM_0 if options.layer_norm else LARGE_CELLS
        sample = change(sample)
    return with_cotangents_of(options.arriving, sample)


def _run(options: Combination, model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """A run with these options.

    It is a finding if out has a graph although nothing requires a gradient, or none although something does.
    """
    select = TRAINED[options.trained]
    in_form = partial(run_plain, select=select, arriving=options.arriving, call=partial(_in_form, options))
    # Watched inside the settings, since leaving them restores what a call changed of them.
    run = watched(in_layouts(OF_ALL_TENSORS[options.layout], in_form))
    device = sample.x.device.type
    short = {"forward": 1, "backward": 1} if options.stepwise else {}
    autocast = torch.autocast(device, torch.bfloat16, enabled=options.autocast != "exact")
    model.batch_first = options.batch_first
    with limited(device, residuals=not options.recomputed, **short), autocast:
        outcome = run(model, case, sample)
    model.batch_first = False
    given = inputs(sample) if case.T else ["x"]  # without steps out is no function of the state
    expects_graph = any(map(select, [*given, *sample.params]))
    has_graph = outcome.results["out"].requires_grad
    if has_graph == expects_graph:
        return outcome
    finding = "unexpected graph: out" if has_graph else "missing graph: out"
    return outcome._replace(findings=(*outcome.findings, finding))


def _in_form(options: Combination, model: nn.Module, case: Case, x: Tensor, state: State | None) -> Returned:
    """Call the model on sequences in the form of these options; one alone is a view of rows that are longer."""
    alone = options.form == "alone"
    turned = options.batch_first and not (alone or case.lengths)
    if alone:
        x = pad(x[:, 0], (0, 1))[:, :-1]
        state = state and tuple(part[..., 0, :] for part in state)
    elif turned:
        x = x.transpose(0, 1).contiguous()
    out, last = packed(model, case, x, state, layout_of_tokens(OF_ALL_TENSORS[options.layout]))
    if alone:
        return out.unsqueeze(1), tuple(part.unsqueeze(1) for part in last)
    return out.transpose(0, 1) if turned else out, last
