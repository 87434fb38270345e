"""A comparison passes up to its limit, and fails beyond it."""

import math
from contextlib import nullcontext

import pytest
import torch

from impls import HyperLSTM
from impls.registry import ORACLE, Impl
from suite.cases.case import Case
from suite.checks.equality.catalogue import TINY
from suite.checks.equality.parametrised import Check
from suite.checks.equality.tasks import Comparison, Group, Task, against_naive
from suite.checks.equality.use import Use
from suite.comparison.draws import Build, Draw
from suite.comparison.runs import Outcome, run_plain
from suite.comparison.tensors import Output
from suite.comparison.tolerance import Judgement
from suite.results.outcomes import CaseOutcome

PASS, FAIL = CaseOutcome.PASS, CaseOutcome.FAIL


@pytest.mark.parametrize(
    ("error", "verdict"), [(0.0, PASS), (1.0, PASS), (1.0 + 1e-9, FAIL), (math.inf, FAIL), (math.nan, FAIL)]
)
def test_a_row_is_red_where_its_test_fails(
    error: float, verdict: CaseOutcome, check: Check, request: pytest.FixtureRequest
) -> None:
    class Fixed(Comparison):
        def worst(self, build: Build, device: torch.device) -> Judgement:
            return Judgement(Output.OUT, error, 1.0)

    with nullcontext() if verdict is PASS else pytest.raises(AssertionError, match=r"^out: relative error"):
        check(Task("naive", Fixed(*against_naive(TINY, torch.float64))))
    ((_, (table, _, _, row)),) = request.node.user_properties
    request.node.user_properties.clear()  # of no verification
    assert (table, row["verdict"]) == ("verify", verdict)


def test_an_error_of_several_lines_is_one_line_of_a_row(check: Check, request: pytest.FixtureRequest) -> None:
    """And says which of many uses failed."""

    def crash(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        raise RuntimeError("CUDA error:\n  out of memory\n")

    group = Group("two uses", (Use("plain", run_plain), Use("crash", crash)))
    comparison = against_naive(TINY, torch.float64, group)
    with pytest.raises(RuntimeError):
        check(Task("naive", comparison))
    ((_, (_, _, _, row)),) = request.node.user_properties
    request.node.user_properties.clear()  # of no verification
    assert row["verdict"] == FAIL
    assert row["reason"] == f"RuntimeError: CUDA error: out of memory in the use 'crash' of {comparison.id}"


@pytest.mark.parametrize("interpreted", [False, True])
def test_a_row_says_whether_kernels_were_interpreted(
    interpreted: bool, check: Check, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Impl, "interpreted", lambda impl, device: interpreted)
    check(Task(ORACLE, against_naive(TINY, torch.float64)))
    ((_, (_, _, _, row)),) = request.node.user_properties
    request.node.user_properties.clear()  # of no verification
    assert row["interpreted"] is interpreted
