"""The comparison finds every planted fault, by the tensor that it damages, and accepts equivalent rewrites."""

from collections.abc import Iterator

import pytest
import torch

from impls import why_unavailable
from impls.definition import dtype_name
from suite.checks.equality.comparisons import Comparison
from suite.checks.faults.faults import FAULTS, REWRITES, Edited, Fault, Rewrite, row, supported
from suite.conftest import Keep
from suite.shared import arithmetic
from suite.shared.cases import VERIFY
from suite.shared.compare import OUTPUTS, Verdict, compare

CPU = torch.device("cpu")
#: Cases of a rewrite: two layers, given states, strided input, layer norm off and on; and their draws.
REWRITE_DRAWS = 4
REWRITE_CASES = [case for case in VERIFY if case.state == "plain"]


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Undo what faults leave behind."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    arithmetic.use("float32")


def skip_unless_applicable(edited: Edited, dtype: torch.dtype) -> None:
    """Skip a test whose edit is stale, which `test_edits.py` reports, or whose implementation does not run here."""
    if reason := edited.stale() or why_unavailable(edited.runs, CPU, dtype):
        pytest.skip(reason)


def caught(fault: Fault) -> tuple[Comparison | None, Verdict | None, list[Verdict]]:
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
def test_rejects_and_names_what_is_damaged(fault: Fault, keep: Keep) -> None:
    dtype = fault.comparisons[0].dtype
    skip_unless_applicable(fault, dtype)
    comparison, worst, wrong = caught(fault)
    tensors = {verdict.tensor.split(", ")[0] for verdict in wrong}
    about = fault.name, fault.kind, fault.runs, dtype_name(dtype)
    if comparison is None or worst is None:
        keep("faults", **row("fault", *about, "", None, 0))
        pytest.fail(f"survived: {fault.damages} passes in every comparison; wrong: {sorted(tensors) or 'nothing'}")
    keep("faults", **row("fault", *about, comparison.id, worst, len(wrong)))
    if fault.damages.startswith("grad "):
        assert not tensors & set(OUTPUTS), "the output is right, but fails"


#: The rewrites of a default run: the first of each kind, in dtypes that alternate.
CHOSEN = [
    (rewrite, rewrite.dtypes[n % len(rewrite.dtypes)])
    for n, rewrite in enumerate({rewrite.kind: rewrite for rewrite in reversed(REWRITES)}.values())
]


@pytest.mark.parametrize(
    ("rewrite", "dtype"),
    [
        pytest.param(
            rewrite,
            dtype,
            marks=() if (rewrite, dtype) in CHOSEN else pytest.mark.thorough("other equivalent rewrites"),
            id=f"{rewrite.name.replace(' ', '-')}-{dtype_name(dtype)}",
        )
        for rewrite in REWRITES
        for dtype in rewrite.dtypes
    ],
)
def test_accepts_the_same_function_written_otherwise(rewrite: Rewrite, dtype: torch.dtype, keep: Keep) -> None:
    skip_unless_applicable(rewrite, dtype)
    with rewrite.planted() as build:
        worst = {
            case: compare(build, case, dtype, CPU, draws=REWRITE_DRAWS)[0]
            for case in supported(rewrite.runs, REWRITE_CASES)
        }
    case, most = max(worst.items(), key=lambda item: item[1].ratio)
    about = rewrite.name, rewrite.kind, rewrite.runs, dtype_name(dtype)
    keep("faults", **row("rewrite", *about, case.id, most, int(not most.ratio <= 1)))
    assert most.ratio <= 1, most
