"""A verification says what failed, what was checked, what was not and why, whichever row it is in."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from suite.pages import verify
from suite.pages.verify import conclusion, reach_table, worst_errors
from suite.results.columns import Row
from suite.results.example_runs import verification, verified
from suite.results.outcomes import Verdict
from suite.results.run import frame, read

ON_CUDA = "batched_cuda runs on cuda, not on cpu."


RIGHT = [verified("naive", 0.25, "float64"), verified("naive", 0.5), verified("batched", 0.125)]
INTERPRETED_ONE = verified("batched_cuda", 0.375) | {"interpreted": True}
SKIPPED_ONE = verified("batched_cuda", None, reason=ON_CUDA)
CRASHED = verified("batched", 9.0, reason="RuntimeError: no") | {"ratio": None, "tensor": ""}


def faults(*verdicts: str) -> list[Row]:
    """Return rows of planted faults with these verdicts."""
    about = {"implementation": "batched", "dtype": "float32"}
    kinds = ["step", *["norm"] * len(verdicts)]
    return [
        about | {"edit": f"edit {n}", "kind": kind, "verdict": verdict}
        for n, (kind, verdict) in enumerate(zip(kinds, verdicts, strict=False))
    ]


def told(text: str) -> str:
    """Return the numbers of a conclusion and the names."""
    said = {"FAILED", "naive", "batched", "batched_cuda", "_my_", "float64", "float32", "bfloat16"}
    return " ".join(word for word in re.findall(r"[\w.]*\w", text) if word[0].isdigit() or word in said)


@pytest.mark.parametrize(
    ("rows", "verdicts", "failed", "words"),
    [  # how many implementations and comparisons passed, and the worst error
        (RIGHT, [], 0, "2 3 0.50"),
        (RIGHT[:1], [], 0, "1 1 0.25"),
        ([*RIGHT, INTERPRETED_ONE], [], 0, "3 4 0.50 batched_cuda"),
        ([SKIPPED_ONE, *RIGHT, INTERPRETED_ONE], [], 0, "3 4 0.50 batched_cuda"),
        ([*RIGHT, INTERPRETED_ONE, verified("batched_cuda", 0.1)], [], 0, "3 5 0.50"),
        # The reason is that of a dtype which it supports.
        ([*RIGHT, verified("batched_cuda", None, "float64", "no float64."), SKIPPED_ONE], [], 0,
         "2 3 0.50 batched_cuda batched_cuda"),
        # The failure is neither the first row of its dtype nor the largest of its implementation.
        ([*RIGHT, verified("batched", 0.1, "float64"), verified("batched", 9.0, "float64")], [], 1,
         "1 FAILED batched float64"),
        ([verified("batched", 0.1), CRASHED, *RIGHT], [], 1, "1 FAILED batched float32"),
        ([verified("naive", 2.0), verified("naive", 3.0), *RIGHT, verified("batched", 1.5, "bfloat16")], [], 3,
         "3 FAILED naive float32 batched bfloat16"),
        ([verified("_my_", 2.0)], [], 1, "1 FAILED _my_ float32"),
        (RIGHT, [], 2, "2 FAILED 2 3 0.50"),
        ([], [], 2, "2 FAILED"),
        ([SKIPPED_ONE], [], 0, ""),
        ([], [], 0, ""),
        (RIGHT[:1], ["rejected", "rejected"], 0, "1 1 0.25 2 2"),
        ([], ["rejected", "SURVIVED"], 0, "1 2"),
        (RIGHT[:1], ["rejected", "not run"], 0, "1 1 0.25 1 1 1"),
    ],
)  # fmt: skip
def test_the_conclusion_says_whether_all_is_right(
    rows: list[Row], verdicts: list[str], failed: int, words: str
) -> None:
    assert told(conclusion(verification(*rows, faults=faults(*verdicts)).tables, failed)) == words


def test_a_fault_is_found_in_every_dtype_or_not_at_all() -> None:
    first, *others = faults("rejected", "rejected", "not run")
    both = [first, *others, first | {"dtype": "float64", "verdict": "SURVIVED"}]
    tables = verification(*RIGHT, faults=both).tables
    assert told(conclusion(tables)) == "2 3 0.50 1 2 1"
    assert verify.faults_table(tables["faults"]).to_numpy().tolist() == [["step", "1", "0"], ["norm", "1", "1"]]
    parts = re.compile(r"edit \d|batched|float\d+|not run|SURVIVED")
    assert [*map(parts.findall, verify.missed(tables["faults"]))] == [
        ["edit 2", "batched", "float32", "not run"],
        ["edit 0", "batched", "float64", "SURVIVED"],
    ]


OTHERS: dict[str, Any] = {"B": 3, "I": 5, "S": 8, "Z": 4, "L": 2}


def test_the_largest_sizes_are_those_that_passed() -> None:
    cases = [(7, 16, 0.5), (3, 40, 0.5), (90, 9, 2.0)]
    rows = [verified("batched_cpu", ratio, **OTHERS, T=T, H=H) for T, H, ratio in cases]
    for T, H in ((200, 9), (5, 5)):
        rows.append(verified("batched_cpu", 0.5, **OTHERS, T=T, H=H) | {"forward_only": True})
    rows += [
        verified("batched_cpu", 0.5),
        verified("batched_cpu", None, reason="why", **OTHERS, T=99, H=99),
        verified("naive", 0.1, "float64", **OTHERS, T=400, H=8),
    ]
    assert reach_table(frame("verify", rows)).to_numpy().tolist() == [
        ["batched_cpu", "float32", "7 (200)", "3", "5", "40", "8", "4"],
        ["naive", "float64", "400", "3", "5", "8", "8", "4"],
    ]


def test_the_worst_of_several_is_shown() -> None:
    rows = [verified("naive", 0.2), verified("naive", 0.9), verified("naive", 0.3)]
    rows[1]["use"] = "observed"
    rows += [verified("naive", 0.1, "float64"), verified("batched", 0.4), CRASHED, SKIPPED_ONE]
    rows += [INTERPRETED_ONE | {"dtype": "bfloat16"}, verified("batched_cuda", 3.0, "bfloat16") | {"interpreted": True}]
    lines = [" | ".join(line) for line in worst_errors(frame("verify", rows)).to_numpy().tolist()]
    assert lines == [
        "naive | float32 | 3 | 0.90 | out 0.9 | observed | pass",
        "naive | float64 | 1 | 0.10 | out 0.1 | - | pass",
        "batched | float32 | 2 | - | RuntimeError: no | - | 1 FAILED",
        f"batched_cuda | float32 | 0 | - | {ON_CUDA} | - | skipped",
        "batched_cuda | bfloat16 | 2 | 3.00 | out 3.0 | - | 1 FAILED, interpreted",
    ]
    changed = {"verdict": Verdict.FAIL, "ratio": math.inf, "tensor": "", "finding": "argument changed: x"}
    (line,) = worst_errors(frame("verify", [INTERPRETED_ONE | changed])).to_dict("records")
    assert (line["tensor"], line["verdict"]) == ("argument changed: x", "1 FAILED, interpreted")
    (line,) = worst_errors(frame("verify", [CRASHED])).to_dict("records")
    assert (line["tensor"], line["verdict"]) == ("RuntimeError: no", "1 FAILED")
    assert len(worst_errors(frame("verify", rows), by=["implementation"])) == 3
    assert "| kind |" not in verify.page(verification(*rows))


def test_why_a_group_has_no_error_is_shown_from_a_file(tmp_path: Path) -> None:
    """Where a whole column is empty, too."""
    for rows in ([CRASHED, SKIPPED_ONE], [*RIGHT, CRASHED | {"dtype": "bfloat16"}, SKIPPED_ONE]):
        verification(*rows).write(tmp_path)
        run = read(tmp_path, "verify")
        assert run is not None
        assert [*worst_errors(run.rows)["tensor"]][-2:] == ["RuntimeError: no", ON_CUDA]


def test_capabilities_number_their_reasons() -> None:
    can = [("vmap", "naive", "pass", ""), ("vmap", "batched", "no", "It *refuses*.")]
    can += [("export", "naive", "no", "Why."), ("export", "batched", "FAIL", "It *refuses*.")]
    columns = ("capability", "implementation", "outcome", "reason")
    run = verification(*RIGHT, capabilities=[dict(zip(columns, each, strict=True)) for each in can])
    cells, reasons = verify.matrix(run.tables["capabilities"])
    assert [*cells] == ["", "`naive`", "`batched`"]
    assert cells.to_numpy().tolist() == [["vmap", "pass", "no (1)"], ["export", "no (2)", "FAIL (1)"]]
    assert reasons == ["It *refuses*.", "Why."]
    assert r"1. It \*refuses\*." in verify.page(run)
