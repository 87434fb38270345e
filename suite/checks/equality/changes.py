"""What changes between calls, or between a call and its backward pass: no call reads anything but what is there now."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import nn

from impls import HyperLSTM
from impls.definition import LayerParams
from impls.registry import ORACLE
from suite.checks.equality.uses import Use
from suite.shared.cases import Case
from suite.shared.compare import MUTATED
from suite.shared.oracle import OUTPUTS, STATE_NAMES, Draw, Results, arguments, backward, gradients, outputs, plain

#: Context in which a model differs from what it is after it.
Change = Callable[[HyperLSTM], AbstractContextManager[None]]


@contextmanager
def _assigned(name: str, model: HyperLSTM) -> Iterator[None]:
    """A parameter of the last layer is assigned."""
    layer = model.layers[-1]
    right = getattr(layer, name).detach()
    setattr(layer, name, nn.Parameter(2 * right))
    yield
    setattr(layer, name, nn.Parameter(right.clone()))


@contextmanager
def _data_assigned(model: HyperLSTM) -> Iterator[None]:
    usual = [p.data for p in model.parameters()]
    for p in model.parameters():
        p.data = 2 * p.data
    yield
    for p, right in zip(model.parameters(), usual, strict=True):
        p.data = right.clone()


@contextmanager
def _data_changed(model: HyperLSTM) -> Iterator[None]:
    """Without a trace in a version: by an optimizer of one's own, say."""
    for p in model.parameters():
        p.data.mul_(2)
    yield
    for p in model.parameters():
        p.data.mul_(0.5)


@contextmanager
def _loaded(model: HyperLSTM) -> Iterator[None]:
    right = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict({name: 2 * value for name, value in right.items()}, assign=True)
    yield
    model.load_state_dict(right, assign=True)


@contextmanager
def _set(name: str, value: object, model: HyperLSTM) -> Iterator[None]:
    right = getattr(model, name)
    setattr(model, name, value)
    yield
    setattr(model, name, right)


def _seeded(model: HyperLSTM, case: Case, sample: Draw) -> Results:
    """The plain call with the masks of draw 0."""
    torch.manual_seed(0)
    return plain(model, case, sample)


def _after(change: Change, model: HyperLSTM, case: Case, sample: Draw) -> Results:
    """A call after one while something is different, which must not give the same."""
    before = _seeded(model, case, sample)
    with change(model):
        different = _seeded(model, case, sample)
    same = all(value.equal(different[name]) for name, value in before.items())
    return _seeded(model, case, sample) | ({f"{MUTATED}nothing by the change": torch.zeros(())} if same else {})


def _edited(name: str, model: HyperLSTM, case: Case, sample: Draw) -> Results:
    """An argument or a result is changed between forward and backward, which raises or is right."""
    torch.manual_seed(0)
    copied = sample._replace(x=sample.x.clone(), state=sample.state and tuple(part.clone() for part in sample.state))
    leaves = arguments(model, copied)
    results = outputs(model, case, leaves)
    returned, edited = {n: value.detach().clone() for n, value in results.items()}, (leaves | results)[name]
    before = edited.detach().clone()
    with torch.no_grad():
        edited.mul_(2)
    try:
        backward(results, sample)
        return returned | gradients(leaves)
    except RuntimeError as error:
        if "in place" not in str(error) and "inplace" not in str(error):
            raise
    finally:
        with torch.no_grad():
            edited.copy_(before)
    return _seeded(model, case, sample)


def _doubled(model: HyperLSTM, case: Case, sample: Draw) -> Results:
    """Results and gradients are doubled in place, one after another: none shares memory with another."""
    results = _seeded(model, case, sample)
    for value in results.values():
        value.detach().mul_(2)
    return {name: value / 2 for name, value in results.items()}


CHANGES = (
    *(Use(f"{q} assigned", partial(_after, partial(_assigned, q)), parameter=q) for q in LayerParams._fields),
    Use("data assigned", partial(_after, _data_assigned)),
    Use("data changed in place", partial(_after, _data_changed)),
    Use("parameters loaded by assignment", partial(_after, _loaded)),
    *(
        Use(f"{name} {value} before", partial(_after, partial(_set, name, value)))
        for name, value in (
            ("dropout", 0.9),
            ("recurrent_dropout", 0.0),
            ("recurrent_dropout", 0.9),
            ("training", False),
            ("impl", ORACLE),
        )
    ),
    *(
        Use(f"{name} changed before backward", partial(_edited, name))
        for name in (*OUTPUTS, "x", *(f"state {part}" for part in STATE_NAMES), "layers.0.weight_h", "layers.0.bias")
    ),
    Use("results doubled in place", _doubled),
)
