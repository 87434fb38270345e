"""A default run compares every implementation at each size and use at which one may take another code path."""

import pytest
import torch

from impls.registry import IMPLS
from suite.cases.workloads import TIMED
from suite.checks.equality.catalogue import grouped, small, wide
from suite.checks.equality.comparison import BF16, F32, F64, ROUNDED
from suite.checks.faults.reach import unmet
from suite.shared.marks import impl_params

#: Of these there are comparisons at large sizes.
NAMES = [impl.name for impl in IMPLS if not impl.builds_weights]


@pytest.mark.parametrize("name", impl_params(NAMES))
def test_a_comparison_meets_each_condition(name: str) -> None:
    exact = torch.float64, torch.float32  # in half precision a slip of a percent passes
    comparisons = [each for each in (*small(name), *wide(name), *grouped(name)) if each.default and each.dtype in exact]
    conditions = unmet(comparison.case for comparison in comparisons)
    assert not conditions, f"{name}: no comparison of a default run has {', '.join(conditions)}"


def test_a_default_run_compares_what_is_timed() -> None:
    comparisons = [each for each in wide("batched") if each.default and each.group.plain]
    compared = {(comparison.case, comparison.dtype) for comparison in comparisons}
    for case, workload in TIMED.items():
        dtypes = set[torch.dtype]()
        if "cpu" in workload.by_default:
            dtypes = {F32, F64, BF16} if case.layer_norm else {F32}
        assert {dtype for dtype in ROUNDED if (case, dtype) in compared} == dtypes
