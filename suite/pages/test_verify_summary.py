"""The end of a verification says what failed, what was checked, what was not and why, and the answer."""

import io
import re
from typing import Any

import pandas as pd
from rich.console import Console

from suite.pages.verify import answer, say
from suite.shared.cases import INTERPRETED

ON_CUDA = "batched_cuda runs on cuda, not on cpu."


def row(implementation: str, dtype: str, ratio: float | None, reason: str = "") -> dict[str, Any]:
    verdict = "skipped" if ratio is None else "pass" if ratio <= 1 else "FAIL"
    about = {"implementation": implementation, "dtype": dtype, "verdict": verdict, "tensor": "out"}
    return about | {"ratio": ratio, "reason": reason}


RIGHT = [row("naive", "float64", 0.25), row("naive", "float32", 0.5), row("batched", "float32", 0.125)]
INTERPRETED_ONE = row("batched_cuda", "float32", 0.375, INTERPRETED)
SKIPPED_ONE = row("batched_cuda", "float32", None, ON_CUDA)


def said(rows: list[dict[str, Any]], failed: int = 0) -> str:
    return answer(pd.DataFrame(rows), failed)


def test_the_answer_counts_what_ran_and_names_what_did_not() -> None:
    right = said(RIGHT)
    assert right == (
        "All comparisons with the equation passed: 2 implementations, 3 comparisons, worst error 0.50 of the limit."
    )
    assert said([*RIGHT, INTERPRETED_ONE]) == (
        "All comparisons with the equation passed: 3 implementations, 4 comparisons, worst error 0.50 of the limit. "
        "batched_cuda was only interpreted."
    )
    assert said([*RIGHT, SKIPPED_ONE, INTERPRETED_ONE]) == said([*RIGHT, INTERPRETED_ONE])
    other = row("batched_cuda", "float64", None, "batched_cuda computes in float32, not in float64.")
    assert said([*RIGHT, other, SKIPPED_ONE]) == f"{right} batched_cuda was not checked: {ON_CUDA}"
    assert said([]) == said([SKIPPED_ONE]) == ""


def test_the_answer_says_what_is_wrong() -> None:
    assert said([*RIGHT, row("batched", "float64", 3.0)], failed=1) == (
        "1 test FAILED. Verification failed: batched in float64."
    )
    assert said(RIGHT, failed=2).startswith("2 tests FAILED. All comparisons with the equation passed: 2 impl")
    assert said([], failed=2) == "2 tests FAILED."


def test_at_80_columns_failures_come_first_and_no_name_wraps() -> None:
    out = io.StringIO()
    failed = [("suite/test_a.py::test_b[batched]", "AssertionError: grad x: relative error 2.00e-03, allowed 1.00e-03")]
    reasons = {"compiled computes in float32, not in float16.": 3, "compiled computes in float32, not in bfloat16.": 4}
    reasons |= {"fast computes in float32, not in bfloat16.": 5, ON_CUDA: 2, "No CUDA device here.": 1, "Other.": 9}
    rows = {"verify": pd.DataFrame([*RIGHT, row("batched", "float64", 3.0), INTERPRETED_ONE])}
    say(Console(file=out, width=80), rows, failed, reasons)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[:2] == ["FAILED suite/test_a.py::test_b[batched]", f"    {failed[0][1]}"]
    assert max(map(len, lines)) <= 80
    cells = [line.split() for line in lines]
    assert ["naive", "float64", "1", "0.25", "pass"] in cells
    assert ["batched", "float64", "1", "3.00", "1", "FAILED"] in cells
    assert ["batched_cuda", "float32", "1", "0.38", "pass,", INTERPRETED] in cells
    first = next(at for at, line in enumerate(lines) if line.startswith("not run"))
    assert [re.split(r"\s{2,}", line) for line in lines[first + 2 : first + 4]] == [
        ["Other", "9"],
        ["fast computes in float32, not in bfloat16", "5"],
    ]
