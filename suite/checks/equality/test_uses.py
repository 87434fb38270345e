"""Frozen parameters, gradients in any layout, calls in any form, and inference give what a plain call gives."""

from impls import names
from suite.checks.equality.comparisons import Comparison, used
from suite.checks.equality.conftest import Check, every


@every(((name, one) for name in names() for one in used(name)), "nothing")
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
