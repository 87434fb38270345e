"""At the sizes that people run, every implementation equals row_scaled in float64, which equals the equation there."""

from impls import names
from suite.checks.equality.catalogue import wide
from suite.checks.equality.comparison import Comparison
from suite.checks.equality.conftest import Check, every

COMPARISONS = [(name, comparison) for name in names() for comparison in wide(name)]


# Implementations one after the other on each case, so that its references are in memory.
@every(
    sorted(COMPARISONS, key=lambda pair: (pair[1].id, str(pair[1].dtype), pair[0])),
    left_out="large workloads, wide cases in float16, and more random sizes",
)
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
