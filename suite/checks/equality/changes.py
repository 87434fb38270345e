"""What changes between calls, or between a call and its backward pass: each call reads what is there at that moment."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from impls import HyperLSTM
from impls.registry import ORACLE
from impls.tracing import is_of_an_edit
from suite.cases.case import Case
from suite.checks.equality.comparisons import WIDE_ORACLE, Use, Uses
from suite.comparison.draws import Draw
from suite.comparison.runs import Outcome, arguments, backward, gradients, outputs, plain
from suite.comparison.tensors import OUTPUTS, STATE, Results

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
    return Outcome(results, (f"option without effect: {option}",) if same else ())


def _edited(place: str, model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
    """An argument or a result is changed between forward and backward, which raises or is right."""
    torch.manual_seed(0)
    state = sample.state and tuple(part.clone() for part in sample.state)
    copied = sample._replace(x=sample.x.clone(), state=state)
    leaves = arguments(model, copied)
    results = outputs(model, case, leaves)
    returned: Results = {output: value.detach().clone() for output, value in results.items()}
    edited = leaves[place] if place in leaves else results[place]
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


def _use_after(option: str, *before: object) -> Use:
    """Calls with other values of an attribute of the model, one of which must give other results."""
    return Use(f"{option} {' and '.join(map(str, before))} before", partial(_after_other_option, option, before))


#: What is changed between a call and its backward pass.
EDITED = (*OUTPUTS, "x", *STATE, "layers.0.weight_h", "layers.0.bias")
CHANGES: Uses = (
    # As new objects, in new memory, and in the same memory.
    Use(
        "parameters loaded by assignment",
        partial(_after_other_parameters, partial(HyperLSTM.load_state_dict, assign=True)),
    ),
    Use("data assigned", partial(_after_other_parameters, _data_assigned)),
    Use("data changed in place", partial(_after_other_parameters, _data_changed)),
    _use_after("dropout", 0.9),
    _use_after("recurrent_dropout", 0.0),
    _use_after("recurrent_dropout", 0.9),
    _use_after("training", False),
    _use_after("impl", ORACLE, WIDE_ORACLE),  # a file may compute to the bit what one of them does
    *(Use(f"{place} changed before backward", partial(_edited, place)) for place in EDITED),
    Use("results doubled in place", _doubled),
)
