"""At the sizes that people run, every implementation equals row_scaled in float64, which equals the equation there."""

import pytest

from suite.checks.equality.catalogue import of_every_implementation, wide
from suite.checks.equality.comparison import Comparison, Task
from suite.checks.equality.conftest import Check, every

pytestmark = pytest.mark.order(3)


def by_case(task: Task) -> tuple[str, str, str]:
    """Implementations one after the other on each case, so that its references are in memory."""
    return task.comparison.id, str(task.comparison.dtype), task.name


@every(
    sorted(of_every_implementation(wide), key=by_case),
    left_out="large workloads, wide cases in float16, and more random sizes",
)
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
