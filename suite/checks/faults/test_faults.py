"""The comparison finds every planted fault, by the tensor that it damages, and accepts equivalent rewrites."""

from collections.abc import Iterator

import pytest
import torch

from impls import why_unavailable
from impls.definition import dtype_name
from suite.checks.equality.comparisons import Comparison
from suite.checks.faults.faults import FAULTS, REWRITES, Edited, supported
from suite.conftest import Keep
from suite.shared import arithmetic
from suite.shared.cases import VERIFY
from suite.shared.compare import OUTPUTS, Verdict, compare

CPU = torch.device("cpu")
#: Draws of a rewrite, and its cases: two layers, given states, strided input, layer norm off and on.
REWRITE_DRAWS = 4
REWRITE_CASES = [case for case in VERIFY if case.state == "plain"]


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Undo what faults leave behind."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    arithmetic.use("float32")


def keep_row(
    keep: Keep, planted: str, edited: Edited, verdict: str, case: str = "", worst: Verdict | None = None, wrong: int = 0
) -> None:
    """Keep a row of the table of faults; planted: fault or rewrite. wrong: number of wrong tensors."""
    about = {"edit": edited.name, "kind": edited.kind, "implementation": edited.runs, "dtype": dtype_name(edited.dtype)}
    figures = {"tensor": worst.tensor, "error": worst.error, "ratio": worst.ratio} if worst else {"tensor": ""}
    keep("faults", planted=planted, **about, case=case, **figures, verdict=verdict, wrong=wrong)


def skip_unless_applicable(edited: Edited) -> None:
    """Skip a test whose edit is stale, which `test_edits.py` reports, or whose implementation does not run here."""
    if reason := edited.stale() or why_unavailable(edited.runs, CPU, edited.dtype):
        pytest.skip(reason)


def caught(fault: Edited) -> tuple[Comparison | None, Verdict | None, list[Verdict]]:
    """The first comparison that catches a fault, its verdict on the damaged tensor, and all that are wrong.

    If none does, no comparison and no verdict, and all that are wrong in any of them.
    """
    others: list[Verdict] = []
    with fault.planted() as build:
        for comparison in fault.comparisons:
            for verdicts in comparison.verdicts(build, CPU):
                wrong = [verdict for verdict in verdicts if not verdict.ratio <= 1]
                blamed = [verdict for verdict in wrong if fault.blamed(verdict.tensor)]
                if blamed:
                    return comparison, blamed[0], wrong
                others += wrong
    return None, None, others


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_rejects_and_names_what_is_damaged(fault: Edited, keep: Keep) -> None:
    skip_unless_applicable(fault)
    comparison, worst, wrong = caught(fault)
    tensors = {verdict.tensor.split(", ")[0] for verdict in wrong}
    if comparison is None:
        keep_row(keep, "fault", fault, "SURVIVED")
        pytest.fail(f"survived: {fault.damages} passes in every comparison; wrong: {sorted(tensors) or 'nothing'}")
    keep_row(keep, "fault", fault, "rejected", comparison.id, worst, len(wrong))
    if fault.damages.startswith("grad "):
        assert not tensors & set(OUTPUTS), "the output is right, but fails"


@pytest.mark.parametrize("rewrite", REWRITES, ids=lambda rewrite: rewrite.name.replace(" ", "-"))
def test_accepts_the_same_function_written_otherwise(rewrite: Edited, keep: Keep) -> None:
    skip_unless_applicable(rewrite)
    with rewrite.planted() as build:
        worst = {
            case: compare(build, case, rewrite.dtype, CPU, draws=REWRITE_DRAWS)[0]
            for case in supported(rewrite.runs, REWRITE_CASES)
        }
    case, most = max(worst.items(), key=lambda item: item[1].ratio)
    right = most.ratio <= 1
    keep_row(keep, "rewrite", rewrite, "accepted" if right else "REJECTED", case.id, most, int(not right))
    assert right, most
