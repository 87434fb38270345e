"""Any two values of two options in one call, frozen parameters, gradients and calls in any form: each is right."""

from itertools import combinations, product

from suite.cases.case import Start
from suite.checks.equality.catalogue import grouped, of_every_implementation, paired
from suite.checks.equality.options import DEFAULTS, OPTIONS, Call, Form, Trained
from suite.checks.equality.pairs import COMBINATIONS, RATES
from suite.checks.equality.parametrised import Check, every
from suite.checks.equality.tasks import Task
from suite.shared.files import ROOT


# One implementation after the other on each case, so that its references are in memory.
@every(
    sorted(of_every_implementation(grouped, paired), key=lambda task: task.comparison.id),
    left_out="uses of row_scaled on further cases, and options of naive in pairs",
)
def test_equals_the_oracle(task: Task, check: Check) -> None:
    check(task)


#: Values of two options.
Values = frozenset[tuple[str, object]]
#: Dropout is between layers, a state that is not given has no gradient, and numbers are extreme where they show much.
IMPOSSIBLE: set[Values] = set()
for masks, rates in RATES.items():
    if rates.dropout > 0:
        IMPOSSIBLE.add(frozenset({("layers", 1), ("masks", masks)}))
for trained in (Trained.STATE, Trained.STATE_C, Trained.STATE_H_HAT):
    IMPOSSIBLE.add(frozenset({("state", Start.NONE), ("trained", trained)}))
for option in ("autocast", "arriving"):
    for value in OPTIONS[option]:
        if value != getattr(DEFAULTS, option):
            IMPOSSIBLE.add(frozenset({("extreme", True), (option, value)}))


def values_of(calls: list[Call]) -> set[Values]:
    values = set[Values]()
    for call in calls:
        values |= {frozenset(pair) for pair in combinations(call._asdict().items(), 2)}
    return values


def every_pair() -> set[Values]:
    """Any two values of two options, whether possible or not."""
    pairs = set[Values]()
    for first, second in combinations(OPTIONS, 2):
        for of_first, of_second in product(OPTIONS[first], OPTIONS[second]):
            pairs.add(frozenset({(first, of_first), (second, of_second)}))
    return pairs


def test_every_possible_pair_is_covered() -> None:
    """And in a call that has numbers and gradients, unless the pair has none."""
    little = {("trained", Trained.NOTHING), *(("form", form) for form in Form if form.empty)}
    calls = [pair.call for pair in COMBINATIONS]
    covered, shown = values_of(calls), values_of([call for call in calls if not call.shows_little])
    assert covered == every_pair() - IMPOSSIBLE
    assert shown == {values for values in covered if not values & little}
    readme = (ROOT / "suite/checks/README.md").read_text(encoding="utf-8")
    assert f"{len(calls)} calls cover all {len(covered)} pairs" in " ".join(readme.split())
