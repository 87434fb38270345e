"""A default run compares every implementation at each size and use at which one may take another code path."""

import pytest
import torch

from impls.registry import IMPLS, find
from suite.cases.plan import workloads
from suite.cases.workloads import TIMED
from suite.checks.equality.catalogue import grouped, small, wide
from suite.checks.equality.tasks import BF16, F32, F64
from suite.checks.faults.reach import unmet
from suite.comparison.tolerance import DTYPES
from suite.shared.devices import DeviceType
from suite.shared.marks import impl_params

#: Of these there are comparisons at large sizes.
NAMES = [impl.name for impl in IMPLS if not impl.builds_weights]


@pytest.mark.parametrize("name", impl_params(NAMES))
def test_a_comparison_meets_each_condition(name: str) -> None:
    exact = torch.float64, torch.float32  # in half precision a slip of a percent passes
    comparisons = [each for each in (*small(name), *wide(name), *grouped(name)) if each.default and each.dtype in exact]
    conditions = unmet(comparison.case for comparison in comparisons)
    assert not conditions, f"{name}: no comparison of a default run has {', '.join(conditions)}"


@pytest.mark.parametrize("name", ["batched", "batched_cuda"])
def test_a_default_run_compares_what_a_cpu_times(name: str) -> None:
    """All of it in float32, with layer norm in every dtype; what runs on a GPU alone also at the other sizes."""
    comparisons = [each for each in wide(name) if each.default and each.group.plain]
    compared = {(comparison.case, comparison.dtype) for comparison in comparisons}
    on_cpu = DeviceType.CPU in find(name).devices
    for case, workload in TIMED.items():
        dtypes = {F32}
        if workload.name not in workloads(DeviceType.CPU) and (on_cpu or not case.layer_norm):
            dtypes = set()
        elif workload.name in workloads(DeviceType.CPU) and case.layer_norm:
            dtypes = {F32, F64, BF16}.intersection(find(name).dtypes)
        assert {dtype for dtype in DTYPES if (case, dtype) in compared} == dtypes
