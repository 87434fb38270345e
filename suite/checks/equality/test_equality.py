"""Every implementation equals the oracle, in every dtype that it supports."""

from dataclasses import replace

import pytest
import torch

from impls import names
from impls.definition import dtype_name
from impls.registry import IMPLS
from suite.conftest import Record, skip_reason
from suite.shared.cases import DROPOUT, LONG, RAGGED, VERIFY, VERIFY_COMPILING, VERIFY_FIRST, VERIFY_TINY, Case
from suite.shared.compare import DRAWS, FLOOR, compare, implementation

PAIRS = [(case, dtype) for dtype in FLOOR for case in (*VERIFY, RAGGED[0], DROPOUT[0])]
PAIRS += [(case, torch.float64) for case in VERIFY_TINY + RAGGED[1:] + DROPOUT[1:]]
PARAMS = [
    pytest.param(
        case,
        dtype,
        marks=[] if case in VERIFY_FIRST else pytest.mark.thorough("other cases of each implementation and dtype"),
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
    # In float64 the rule is its floor, which any draw must keep; the second shows what the first left behind.
    draws = 2 if dtype == torch.float64 else DRAWS
    try:
        worst = compare(implementation(name), case, dtype, device, draws=draws)[0]
    except Exception as error:
        record(name, dtype, case.id, "FAIL", reason=f"{type(error).__name__}: {error}")
        raise
    record(name, dtype, case.id, "pass" if worst.ratio <= 1 else "FAIL", worst)
    assert worst.ratio <= 1, str(worst)


@pytest.mark.thorough("sums over the rows of a long sequence")
@pytest.mark.parametrize("name", [impl.name for impl in IMPLS if not impl.literal])
def test_a_sum_over_many_rows_errs_as_one_taken_step_by_step(name: str, device: torch.device, record: Record) -> None:
    """By the rule, with row_scaled for naive, which would take a minute."""
    if reason := skip_reason(name, device, torch.float32, LONG):
        pytest.skip(reason)
    worst = compare(implementation(name), LONG, torch.float32, device, against="row_scaled", draws=1)[0]
    record(name, torch.float32, LONG.id, "pass" if worst.ratio <= 1 else "FAIL", worst)
    assert worst.ratio <= 1, str(worst)


@pytest.mark.thorough("code compiled for batches of every size")
@pytest.mark.parametrize("name", [impl.name for impl in IMPLS if impl.compiles_each_size])
def test_equals_the_oracle_where_the_batch_size_changes(name: str, device: torch.device) -> None:
    """After two sizes of the batch torch compiles once for all."""
    case = VERIFY_COMPILING[0]
    if reason := skip_reason(name, device, torch.float32, case):
        pytest.skip(reason)
    for B in (3, 5, 2):
        worst = compare(implementation(name), replace(case, B=B), torch.float32, device)[0]
        assert worst.ratio <= 1, f"B {B}, {worst}"
