"""At the sizes that `--size` names, every implementation that runs here equals row_scaled in float64."""

from suite.checks.equality.at_size import Sized
from suite.checks.equality.conftest import Check


def test_equals_the_oracle(sized: Sized, check: Check) -> None:
    check(sized.name, sized.comparison, sized.refusal)
