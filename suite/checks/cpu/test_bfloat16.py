"""batched_cpu multiplies bfloat16 in several ways, chosen when its library is loaded: each keeps the rule."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from impls import why_unavailable
from impls.batched_cpu import loading, sets
from suite.cases.verification import ROWS, VERIFY_FIRST, WIDE, multiplied
from suite.cases.workloads import TIMED
from suite.checks.equality.catalogue import grouped, wide
from suite.checks.equality.comparisons import BF16, Comparison, against_naive
from suite.checks.equality.values import results_and_expected, results_of
from suite.checks.recording import Keep, verify_row
from suite.comparison.draws import draw, implementation
from suite.comparison.tensors import OUTPUTS, Gradient
from suite.comparison.tolerance import assert_bitwise_equal, relative_error

CPU, NAME = torch.device("cpu"), "batched_cpu"
pytestmark = [pytest.mark.impl(name=NAME), pytest.mark.usefixtures("built")]


@contextmanager
def multiplied_by(name: str) -> Iterator[None]:
    """Multiply bfloat16 in a way while the context is open."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv(sets.WAY_VARIABLE, name)
        loading._results.clear()  # the next call loads the library, which then chooses
        try:
            yield
        finally:
            loading._results.clear()


@pytest.fixture(params=sets.WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """A way to multiply bfloat16, taken while the test runs."""
    name: str = request.param
    if name not in sets.ways():
        pytest.skip(f"This processor does not multiply bfloat16 by {name}.")
    with multiplied_by(name):
        yield name


def compared(thorough: bool) -> list[Comparison]:
    """Small cases, wide ones on both sides of the sizes of tiles, and in a thorough run every use."""
    comparisons = [against_naive(case, BF16) for case in VERIFY_FIRST]
    for comparison in (*wide(NAME), *grouped(NAME)):
        few = not comparison.name and comparison.case in WIDE[::3]
        every = comparison.default or comparison.case in TIMED
        if comparison.dtype == BF16 and (every if thorough else few):
            comparisons.append(comparison)
    return comparisons


@pytest.mark.address_sanitizer
def test_a_way_keeps_the_rule(way: str, request: pytest.FixtureRequest, keep: Keep) -> None:
    cases = compared(request.config.getoption("--thorough"))
    judgements = {each.id: each.worst(implementation(NAME), CPU) for each in cases}
    case, worst = max(judgements.items(), key=lambda item: item[1].ratio)
    keep("verify", verify_row(NAME, BF16, multiplied(way), worst, oracle=""))
    assert not worst.wrong, f"{case}, {worst}"


def test_what_is_stored_is_rounded_to_nearest(way: str) -> None:
    """The rule does not ask for it: it allows twice the error of the naive form, which rounds every sum."""
    case = replace(ROWS, T=1)
    results, exact = results_and_expected(NAME, case, draw(case, 1, BF16, CPU), 1 << 30)
    h_hat = exact["h_hat"]  # which depends on nothing else that is stored
    assert relative_error(results["h_hat"], h_hat) < 1.1 * relative_error(h_hat.to(BF16), h_hat)


@pytest.mark.address_sanitizer
def test_nan_stays_in_its_row_of_a_way(way: str) -> None:
    sample = draw(ROWS, 1, BF16, CPU)
    x = sample.x.clone()
    x[1, 20] = torch.nan
    changed, expected = (results_of(NAME, ROWS, sample._replace(x=each)) for each in (x, sample.x))
    others = torch.tensor([row for row in range(ROWS.B) if row != 20])
    assert_bitwise_equal(*({n: each[n].index_select(1, others) for n in OUTPUTS} for each in (changed, expected)))
    assert changed["out"][1, 20].isnan().all()


def test_ways_differ_in_bits() -> None:
    """So the variable chooses. Of sums so long that another order shows."""
    if len(sets.ways()) == 1:
        pytest.skip("This processor multiplies bfloat16 in one way.")
    runs = []
    for name in sets.ways():
        with multiplied_by(name):
            results = results_of(NAME, WIDE[12], draw(WIDE[12], 1, BF16, CPU))
            runs.append(results[Gradient("layers.0.weight_h")])
    assert all(not torch.equal(one, other) for one, other in pairwise(runs))


def test_an_unknown_way_is_refused() -> None:
    with multiplied_by("other"):
        with pytest.raises(ValueError, match=r"HYPERLSTM_BFLOAT16: expected .*got 'other'") as raised:
            sets.way()
        assert why_unavailable(NAME, CPU, BF16) == str(raised.value)
        assert why_unavailable(NAME, CPU, torch.float32) is None
