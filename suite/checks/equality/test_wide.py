"""At the sizes that people run, every implementation equals row_scaled in float64, which equals the equation there."""

from suite.checks.equality.catalogue import of_every_implementation, wide
from suite.checks.equality.comparisons import Comparison
from suite.checks.equality.parametrised import Check, Compared, every


def by_case(compared: Compared) -> tuple[str, str, str]:
    """Implementations one after the other on each case, so that its references are in memory."""
    name, comparison = compared
    return comparison.id, str(comparison.dtype), name


@every(
    sorted(of_every_implementation(wide), key=by_case),
    left_out="large workloads, wide cases in float16, and more random sizes",
)
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
