"""At the sizes that people run, every implementation equals row_scaled in float64, which equals the equation there."""

from suite.checks.equality.catalogue import of_every_implementation, wide
from suite.checks.equality.comparisons import Comparison
from suite.checks.equality.parametrised import Check, every


@every(
    of_every_implementation(wide),
    left_out="large workloads, wide cases in float16, and more random sizes",
)
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
