"""The id of a comparison, in test ids and rows, says which comparison of an implementation and dtype it is."""

import pytest

from impls import names
from suite.checks.equality.catalogue import LARGE, every_comparison, of_every_implementation
from suite.checks.equality.tasks import F64, Comparison, against_naive, against_wide


def test_comparisons_of_an_implementation_in_a_dtype_have_ids_of_their_own() -> None:
    tasks = every_comparison()  # which refuses any other
    assert {task.name for task in tasks} == {*names()}


def test_two_comparisons_that_differ_in_their_oracle_alone_are_refused() -> None:
    def twice(_: str) -> list[Comparison]:
        return [against_naive(LARGE, F64), against_wide(LARGE, F64)]

    with pytest.raises(ValueError, match=f"^naive: expected one {LARGE.id} in torch.float64, got two"):
        of_every_implementation(twice)
