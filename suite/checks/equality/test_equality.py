"""Every implementation equals the oracle, in every dtype that it supports."""

import pytest

from impls import names
from suite.checks.equality.catalogue import small
from suite.checks.equality.comparison import Comparison
from suite.checks.equality.conftest import Check, every

COMPARISONS = [(name, comparison) for name in names() for comparison in small(name)]


@pytest.mark.address_sanitizer
@every(COMPARISONS, left_out="other cases of each implementation and dtype")
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
