"""At the sizes that people run, every implementation equals row_scaled in float64, which equals the equation there."""

import pytest

from impls import names
from suite.checks.equality.comparisons import DEFAULT, Comparison, wide
from suite.checks.equality.conftest import Check, every
from suite.shared.cases import DRAWN_THOROUGH, SEED


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Draw cases: more in a thorough run, half of them with a seed of that run."""
    option = metafunc.config.getoption
    half = DRAWN_THOROUGH // 2
    draws = ((half, SEED), (half, option("--seed"))) if option("--thorough") else DEFAULT
    pairs = {(name, one) for name in names() for one in wide(name, draws)}
    # Implementations one after the other on each case, so that its references are in memory.
    in_order = sorted(pairs, key=lambda pair: (pair[1].id, str(pair[1].dtype), pair[0]))
    parameters = every(in_order, "large workloads, and wide cases in float16")
    metafunc.parametrize(*parameters.args)


def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
