"""What changes between calls, or between a call and its backward pass: each call reads what is there at that moment."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from impls import HyperLSTM
from impls.registry import ORACLE
from suite.cases.case import Case
from suite.checks.equality.use import Use
from suite.comparison.draws import Draw
from suite.comparison.oracle import Outcome, arguments, backward, gradients, outputs, plain
from suite.comparison.tensors import OUTPUTS, STATE, Argument, Finding, Results, Wrong, X, parameter

Parameters = dict[str, Tensor]


def _seeded(model: HyperLSTM, case: Case, sample: Draw) -> Results:
    """The plain call with the masks of draw 0."""
    torch.manual_seed(0)
    return plain(model, case, sample)


def _data_assigned(model: HyperLSTM, values: Parameters) -> None:
    for name, p in model.named_parameters():
        p.data = values[name]


def _data_changed(model: HyperLSTM, values: Parameters) -> None:
    """Without a new version of the parameter: by an optimizer that a user wrote, say."""
    for name, p in model.named_parameters():
        p.data.copy_(values[name])


#: Gives parameters other values.
Change = Callable[[HyperLSTM, Parameters], object]
#: By name: as new objects, in new memory, or in the same memory.
CHANGED: dict[str, Change] = {
    "parameters loaded by assignment": partial(HyperLSTM.load_state_dict, assign=True),
    "data assigned": _data_assigned,
    "data changed in place": _data_changed,
}
#: Values that options have before.
OPTIONS = (
    ("dropout", 0.9),
    ("recurrent_dropout", 0.0),
    ("recurrent_dropout", 0.9),
    ("training", False),
    ("impl", ORACLE),
)
#: What is changed between a call and its backward pass.
EDITED: tuple[str | Argument, ...] = (*OUTPUTS, X, *STATE, parameter("layers.0.weight_h"), parameter("layers.0.bias"))


def _after_other_parameters(change: Change, model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """A call after one with twice the parameters."""
    parameters = dict(model.named_parameters())
    values = {name: p.detach().clone() for name, p in parameters.items()}
    _double(model)
    _seeded(model, case, sample)
    change(model, {name: value.clone() for name, value in values.items()})
    results = _seeded(model, case, sample)
    _double(model)  # what a later use would read if it kept this memory
    for name, p in parameters.items():
        p.data = values[name]
    return Outcome(results)


def _double(model: HyperLSTM) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)


def _after_other_option(name: str, other: object, model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """A call after one with another option, which must not give the same."""
    value = getattr(model, name)
    setattr(model, name, other)
    before = _seeded(model, case, sample)
    setattr(model, name, value)
    results = _seeded(model, case, sample)
    same = all(result.equal(before[key]) for key, result in results.items())
    findings = (Finding(Wrong.NO_EFFECT, name),) if same else ()
    return Outcome(results, findings)


#: What torch says in backward of a saved tensor that was changed since, and of one of several views whose base was.
SAID_OF_EDITS = ("modified by an inplace operation", "modified inplace")


def is_of_an_edit(error: RuntimeError) -> bool:
    """True for torch's error, or one that quotes it, of a tensor that was saved for backward and changed since.

    The error has no type of its own, so only its text tells it from others.
    """
    return any(said in str(error) for said in SAID_OF_EDITS)


def _edited(place: str | Argument, model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """An argument or a result is changed between forward and backward, which raises or is right."""
    torch.manual_seed(0)
    state = sample.state and tuple(part.clone() for part in sample.state)
    copied = sample._replace(x=sample.x.clone(), state=state)
    leaves = arguments(model, copied)
    results = outputs(model, case, leaves)
    returned = {output: value.detach().clone() for output, value in results.items()}
    edited = leaves[place] if isinstance(place, Argument) else results[place]
    before = edited.detach().clone()
    with torch.no_grad():
        edited.mul_(2)
    try:
        backward(results, sample)
        return Outcome(returned | gradients(leaves))
    except RuntimeError as error:
        if not is_of_an_edit(error):
            raise
    finally:
        with torch.no_grad():
            edited.copy_(before)
    return Outcome(_seeded(model, case, sample))


def _doubled(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """Results and gradients are doubled in place, one after another: none shares memory with another."""
    results = _seeded(model, case, sample)
    for value in results.values():
        value.detach().mul_(2)
    return Outcome({name: value / 2 for name, value in results.items()})


CHANGES = (
    *(Use(how, partial(_after_other_parameters, change)) for how, change in CHANGED.items()),
    *(Use(f"{name} {other} before", partial(_after_other_option, name, other)) for name, other in OPTIONS),
    *(Use(f"{place} changed before backward", partial(_edited, place)) for place in EDITED),
    Use("results doubled in place", _doubled),
)
