"""Any two values of two options in one call, frozen parameters, gradients and calls in any form: each is right."""

from importlib import import_module
from itertools import combinations, product

from impls import names
from suite.checks.equality.comparisons import DEFINED, USES, Comparison, paired, used
from suite.checks.equality.conftest import Check, every
from suite.checks.equality.pairs import EMPTY, MASKS, OF_A_LAYER, OPTIONS, PAIRS, ROWS, TRAINS, Row, shows_little
from suite.shared.files import ROOT

COMPARISONS = [(name, one) for name in names() for one in (*used(name), *paired(name))]


# One implementation after the other on each case, so that its references are in memory.
@every(sorted(COMPARISONS, key=lambda pair: pair[1].id), "nothing")
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)


Pair = frozenset[tuple[str, object]]
#: Dropout is between layers, a state that is not given has no gradient, and numbers are extreme where they show much.
IMPOSSIBLE: set[Pair] = {
    *(frozenset({("layers", 1), ("masks", masks)}) for masks, (dropout, _) in MASKS.items() if dropout),
    *(frozenset({("state", "none"), ("trains", trains)}) for trains in TRAINS if trains.startswith("state")),
    *(frozenset({("numbers", "extreme"), (a, x)}) for a in ("precision", "arriving") for x in OPTIONS[a][1:]),
}


def pairs_of(rows: list[Row]) -> set[Pair]:
    return {frozenset(pair) for row in rows for pair in combinations(row.items(), 2)}


def test_every_possible_pair_is_covered() -> None:
    """And in a call that has numbers and gradients, unless the pair has none."""
    every = {
        frozenset({(a, x), (b, y)}) for a, b in combinations(OPTIONS, 2) for x, y in product(OPTIONS[a], OPTIONS[b])
    }
    little = {("trains", "nothing"), *(("form", form) for form in EMPTY)}
    covered, shown = pairs_of(ROWS), pairs_of([row for row in ROWS if not shows_little(row)])
    assert covered == every - IMPOSSIBLE
    assert shown == {pair for pair in covered if not pair & little}
    readme = (ROOT / "suite/checks/README.md").read_text(encoding="utf-8")
    assert f"{len(ROWS)} calls cover all {len(covered)} pairs" in " ".join(readme.split())


def test_rows_name_the_definition_of_their_use() -> None:
    """So that they are stale once it changes."""
    assert DEFINED.keys() == USES.keys()
    of_pairs = {use.name for _, use in (*PAIRS, *OF_A_LAYER)}
    assert {group for group, name in DEFINED.items() if name == "pairs.PAIRS"} == of_pairs
    for group in DEFINED.keys() - of_pairs - {""}:
        module, definition = DEFINED[group].split(".")
        defined = getattr(import_module(f"suite.checks.equality.{module}"), definition)
        assert USES[group] == (defined if type(defined) is tuple else (defined,))
