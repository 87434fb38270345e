"""At the sizes that `--size` names, every implementation that runs here equals row_scaled in float64."""

import pytest

from suite.checks.equality.parametrised import Check
from suite.checks.equality.tasks import Task


@pytest.mark.at_size
def test_equals_the_oracle(sized: Task, check: Check) -> None:
    check(sized)
