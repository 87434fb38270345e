"""The comparisons of a default run meet every size and use at which an implementation may do something else."""

import pytest
import torch

from impls import names, why_unavailable
from impls.definition import dtype_name
from impls.registry import find
from suite.checks.equality.comparisons import Comparison, small, used, wide
from suite.checks.faults.reach import FAULTS, Fault, row
from suite.conftest import Keep
from suite.shared.compare import Verdict, implementation

CPU = torch.device("cpu")
#: In these a percent is more than what is allowed.
EXACT = (torch.float64, torch.float32)


def compared(name: str) -> list[Comparison]:
    """What a default run compares, the quickest first."""
    every = [each for each in (*small(name), *wide(name), *used(name)) if each.default and each.dtype in EXACT]
    return sorted(every, key=lambda each: each.case.parameters() + each.case.multiply_adds())


def first_rejection(name: str, fault: Fault) -> tuple[Comparison, Verdict] | None:
    """The first comparison that rejects an implementation with the fault."""
    build = fault.planted(implementation(name))
    for each in compared(name):
        for verdict in each.verdicts(build, CPU) if fault.possible(each.case, each.use) else ():
            if not verdict.ratio <= 1:
                return each, verdict
    return None


#: The module is row_scaled's: what it is compared with does not go through it.
NAMES = [name for name in names() if not find(name).oracle and not find(name).compiles_each_size]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_at_some_sizes_is_found(name: str, fault: Fault, keep: Keep) -> None:
    if reason := why_unavailable(name, CPU):
        pytest.skip(reason)
    where = first_rejection(name, fault)
    if where is None:
        keep("faults", **row(name, fault, dtype_name(EXACT[0]), "", None))
        pytest.fail("no comparison of a default run rejects it")
    comparison, worst = where
    keep("faults", **row(name, fault, dtype_name(comparison.dtype), comparison.id, worst))
