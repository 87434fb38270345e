"""Every implementation equals the oracle, in every dtype that it supports."""

import pytest

from suite.checks.equality.catalogue import of_every_implementation, small
from suite.checks.equality.comparisons import Comparison
from suite.checks.equality.parametrised import Check, every


@pytest.mark.address_sanitizer
@every(of_every_implementation(small), left_out="other cases of each implementation and dtype")
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
