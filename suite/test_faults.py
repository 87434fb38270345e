"""The comparison finds every fault that was put in on purpose, so it would find one that was not."""

import pytest
import torch

from .cases import VERIFY
from .compare import Verdict, compare
from .faults import FAULTS, Fault

#: A fault is no rounding error: it shows in any draw.
DRAWS = 2
CASES = [case for case in VERIFY if case.T > 2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_rejects(fault: Fault) -> None:
    with fault.planted() as build:
        worst: list[Verdict] = [
            compare(build, case, torch.float64, torch.device("cpu"), draws=DRAWS)[0] for case in CASES
        ]
    assert max(verdict.ratio for verdict in worst) > 1, "survived every case"


def test_an_edit_that_no_longer_applies_is_an_error() -> None:
    stale = Fault("stale", "row_scaled", (("no such line", ""),), "row_scaled")
    with pytest.raises(LookupError, match=r"expected 'no such line' once in row_scaled\.py, found 0"), stale.planted():
        pass
