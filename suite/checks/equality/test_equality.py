"""Every implementation equals the oracle, in every dtype that it supports."""

import pytest
import torch

from impls import names
from impls.registry import IMPLS
from suite.checks.equality.comparisons import Comparison, small
from suite.checks.equality.conftest import Check, every
from suite.conftest import Record, skip_unless_checked
from suite.shared.cases import LONG
from suite.shared.compare import compare, implementation


@every(((name, one) for name in names() for one in small(name)), "other cases of each implementation and dtype")
def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)


@pytest.mark.thorough("sums over the rows of a long sequence")
@pytest.mark.parametrize("name", [impl.name for impl in IMPLS if not impl.literal])
def test_a_sum_over_many_rows_stays_accurate(name: str, device: torch.device, record: Record) -> None:
    """By the rule, with row_scaled for naive, which would take a minute."""
    skip_unless_checked(name, device, case=LONG)
    worst = compare(implementation(name), LONG, torch.float32, device, against="row_scaled", draws=1)[0]
    record(name, torch.float32, LONG.id, "pass" if worst.ratio <= 1 else "FAIL", worst)
    assert worst.ratio <= 1, str(worst)
