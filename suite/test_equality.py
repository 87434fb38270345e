"""Every implementation computes what the oracle computes, in every dtype that it claims."""

import pytest
import torch

from impls import names
from impls.registry import dtype_name

from .cases import VERIFY, VERIFY_QUICK, VERIFY_TINY, Case
from .compare import FLOOR, compare, implementation
from .conftest import Record, skip_reason

PAIRS = [(case, dtype) for dtype in FLOOR for case in VERIFY] + [(case, torch.float64) for case in VERIFY_TINY]
PARAMS = [
    pytest.param(
        case,
        dtype,
        marks=[] if case in VERIFY_QUICK else pytest.mark.thorough("the other cases of an implementation and dtype"),
        id=f"{case.id}-{dtype_name(dtype)}",
    )
    for case, dtype in PAIRS
]


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(("case", "dtype"), PARAMS)
def test_equals_the_oracle(name: str, case: Case, dtype: torch.dtype, device: torch.device, record: Record) -> None:
    reason = skip_reason(name, device, dtype, case)
    if reason:
        record(name, dtype, case.id, "skipped", reason=reason)
        pytest.skip(reason)
    try:
        worst = compare(implementation(name), case, dtype, device)[0]
    except Exception as error:
        record(name, dtype, case.id, "FAIL", reason=f"{type(error).__name__}: {error}")
        raise
    record(name, dtype, case.id, "pass" if worst.ratio <= 1 else "FAIL", worst)
    assert worst.ratio <= 1, f"{worst.tensor}: relative error {worst.error:.2e}, allowed {worst.allowed:.2e}"
