"""The comparison finds every planted fault, by the tensor that it damages."""

from collections.abc import Iterator

import pytest
import torch

from impls.definition import dtype_name
from suite.checks.equality.tasks import Comparison
from suite.checks.faults.faults import FAULTS, comparisons, planted, why_not_run
from suite.checks.faults.planting import Fault
from suite.checks.recording import Keep
from suite.comparison.tensors import OUTPUTS
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


def caught(fault: Fault) -> tuple[Comparison | None, Judgement | None, list[Judgement]]:
    """The first comparison that catches a fault, its judgement on the damaged tensor, and all that are wrong.

    If none does, no comparison and no judgement, and all that are wrong in any of them.
    """
    others: list[Judgement] = []
    if fault.threads > 1:
        torch.set_num_threads(fault.threads)
    with planted(fault) as build:
        for comparison in comparisons(fault):
            for judgements in comparison.judgements(build, CPU):
                wrong = [judgement for judgement in judgements if judgement.wrong]
                blamed = [judgement for judgement in wrong if fault.blamed_by(judgement)]
                if blamed:
                    return comparison, blamed[0], wrong
                others += wrong
    return None, None, others


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_rejects_and_names_what_is_damaged(fault: Fault, keep: Keep) -> None:
    if reason := why_not_run(fault):
        pytest.skip(reason)
    comparison, worst, wrong = caught(fault)
    row = {"edit": fault.name, "kind": fault.kind, "implementation": fault.implementation}
    row["dtype"] = dtype_name(fault.dtype)
    if comparison is None or worst is None:
        keep("faults", **row, verdict=FaultOutcome.SURVIVED, case="", wrong=0)
        others = sorted({str(judgement) for judgement in wrong})
        pytest.fail(f"survived: {fault.blames} in no comparison; wrong: {others or 'nothing'}")
    keep("faults", **row, verdict=FaultOutcome.REJECTED, case=comparison.id, **worst.columns, wrong=len(wrong))
    if fault.blames.startswith("grad "):
        failing = {judgement.subject for judgement in wrong}
        assert failing.isdisjoint(OUTPUTS), "the output is right, but fails"
