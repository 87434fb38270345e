"""The comparison finds every planted fault, by the tensor that it damages."""

from collections.abc import Iterator

import pytest
import torch

from impls import why_unavailable
from impls.definition import dtype_name
from suite.checks.equality.comparisons import Comparison
from suite.checks.faults.faults import FAULTS, Edited
from suite.conftest import Keep
from suite.shared import arithmetic
from suite.shared.compare import OUTPUTS, Verdict

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Undo what faults leave behind."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    arithmetic.use("float32")


def keep_row(
    keep: Keep, fault: Edited, verdict: str, case: str = "", worst: Verdict | None = None, wrong: int = 0
) -> None:
    """Keep a row of the table of faults; wrong: number of wrong tensors."""
    about = {"edit": fault.name, "kind": fault.kind, "implementation": fault.runs, "dtype": dtype_name(fault.dtype)}
    figures = {"tensor": worst.tensor, "error": worst.error, "ratio": worst.ratio} if worst else {"tensor": ""}
    keep("faults", **about, case=case, **figures, verdict=verdict, wrong=wrong)


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
    # `test_edits.py` reports a stale edit.
    if reason := fault.stale() or why_unavailable(fault.runs, CPU, fault.dtype):
        pytest.skip(reason)
    comparison, worst, wrong = caught(fault)
    tensors = {verdict.tensor.split(", ")[0] for verdict in wrong}
    if comparison is None:
        keep_row(keep, fault, "SURVIVED")
        pytest.fail(f"survived: {fault.damages} passes in every comparison; wrong: {sorted(tensors) or 'nothing'}")
    keep_row(keep, fault, "rejected", comparison.id, worst, len(wrong))
    if fault.damages.startswith("grad "):
        assert not tensors & set(OUTPUTS), "the output is right, but fails"
