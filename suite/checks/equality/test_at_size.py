"""At the sizes that `--size` names, every implementation that runs here equals row_scaled in float64."""

import pytest

from suite.checks.equality.comparison import Comparison
from suite.checks.equality.parameters import Check
from suite.comparison.memory import Shortage


@pytest.mark.at_size
def test_equals_the_oracle(name: str, sized: Comparison, shortage: Shortage | None, check: Check) -> None:
    check(name, sized, shortage, asked_for=True)
