"""A comparison passes up to its limit, and beyond it the test fails and its row is red."""

from contextlib import nullcontext
from math import inf, nan

import pytest
import torch

from suite.checks.equality.catalogue import TINY
from suite.checks.equality.comparisons import Comparison, against_naive
from suite.checks.equality.parametrised import Check
from suite.comparison.tolerance import Judgement
from suite.results.outcomes import Verdict


@pytest.mark.parametrize(("error", "wrong"), [(1.0, False), (1.0 + 1e-9, True), (inf, True), (nan, True)])
def test_a_row_is_red_where_its_test_fails(
    error: float, wrong: bool, check: Check, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Comparison, "worst", lambda *_: Judgement("out", error, 1.0))
    with pytest.raises(AssertionError, match=r"^out: relative error") if wrong else nullcontext():
        check("naive", against_naive(TINY, torch.float64))
    ((_, (_, table, row)),) = request.node.user_properties
    request.node.user_properties.clear()  # of no verification
    assert (table, row["verdict"]) == ("verify", Verdict.FAIL if wrong else Verdict.PASS)
