"""The end of a verification says what failed, what was checked, what was not and why, and the answer."""

import io
from typing import Any

import pandas as pd
from rich.console import Console

from impls import names
from suite.pages.verify import answer, say
from suite.shared.cases import INTERPRETED

ON_CUDA = "batched_cuda runs on cuda, not on cpu."


def row(implementation: str, dtype: str, ratio: float | None, reason: str = "") -> dict[str, Any]:
    verdict = "skipped" if ratio is None else "pass" if ratio <= 1 else "FAIL"
    about = {"implementation": implementation, "dtype": dtype, "case": "training", "verdict": verdict, "tensor": "out"}
    return about | {"ratio": ratio, "reason": reason}


RIGHT = [row("naive", "float64", 0.25), row("naive", "float32", 0.5), row("batched", "float32", 0.125)]
INTERPRETED_ONE = row("batched_cuda", "float32", 0.375, INTERPRETED)
SKIPPED_ONE = row("batched_cuda", "float32", None, ON_CUDA)


def sentence(rows: list[dict[str, Any]], failed: int = 0) -> str:
    return answer(pd.DataFrame(rows), failed)


def test_the_answer_counts_what_ran() -> None:
    right = sentence(RIGHT)
    assert right == (
        "All comparisons with the equation passed: 2 implementations, 3 comparisons, worst error 0.50 of the limit."
    )
    assert sentence([*RIGHT, INTERPRETED_ONE]) == (
        "All comparisons with the equation passed: 3 implementations, 4 comparisons, worst error 0.50 of the limit. "
        "batched_cuda was only interpreted."
    )
    assert sentence([*RIGHT, SKIPPED_ONE, INTERPRETED_ONE]) == sentence([*RIGHT, INTERPRETED_ONE])
    other = row("batched_cuda", "float64", None, "batched_cuda computes in float32, not in float64.")
    assert sentence([*RIGHT, other, SKIPPED_ONE]) == f"{right} batched_cuda was not checked: {ON_CUDA}"
    assert sentence([]) == sentence([SKIPPED_ONE]) == ""


def test_the_answer_says_what_is_wrong() -> None:
    assert sentence([*RIGHT, row("batched", "float64", 3.0)], failed=1) == (
        "1 test FAILED. Verification failed: batched in float64."
    )
    assert sentence(RIGHT, failed=2).startswith("2 tests FAILED. All comparisons with the equation passed: 2 impl")
    assert sentence([], failed=2) == "2 tests FAILED."


def summary(rows: list[dict[str, Any]], failed: list[tuple[str, str]], reasons: dict[str, int]) -> list[str]:
    """Lines of the end of a run at 80 columns."""
    out = io.StringIO()
    say(Console(file=out, width=80), {"verify": pd.DataFrame(rows)}, failed, reasons, left_out=1277)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_failures_come_before_the_worst_errors() -> None:
    failed = [("suite/test_a.py::test_b[batched]", "AssertionError: grad x: relative error 2.00e-03, allowed 1.00e-03")]
    lines = summary([*RIGHT, row("batched", "float64", 3.0), INTERPRETED_ONE], failed, {})
    assert lines[:2] == ["FAILED suite/test_a.py::test_b[batched]", f"    {failed[0][1]}"]
    cells = [" ".join(line.split()) for line in lines]
    assert "naive 2 2 0.50 float32 pass" in cells
    assert "batched 2 2 3.00 float64 1 FAILED" in cells
    assert "batched_cuda 1 1 0.38 float32 pass, interpreted" in cells


def test_the_end_fits_on_a_screen() -> None:
    every = [row(name, dtype, 0.5) for name in names() for dtype in ("float64", "float32", "bfloat16", "float16")]
    reasons = {ON_CUDA: 2, "No CUDA device here.": 1, "batched_cpu computes in float32, not in float16.": 3}
    reasons |= {"This processor has no AMX.": 9} | {f"Reason {n}.": 1 for n in range(20)}
    lines = summary(every, [], reasons)
    assert len([*lines, "", sentence(every)]) <= 40 - 18  # those of pytest and of the sentences on faults and reach
    assert max(map(len, lines)) <= 80
    assert lines[lines.index("Tests that did not run:") + 1 :] == [
        "  not on this processor: 9",
        "  no GPU: 3",
        "  not in this dtype: 3",
        "  other reasons, which `-rs` lists: 20",
        "  more with --thorough: 1,277",
    ]
