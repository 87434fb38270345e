"""What changes between calls, or between a call and its backward pass: each call reads what is there at that moment."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from impls import HyperLSTM
from impls.registry import ORACLE
from impls.tracing import is_of_an_edit
from suite.cases.case import Case
from suite.checks.equality.tasks import WIDE_ORACLE, Group
from suite.checks.equality.use import Use
from suite.comparison.draws import Draw
from suite.comparison.runs import Outcome, arguments, backward, gradients, outputs, plain
from suite.comparison.tensors import OUTPUTS, STATE, Argument, Finding, Output, Results, Wrong, X, parameter

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
Assign = Callable[[HyperLSTM, Parameters], object]
#: By name: as new objects, in new memory, or in the same memory.
ASSIGNED: dict[str, Assign] = {
    "parameters loaded by assignment": partial(HyperLSTM.load_state_dict, assign=True),
    "data assigned": _data_assigned,
    "data changed in place": _data_changed,
}


#: Attributes of the model, and the values that they have in calls before; one of these must give other results.
OTHER_OPTIONS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("dropout", (0.9,)),
    ("recurrent_dropout", (0.0,)),
    ("recurrent_dropout", (0.9,)),
    ("training", (False,)),
    ("impl", (ORACLE, WIDE_ORACLE)),  # a file may compute to the bit what one of them does
)
#: What is changed between a call and its backward pass.
EDITED: tuple[Output | Argument, ...] = (
    *OUTPUTS,
    X,
    *STATE,
    parameter("layers.0.weight_h"),
    parameter("layers.0.bias"),
)


def _after_other_parameters(assign: Assign, model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """A call after one with twice the parameters."""
    parameters = dict(model.named_parameters())
    values = {name: p.detach().clone() for name, p in parameters.items()}
    _double(model)
    _seeded(model, case, sample)
    assign(model, {name: value.clone() for name, value in values.items()})
    results = _seeded(model, case, sample)
    _double(model)  # what a later use would read if it kept this memory
    for name, p in parameters.items():
        p.data = values[name]
    return Outcome(results)


def _double(model: HyperLSTM) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)


def _after_other_option(option: str, before: tuple[object, ...], model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """A call after others with another option, one of which must give other results."""
    value = getattr(model, option)
    others = []
    for other in before:
        setattr(model, option, other)
        others.append(_seeded(model, case, sample))
    setattr(model, option, value)
    results = _seeded(model, case, sample)
    same = all(result.equal(of_other[key]) for of_other in others for key, result in results.items())
    findings = (Finding(Wrong.NO_EFFECT, option),) if same else ()
    return Outcome(results, findings)


def _edited(place: Output | Argument, model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
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


CHANGES = Group(
    "changes",
    (
        *(Use(how, partial(_after_other_parameters, assign)) for how, assign in ASSIGNED.items()),
        *(
            Use(f"{option} {' and '.join(map(str, before))} before", partial(_after_other_option, option, before))
            for option, before in OTHER_OPTIONS
        ),
        *(Use(f"{place} changed before backward", partial(_edited, place)) for place in EDITED),
        Use("results doubled in place", _doubled),
    ),
)
