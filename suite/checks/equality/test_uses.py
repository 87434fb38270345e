"""Frozen parameters, gradients in any layout, calls in any form, and inference give what a plain call gives."""

import pytest

from impls import names
from impls.definition import dtype_name
from suite.checks.equality.comparisons import Comparison, used
from suite.checks.equality.conftest import Check

thorough = pytest.mark.thorough("uses of what compiles for each of them")


@pytest.mark.parametrize(
    ("name", "comparison"),
    [
        pytest.param(name, each, marks=[thorough] * (not each.default), id=f"{name}-{each.id}-{dtype_name(each.dtype)}")
        for name in names()
        for each in used(name)
    ],
)
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
