"""At the sizes that people run, every implementation equals row_scaled in float64, which equals the equation there."""

from suite.cases.verification import IN_FLOAT16
from suite.checks.equality.catalogue import of_every_implementation, wide
from suite.checks.equality.parametrised import Check, every
from suite.checks.equality.tasks import F16, Task


def by_case(task: Task) -> tuple[str, str, str]:
    """Implementations one after the other on each case, so that its references are in memory."""
    return task.comparison.id, str(task.comparison.dtype), task.name


@every(
    sorted(of_every_implementation(wide), key=by_case),
    left_out="large workloads, wide cases in float16, and more random sizes",
)
def test_equals_the_oracle(task: Task, check: Check) -> None:
    check(task)


def test_a_default_run_has_every_wide_case_that_is_named_for_float16() -> None:
    compared = {comparison.case for comparison in wide("batched") if comparison.dtype == F16 and comparison.default}
    assert compared == {*IN_FLOAT16}
