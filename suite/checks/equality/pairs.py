"""Options in pairs: a covering array, in which any two values of two options occur together in one call."""

from functools import partial
from typing import Any, NamedTuple

import torch
from covertable.main import make
from torch import Tensor, nn
from torch.nn.functional import pad

from impls import HyperLSTM
from impls.gradient.chunks import limited
from suite.checks.equality.layouts import LAYOUTS as LAID_OUT
from suite.checks.equality.layouts import Layouts, in_layouts
from suite.checks.equality.leftovers import watched
from suite.checks.equality.uses import MEANS_FAR_FROM_0, SATURATED, Arithmetic, Trains, Use, of_trained, without_others
from suite.shared.cases import Case
from suite.shared.oracle import Draw, Outcome, Output, State, inputs, packed
from suite.shared.tensors import BIASES, OUTPUTS, Argument, Kind, X, parameter

Row = dict[str, Any]

#: Sequences of a form; those of other forms all have T steps.
LENGTHS = {"sorted": (3, 2, 1), "unsorted": (1, 3, 2)}  # not its own inverse
#: Forms without a number.
EMPTY = ("no_steps", "no_rows")
#: Dropout and recurrent dropout.
MASKS = {"none": (0.0, 0.0), "dropout": (0.25, 0.0), "recurrent": (0.0, 0.4), "both": (0.25, 0.4), "eval": (0.25, 0.4)}
#: Whether a parameter, x, or a part of the state requires a gradient.
TRAINS: dict[str, Trains] = {
    "all": lambda leaf: True,
    "x": lambda leaf: leaf == X,
    "parameters": lambda leaf: leaf.kind is Kind.PARAMETER,
    "biases": lambda leaf: leaf.part in BIASES,
    "state": lambda leaf: leaf.kind is Kind.STATE,
    "state_c": lambda leaf: leaf == Argument(Kind.STATE, "c"),
    "state_h_hat": lambda leaf: leaf == Argument(Kind.STATE, "h_hat"),
    "nothing": lambda leaf: False,
}
#: Layouts in memory of all tensors.
LAYOUTS: dict[str, Layouts] = {"contiguous": {}, **LAID_OUT}
#: Uses whose numbers are far from usual, by whether there is a layer norm.
EXTREME = {True: MEANS_FAR_FROM_0[0], False: SATURATED[1]}
#: Values of each option, the plainest first. "arriving": the outputs that have a gradient.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "form": ("batch", "alone", *LENGTHS, *EMPTY),
    "axes": ("steps_first", "batch_first"),
    "layers": (1, 2),
    "layer_norm": (False, True),
    "state": ("none", "plain", "stacked"),
    "masks": tuple(MASKS),
    "precision": tuple(arithmetic.value for arithmetic in Arithmetic),
    "trains": tuple(TRAINS),
    "arriving": ("all", *OUTPUTS),
    "chunks": ("whole", "stepwise"),
    "residuals": ("saved", "recomputed"),
    "layout": tuple(LAYOUTS),
    "numbers": ("usual", "extreme"),
}
#: The values that one layer sees: the module turns the others into these, and runs what is between layers.
LAYER_OPTIONS = OPTIONS | {
    "form": ("batch", "unsorted", *EMPTY),
    "axes": ("steps_first",),
    "layers": (1,),
    "state": ("none", "plain"),
    "masks": ("none", "recurrent"),
    "precision": ("exact", "autocast"),
    "trains": ("all", "biases", "state_c", "state_h_hat", "nothing"),
    "layout": ("contiguous", "padded", "transposed, not aligned"),
}
#: Options that a `Case` does not have; of the forms only one.
_OF_USE = ("axes", "precision", "trains", "arriving", "chunks", "residuals", "layout", "numbers")


def _either(option: str, values: tuple[Any, ...], other: str, others: tuple[Any, ...]) -> dict[str, Any]:
    """Constraint that one option has one of these values or another has one of those."""
    either = ((option, values), (other, others))
    return {"operator": "or", "conditions": [{"operator": "in", "left": o, "values": list(v)} for o, v in either]}


_CONSTRAINTS = [
    _either("masks", ("none", "recurrent"), "layers", (2,)),  # dropout is between layers
    _either("trains", ("all", "x", "parameters", "biases", "nothing"), "state", ("plain", "stacked")),
    _either("numbers", ("usual",), "precision", ("exact",)),
    _either("numbers", ("usual",), "arriving", ("all",)),  # that of h alone is all rounding where tanh(c) is 1
]


def shows_little(row: Row) -> bool:
    """True for a call that has no number, or no gradient."""
    return row["form"] in EMPTY or row["trains"] == "nothing"


def array(options: dict[str, tuple[Any, ...]]) -> list[Row]:
    """Rows that cover all pairs, those that do not need a call which shows little, or extreme numbers, without one."""
    telling = options | {"form": options["form"][: -len(EMPTY)], "trains": options["trains"][:-1]}
    usual, either, every = (
        make(some, salt="0", constraints=_CONSTRAINTS) for some in (telling | {"numbers": ("usual",)}, telling, options)
    )
    return [*usual, *(row for row in either if row["numbers"] == "extreme"), *filter(shows_little, every)]


def case_of(row: Row) -> Case:
    """Sizes of a row, and the options that a case has."""
    form, (dropout, recurrent_dropout) = row["form"], MASKS[row["masks"]]
    one_step = form == "alone" and row["axes"] == "batch_first"  # an axis to lose by mistake
    H, S = (72, 64) if row["numbers"] == "extreme" else (7, 6)  # the more units, the less a lost digit is chance
    return Case(
        T=0 if form == "no_steps" else 1 if one_step else 3,
        B={"alone": 1, "no_rows": 0}.get(form, 3),
        I=4,
        H=H,
        S=S,
        Z=2,
        L=row["layers"],
        layer_norm=row["layer_norm"],
        state=row["state"],
        lengths=LENGTHS.get(form, ()),
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        training=row["masks"] != "eval",
    )


def use_of(row: Row) -> Use:
    """The options of a row that a case does not have."""
    words = ["alone"] if row["form"] == "alone" else []
    words += [row[option] for option in _OF_USE if row[option] != OPTIONS[option][0]]
    arriving = OUTPUTS if row["arriving"] == "all" else (row["arriving"],)
    return Use(
        "pair-" + "-".join(words),
        run=partial(_run, row, arriving),
        expected=partial(of_trained, TRAINS[row["trains"]]),
        numbers=partial(_numbers, row, arriving),
        extreme=row["numbers"] == "extreme",
        arithmetic=Arithmetic(row["precision"]),
        residuals=row["residuals"] == "saved",
    )


def _numbers(row: Row, arriving: tuple[str, ...], sample: Draw) -> Draw:
    change = EXTREME[row["layer_norm"]].numbers if row["numbers"] == "extreme" else None
    return without_others(change(sample) if change else sample, arriving)


def _run(row: Row, arriving: tuple[str, ...], model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    device = sample.x.device.type
    model.batch_first = row["axes"] == "batch_first"
    short = {"forward": 1, "backward": 1} if row["chunks"] == "stepwise" else {}
    autocast = torch.autocast(device, torch.bfloat16, enabled=row["precision"] != "exact")
    with limited(device, residuals=row["residuals"] == "saved", **short), autocast:
        outcome = watched(partial(_train, row, arriving))(model, case, sample)
    model.batch_first = False
    return outcome


def _train(row: Row, arriving: tuple[str, ...], model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    select = TRAINS[row["trains"]]
    layouts, call = LAYOUTS[row["layout"]], partial(_call, row)
    outcome = in_layouts(layouts, model, case, sample, select=select, arriving=arriving, call=call)
    # Without steps out is no function of the state.
    leaves = [*(inputs(sample) if case.T else [X]), *map(parameter, sample.params)]
    trained = any(map(select, leaves))
    has_graph = outcome.tensors["out"].requires_grad
    if has_graph == trained:
        return outcome
    finding = f"graph of out: expected {trained}, got {has_graph}"
    return outcome._replace(findings=(*outcome.findings, finding))


def _call(row: Row, model: nn.Module, case: Case, x: Tensor, state: State | None) -> Output:
    """Call the model on sequences in the form of a row; one alone has rows that are longer than its features."""
    alone = row["form"] == "alone"
    turned = row["axes"] == "batch_first" and not (alone or case.lengths)
    if alone:
        x, state = pad(x[:, 0], (0, 1))[:, :-1], state and tuple(part[..., 0, :] for part in state)
    elif turned:
        x = x.transpose(0, 1).contiguous()
    out, last = packed(model, case, x, state, LAYOUTS[row["layout"]].get(Kind.X, Tensor.contiguous))
    if alone:
        return out.unsqueeze(1), tuple(part.unsqueeze(1) for part in last)
    return out.transpose(0, 1) if turned else out, last


class Pair(NamedTuple):
    """The case and the use of a row."""

    row: Row
    case: Case
    use: Use


def pairs_of(options: dict[str, tuple[Any, ...]]) -> list[Pair]:
    """A pair for each row of `array`."""
    return [Pair(row, case_of(row), use_of(row)) for row in array(options)]


PAIRS = pairs_of(OPTIONS)
#: Of a layer alone, where calls take long.
OF_A_LAYER = pairs_of(LAYER_OPTIONS)
