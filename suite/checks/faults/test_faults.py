"""The comparison finds every planted fault, by the tensor that it damages."""

from collections.abc import Iterator

import pytest
import torch

from impls import why_unavailable
from impls.definition import dtype_name
from suite.checks.equality.tasks import Comparison
from suite.checks.faults.faults import FAULTS, Planted
from suite.checks.recording import Keep
from suite.comparison.tensors import OUTPUTS, Gradient
from suite.comparison.tolerance import Judgement
from suite.results.outcomes import FaultOutcome
from suite.shared.arithmetic import Arithmetic

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Undo what faults leave behind."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    Arithmetic.FLOAT32.use()


def keep_row(
    keep: Keep,
    planted: Planted,
    verdict: FaultOutcome,
    *,
    comparison: str = "",
    worst: Judgement | None = None,
    wrong: int = 0,
) -> None:
    """Keep a row of the table of faults; comparison: id of the one that rejects. wrong: its judgements that do."""
    fault = planted.fault
    row = {"edit": fault.name, "kind": fault.kind, "implementation": planted.edited.runs}
    row |= {"dtype": dtype_name(fault.dtype), "case": comparison, "verdict": verdict}
    figures = worst.columns if worst is not None else {}
    keep("faults", **row, **figures, wrong=wrong)


def caught(planted: Planted) -> tuple[Comparison | None, Judgement | None, list[Judgement]]:
    """The first comparison that catches a fault, its judgement on the damaged tensor, and all that are wrong.

    If none does, no comparison and no judgement, and all that are wrong in any of them.
    """
    others: list[Judgement] = []
    with planted.edited.planted() as build:
        for comparison in planted.comparisons:
            for judgements in comparison.judgements(build, CPU):
                wrong = [judgement for judgement in judgements if judgement.wrong]
                shown = [judgement for judgement in wrong if planted.fault.shown_by(judgement)]
                if shown:
                    return comparison, shown[0], wrong
                others += wrong
    return None, None, others


@pytest.mark.parametrize("planted", FAULTS, ids=lambda planted: planted.fault.name.replace(" ", "-"))
def test_rejects_and_names_what_is_damaged(planted: Planted, keep: Keep) -> None:
    fault, edited = planted.fault, planted.edited
    # `test_edits.py` reports a stale edit.
    if reason := edited.stale() or why_unavailable(edited.runs, CPU, fault.dtype):
        pytest.skip(reason)
    comparison, worst, wrong = caught(planted)
    if comparison is None:
        keep_row(keep, planted, FaultOutcome.SURVIVED)
        others = sorted({str(judgement) for judgement in wrong})
        pytest.fail(f"survived: {fault.shows} in no comparison; wrong: {others or 'nothing'}")
    keep_row(keep, planted, FaultOutcome.REJECTED, comparison=comparison.id, worst=worst, wrong=len(wrong))
    if isinstance(fault.shows, Gradient):
        failing = {judgement.subject for judgement in wrong}
        assert failing.isdisjoint(OUTPUTS), "the output is right, but fails"
