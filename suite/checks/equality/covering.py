"""A covering array: calls in which any two values of two options occur together, few enough to make them all."""

from typing import Any

from covertable.main import make

from suite.cases.case import Start
from suite.checks.equality.options import Call, Domains, Masks, Trained
from suite.checks.equality.use import AutocastMode
from suite.comparison.tensors import OUTPUTS


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
