"""The comparison finds every fault that was put in on purpose, so it would find one that was not."""

import pytest
import torch

from .cases import VERIFY
from .compare import compare
from .faults import FAULTS, Fault

#: A fault is no rounding error: it shows in any draw.
DRAWS = 2
#: Those with most to go wrong first.
CASES = [case for case in VERIFY if case.T > 2][::-1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_rejects(fault: Fault) -> None:
    with fault.planted() as build:
        verdicts = (compare(build, case, torch.float64, torch.device("cpu"), draws=DRAWS)[0] for case in CASES)
        caught = any(verdict.ratio > 1 for verdict in verdicts)
    assert caught, "survived every case"


def test_an_edit_that_no_longer_applies_is_an_error() -> None:
    stale = Fault("stale", "row_scaled", (("no such line", ""),), "row_scaled")
    with pytest.raises(LookupError, match=r"expected 'no such line' once in row_scaled\.py, found 0"), stale.planted():
        pass
