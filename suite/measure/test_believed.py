"""No row is faster than the hardware, or is timed beside a baseline that it slows."""

from pathlib import Path

import pytest

from suite.candidates.names import BASELINE
from suite.measure.believed import believed, share
from suite.results.columns import SETTING
from suite.results.example_runs import timed
from suite.results.status import Status

CEILING = {"float32": {"multiply_adds_per_s": 1e9, "bytes_per_s": 1e8}}
ROW = {"multiply_adds": 5e8, "least_bytes": 1e7, "median_s": 1.0, "status": Status.OK, "dtype": "float32"}


def test_the_share_is_of_the_bound_that_holds() -> None:
    assert share(ROW, CEILING) == ({"bound": "compute", "share": 0.5}, "")
    assert share(ROW | {"least_bytes": 8e7}, CEILING) == ({"bound": "memory", "share": 0.8}, "")
    assert share(ROW | {"status": Status.TIME_OUT}, CEILING) == ({}, "")
    assert share(ROW | {"dtype": "tf32"}, CEILING) == ({}, "")


def test_a_row_that_multiplies_faster_than_the_machine_is_refused() -> None:
    """One that moves bytes faster is not: a cache may hold them."""
    fast = dict(zip((*SETTING, "pass", "implementation"), "abcdef", strict=True)) | ROW | {"ratio_visits": (1.0,)}
    fast |= {"least_bytes": 8e8, "ratio": 0.1}
    rows = believed([fast | {"median_s": 0.41}, fast | {"median_s": 0.39}], CEILING)
    assert rows[0]["bound"] == "memory"
    assert rows[1]["status"] == Status.REFUSED
    assert " 1.28 " in rows[1]["detail"]
    assert {column for column, value in rows[1].items() if value is None} >= {"median_s", "ratio", "ratio_visits"}


@pytest.mark.parametrize(
    ("visits", "slower", "file", "refused"),
    [(3, 1.6, True, True), (3, 1.4, True, False), (2, 1.6, True, False), (3, 1.6, False, False)],
)
def test_a_file_that_slows_the_baseline_is_refused(
    visits: int, slower: float, file: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.candidates.submission.files", lambda: {"batched": Path("batched.py")} if file else {})
    mine = timed("batched", 0.1, visits=visits, baseline_s=0.05 * slower)
    rows = believed([*mine, *timed(BASELINE, 0.05)], {})
    assert [row["status"] for row in rows] == [Status.REFUSED if refused else Status.OK] * 2 + [Status.OK] * 2
    assert [" 1.6 " in row.get("detail", "") for row in rows] == [refused] * 2 + [False] * 2
    assert [row["ratio"] is None for row in rows] == [refused] * 2 + [False] * 2
