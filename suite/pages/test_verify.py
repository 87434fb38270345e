"""A verification says what failed, what was checked, what was not and why, whichever row it is in."""

import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from suite.cases.verification import MULTIPLIED
from suite.pages import webpage
from suite.pages.markdown import ON_PAGE, TERMINAL
from suite.pages.page import VERDICT, page_text
from suite.pages.verify import PAGE, TENSOR, conclusion, reach_table, worst_errors
from suite.results.examples import HERE
from suite.results.names import TableName
from suite.results.outcomes import CaseOutcome
from suite.results.tables import TABLES

ON_CUDA = "batched_cuda runs on cuda, not on cpu."
Rows = list[dict[str, Any]]


def row(implementation: str, dtype: str, ratio: float | None, reason: str = "", /, **sizes: int) -> dict[str, Any]:
    outcome = CaseOutcome.SKIPPED if ratio is None else CaseOutcome.of(wrong=ratio > 1)
    about = {"implementation": implementation, "dtype": dtype, "case": MULTIPLIED[0], **sizes}
    about |= {"verdict": outcome, "reason": reason}
    return HERE | about | {"ratio": ratio, "tensor": "" if ratio is None else f"out {ratio}"}


RIGHT = [row("naive", "float64", 0.25), row("naive", "float32", 0.5), row("batched", "float32", 0.125)]
INTERPRETED_ONE = row("batched_cuda", "float32", 0.375) | {"interpreted": True}
SKIPPED_ONE = row("batched_cuda", "float32", None, ON_CUDA)
CRASHED = row("batched", "float32", 9.0, "RuntimeError: no") | {"ratio": None, "tensor": ""}


def table(rows: Rows) -> pd.DataFrame:
    """Return the rows of a verification as they are read."""
    return TABLES[TableName.VERIFY].filled(pd.DataFrame(rows))


PASSED = "All comparisons with the equation passed: {}, worst error {} of the limit."


def faults(*verdicts: str) -> pd.DataFrame:
    """Return a table of planted faults with these verdicts."""
    about = {"implementation": "batched", "dtype": "float32"} | HERE
    rows = [
        {"edit": f"edit {n}", "kind": "step" if n == 0 else "norm", "verdict": verdict}
        for n, verdict in enumerate(verdicts)
    ]
    return pd.DataFrame([about | each for each in rows])


ALL_FIVE = PASSED.format("3 implementations, 5 comparisons", "0.50")
ALL_FOUR = PASSED.format("3 implementations, 4 comparisons", "0.50")
ALL_THREE = PASSED.format("2 implementations, 3 comparisons", "0.50")
ONE = PASSED.format("1 implementation, 1 comparison", "0.25")


@pytest.mark.parametrize(
    ("rows", "verdicts", "failed", "sentences"),
    [
        (RIGHT, [], 0, ALL_THREE),
        (RIGHT[:1], [], 0, ONE),
        ([*RIGHT, INTERPRETED_ONE], [], 0, f"{ALL_FOUR} `batched_cuda` was only interpreted."),
        ([SKIPPED_ONE, *RIGHT, INTERPRETED_ONE], [], 0, f"{ALL_FOUR} `batched_cuda` was only interpreted."),
        ([*RIGHT, INTERPRETED_ONE, row("batched_cuda", "float32", 0.1)], [], 0, ALL_FIVE),
        ([*RIGHT, row("batched_cuda", "float64", None, "no float64."), SKIPPED_ONE], [], 0,
         f"{ALL_THREE} `batched_cuda` was not checked: {ON_CUDA}"),
        # The failure is neither the first row of its dtype nor the largest of its implementation.
        ([*RIGHT, row("batched", "float64", 0.1), row("batched", "float64", 9.0)], [], 1,
         "1 test FAILED. **Verification failed**: batched in float64."),
        ([row("batched", "float32", 0.1), CRASHED, *RIGHT], [], 1,
         "1 test FAILED. **Verification failed**: batched in float32."),
        ([row("naive", "float32", 2.0), row("naive", "float32", 3.0), *RIGHT, row("batched", "bfloat16", 1.5)], [], 3,
         "3 tests FAILED. **Verification failed**: naive in float32, batched in bfloat16."),
        ([row("_my_", "float32", 2.0)], [], 1, r"1 test FAILED. **Verification failed**: \_my\_ in float32."),
        (RIGHT, [], 2, f"2 tests FAILED. {ALL_THREE}"),
        ([], [], 2, "2 tests FAILED."),
        ([SKIPPED_ONE], [], 0, ""),
        ([], [], 0, ""),
        (RIGHT[:1], ["rejected", "rejected"], 0, f"{ONE} 2 of 2 planted faults were found."),
        ([], ["rejected", "SURVIVED"], 0, "1 of 2 planted faults were found."),
    ],
)  # fmt: skip
def test_the_conclusion_says_whether_all_is_right(rows: Rows, verdicts: list[str], failed: int, sentences: str) -> None:
    tables = {TableName.VERIFY: table(rows), TableName.FAULTS: faults(*verdicts)}
    assert conclusion({name: table for name, table in tables.items() if len(table)}, ON_PAGE, failed) == sentences


def test_a_conclusion_in_a_terminal_has_the_stars_of_a_message_alone() -> None:
    refused = row("batched", "float32", None, "Expected *args, got `x`.")
    rows = table([row("naive", "float32", 2.0), INTERPRETED_ONE, refused])
    assert conclusion({TableName.VERIFY: rows}, TERMINAL, 1) == (
        "1 test FAILED. Verification failed: naive in float32. batched_cuda was only interpreted. "
        "batched was not checked: Expected *args, got `x`."
    )


def test_a_fault_is_found_in_every_dtype_or_not_at_all() -> None:
    found = faults("rejected", "rejected")
    both = pd.concat([found, found[:1].assign(dtype="float64", verdict="SURVIVED")], ignore_index=True)
    text = page_text(PAGE.content(table(RIGHT), {TableName.FAULTS: both}))
    assert "1 of 2 planted faults were found." in text
    assert "| step | 1 | 0 |\n| norm | 1 | 1 |" in text
    assert "- edit 0, in batched, float64: SURVIVED" in text
    assert "edit 1, in" not in text


OTHERS = {"B": 3, "I": 5, "S": 8, "Z": 4, "L": 2}


def test_the_largest_sizes_are_those_that_passed() -> None:
    cases = [(7, 16, 0.5), (3, 40, 0.5), (90, 9, 2.0)]
    rows = [row("batched_cpu", "float32", ratio, **OTHERS, T=T, H=H) for T, H, ratio in cases]
    for T, H in ((200, 9), (5, 5)):
        rows.append(row("batched_cpu", "float32", 0.5, **OTHERS, T=T, H=H) | {"forward_only": True})
    rows += [
        row("batched_cpu", "float32", 0.5),
        row("batched_cpu", "float32", None, "why", **OTHERS, T=99, H=99),
        row("naive", "float64", 0.1, **OTHERS, T=400, H=8),
    ]
    reach = reach_table(table(rows))
    assert reach.markdown().splitlines() == [
        "| implementation | dtype | T | B | I | H | S | Z |",
        f"|{' --- |' * 2}{' ---: |' * 6}",
        "| batched_cpu | float32 | 7 (200) | 3 | 5 | 40 | 8 | 4 |",
        "| naive | float64 | 400 | 3 | 5 | 8 | 8 | 4 |",
    ]
    orders = re.findall(r'data-order="(\S+)"', webpage.table(reach))
    assert orders[::6] == ["7.0", "400.0"]  # of T, whose texts are "7 (200)" and "400"


def test_the_worst_of_several_is_shown() -> None:
    rows = [row("naive", "float32", 0.2), row("naive", "float32", 0.9), row("naive", "float32", 0.3)]
    rows[1]["use"] = "observed"
    rows += [row("naive", "float64", 0.1), row("batched", "float32", 0.4), CRASHED, SKIPPED_ONE]
    rows += [INTERPRETED_ONE | {"dtype": "bfloat16"}, row("batched_cuda", "bfloat16", 3.0) | {"interpreted": True}]
    lines = [" | ".join(line.values()) for line in worst_errors(table(rows)).texts()]
    assert lines == [
        "naive | float32 | 3 | 0.90 | out 0.9 | observed | pass",
        "naive | float64 | 1 | 0.10 | out 0.1 | - | pass",
        "batched | float32 | 2 | - | RuntimeError: no | - | 1 FAILED",
        f"batched_cuda | float32 | 0 | - | {ON_CUDA} | - | skipped",
        "batched_cuda | bfloat16 | 2 | 3.00 | out 3.0 | - | 1 FAILED, interpreted",
    ]
    changed = {"verdict": CaseOutcome.FAIL, "ratio": math.inf, "tensor": "", "finding": "argument changed: x"}
    (line,) = worst_errors(table([INTERPRETED_ONE | changed])).texts()
    assert (line[TENSOR], line[VERDICT]) == ("argument changed: x", "1 FAILED, interpreted")
    (line,) = worst_errors(table([CRASHED])).texts()
    assert (line[TENSOR], line[VERDICT]) == ("RuntimeError: no", "1 FAILED")
    assert len(worst_errors(table(rows), by=["implementation"])) == 3
    text = page_text(PAGE.content(table(rows)))
    assert "**Verification failed**: batched in float32, batched_cuda in bfloat16." in text
    assert "## Planted faults" not in text


def test_why_a_group_has_no_error_is_shown_from_a_file(tmp_path: Path) -> None:
    """Where a whole column is empty, too."""
    for rows in ([CRASHED, SKIPPED_ONE], [*RIGHT, CRASHED | {"dtype": "bfloat16"}, SKIPPED_ONE]):
        TABLES[TableName.VERIFY].replace(tmp_path, rows)
        lines = worst_errors(TABLES[TableName.VERIFY].read(tmp_path)).texts()
        assert [line[TENSOR] for line in lines[-2:]] == ["RuntimeError: no", ON_CUDA]


def test_capabilities_number_their_reasons() -> None:
    can = [("vmap", "naive", "pass", ""), ("vmap", "batched", "no", "It *refuses*.")]
    can += [("export", "naive", "no", "Why."), ("export", "batched", "FAIL", "It *refuses*.")]
    columns = ("capability", "implementation", "outcome", "reason")
    capabilities = pd.DataFrame([HERE | dict(zip(columns, each, strict=True)) for each in can])
    text = page_text(PAGE.content(table(RIGHT), {TableName.CAPABILITIES: capabilities}))
    assert "|  | `naive` | `batched` |" in text
    assert "| vmap | pass | no (1) |\n| export | no (2) | FAIL (1) |" in text
    assert "1. It \\*refuses\\*.\n2. Why." in text
