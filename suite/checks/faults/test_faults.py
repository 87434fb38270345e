"""The comparison finds every planted fault, by the tensor that it damages, and accepts equivalent rewrites."""

from collections.abc import Iterator

import pytest
import torch

from impls import why_unavailable
from impls.definition import dtype_name
from suite.checks.faults.faults import FAULTS, REWRITES, Fault, Rewrite, edits, row, supported
from suite.conftest import Keep
from suite.shared.cases import VERIFY, Case
from suite.shared.compare import OUTPUTS, Verdict, compare

CPU = torch.device("cpu")
#: A fault is no rounding error: any draw shows it. State that is kept between runs shows in the second.
DRAWS = 2
#: Cases of a rewrite: two layers, given states, strided input, layer norm off and on; and their draws.
REWRITE_DRAWS = 4
REWRITE_CASES = [case for case in VERIFY if case.state == "plain"]


def caught(fault: Fault) -> Iterator[tuple[Case, Verdict, list[Verdict]]]:
    """Each case that catches a fault: the verdict on the tensor that it damages, and all verdicts that are wrong."""
    with fault.planted() as build:
        for case in fault.cases:
            verdicts = compare(build, case, fault.dtype, CPU, against=fault.against, draws=DRAWS)
            wrong = [verdict for verdict in verdicts if not verdict.ratio <= 1]
            blamed = [verdict for verdict in wrong if fault.blamed(verdict.tensor)]
            if blamed:
                yield case, blamed[0], wrong


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_rejects_and_names_what_is_damaged(fault: Fault, keep: Keep) -> None:
    reason = why_unavailable(fault.runs, CPU, fault.dtype)
    if reason is not None:
        pytest.skip(reason)
    case, worst, wrong = next(caught(fault), (None, None, []))
    about = fault.name, fault.kind, fault.runs, dtype_name(fault.dtype)
    keep("faults", **row("fault", *about, case.id if case else "", worst, len(wrong)))
    assert worst is not None, f"survived every case: {fault.damages} passes"
    if fault.kind.startswith("gradient"):
        assert not {verdict.tensor for verdict in wrong} & set(OUTPUTS), "the output is right, but fails"


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
            marks=[pytest.mark.thorough("other equivalent rewrites")] * ((rewrite, dtype) not in CHOSEN),
            id=f"{rewrite.name.replace(' ', '-')}-{dtype_name(dtype)}",
        )
        for rewrite in REWRITES
        for dtype in rewrite.dtypes
    ],
)
def test_accepts_the_same_function_written_otherwise(rewrite: Rewrite, dtype: torch.dtype, keep: Keep) -> None:
    with rewrite.planted() as build:
        worst = {
            case: compare(build, case, dtype, CPU, draws=REWRITE_DRAWS)[0]
            for case in supported(rewrite.runs, REWRITE_CASES)
        }
    case, most = max(worst.items(), key=lambda item: item[1].ratio)
    about = rewrite.name, rewrite.kind, rewrite.runs, dtype_name(dtype)
    keep("faults", **row("rewrite", *about, case.id, most, int(not most.ratio <= 1)))
    assert most.ratio <= 1, most


def test_every_edit_has_a_name_of_its_own() -> None:
    names = [edited.name for edited in (*FAULTS, *REWRITES)]
    assert len(set(names)) == len(names)


def test_an_edit_that_does_not_apply_raises() -> None:
    stale = Fault("stale", "step", edits("row_scaled", "no such line", ""), "row_scaled")
    with pytest.raises(LookupError, match=r"expected 'no such line' once in row_scaled\.py, found 0"), stale.planted():
        pass
