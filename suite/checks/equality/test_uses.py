"""Any two values of two options in one call, frozen parameters, gradients and calls in any form: each is right."""

from suite.checks.equality.catalogue import grouped, of_every_implementation, paired
from suite.checks.equality.comparisons import Comparison
from suite.checks.equality.parametrised import Check, every


@every(
    of_every_implementation(grouped, paired),
    left_out="uses of row_scaled on further cases, and options of naive in pairs",
)
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)
