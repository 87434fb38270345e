"""At the sizes that `--size` names, every implementation that runs here equals row_scaled in float64."""

import pytest

from suite.checks.equality.comparison import Task
from suite.checks.equality.parameters import Check


@pytest.mark.at_size
def test_equals_the_oracle(sized: Task, check: Check) -> None:
    check(sized.name, sized.comparison, sized.shortage, asked_for=True)
