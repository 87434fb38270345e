"""Any two values of two options in one call, frozen parameters, gradients and calls in any form: each is right."""

from itertools import combinations, product

from impls import names
from suite.cases.case import Start
from suite.checks.equality.catalogue import grouped, paired
from suite.checks.equality.comparison import Comparison
from suite.checks.equality.conftest import Check, every
from suite.checks.equality.pairs import OPTIONS, PAIRS, PLAINEST, RATES, Call, Form, Trained
from suite.shared.files import ROOT

COMPARISONS = [(name, comparison) for name in names() for comparison in (*grouped(name), *paired(name))]


# One implementation after the other on each case, so that its references are in memory.
@every(sorted(COMPARISONS, key=lambda pair: pair[1].id))
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)


#: Values of two options.
Values = frozenset[tuple[str, object]]
#: Dropout is between layers, a state that is not given has no gradient, and numbers are extreme where they show much.
IMPOSSIBLE: set[Values] = {
    *(frozenset({("layers", 1), ("masks", masks)}) for masks, (dropout, _) in RATES.items() if dropout),
    *(
        frozenset({("state", Start.NONE), ("trained", trained)})
        for trained in (Trained.STATE, Trained.STATE_C, Trained.STATE_H_HAT)
    ),
    *(
        frozenset({("extreme", True), (option, value)})
        for option in ("arithmetic", "arriving")
        for value in OPTIONS[option]
        if value != getattr(PLAINEST, option)
    ),
}


def values_of(calls: list[Call]) -> set[Values]:
    return {frozenset(values) for call in calls for values in combinations(call._asdict().items(), 2)}


def test_every_possible_pair_is_covered() -> None:
    """And in a call that has numbers and gradients, unless the pair has none."""
    every = {
        frozenset({(a, x), (b, y)}) for a, b in combinations(OPTIONS, 2) for x, y in product(OPTIONS[a], OPTIONS[b])
    }
    little = {("trained", Trained.NOTHING), *(("form", form) for form in Form if form.empty)}
    calls = [pair.call for pair in PAIRS]
    covered, shown = values_of(calls), values_of([call for call in calls if not call.shows_little])
    assert covered == every - IMPOSSIBLE
    assert shown == {values for values in covered if not values & little}
    readme = (ROOT / "suite/checks/README.md").read_text(encoding="utf-8")
    assert f"{len(calls)} calls cover all {len(covered)} pairs" in " ".join(readme.split())
