"""Two benchmark results differ where a change is larger than both intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suite import bench_compare
from suite.shared.cases import BASELINE
from suite.shared.examples import made
from suite.shared.results import ResultsError
from suite.shared.rows import TABLES


def compare(tmp_path: Path, old: Sequence[Any], new: Sequence[Any], *arguments: str) -> int:
    for name, rows in (("old", old), ("new", new)):
        TABLES["bench"].replace(tmp_path / name, rows)
    return bench_compare.main([str(tmp_path / "old"), str(tmp_path / "new" / "bench.csv"), *arguments])


def test_compare_fails_on_a_regression_beyond_both_intervals(tmp_path: Path, capsys: Any) -> None:
    old = made("batched", 0.1)
    assert compare(tmp_path, old, made("batched", 0.13)) == 1
    assert "+30.0%" in capsys.readouterr().out
    assert compare(tmp_path, old, made("batched", 0.13), "--threshold", "40") == 0
    assert compare(tmp_path, old, made("batched", 0.13, spread=0.4)) == 0
    assert "2 same" in capsys.readouterr().out
    assert compare(tmp_path, old, made("batched", 0.08)) == 0
    assert "2 faster" in capsys.readouterr().out


def test_compare_calls_no_change_of_the_baseline_against_itself_a_regression(tmp_path: Path, capsys: Any) -> None:
    assert compare(tmp_path, made(BASELINE, 0.05), made(BASELINE, 0.06)) == 0
    assert "2 A/A run" in capsys.readouterr().out


def test_compare_leaves_out_what_other_processes_slowed(tmp_path: Path, capsys: Any) -> None:
    old, slowed = made("batched", 0.1) + made("deferred", 0.1), made("deferred", 0.3, taken_cores=1.5)
    assert compare(tmp_path, old, made("batched", 0.1) + slowed) == 0
    assert (
        "2 same; rows without a counterpart, or slowed by other processes: 2 of the old, 2 of"
        in capsys.readouterr().out
    )


def test_compare_fails_on_more_memory_and_on_a_figure_that_is_lost(tmp_path: Path, capsys: Any) -> None:
    assert compare(tmp_path, made("batched", 0.1), made("batched", 0.1, peak=1_200_000)) == 1
    assert "2 REGRESSION" in capsys.readouterr().out
    assert compare(tmp_path, made("batched", 0.1), made("batched", 0, status="out of memory")) == 1
    assert "2 LOST" in capsys.readouterr().out
    assert compare(tmp_path, made("batched", 0.1), made("batched", 0)) == 0
    assert "2 no time" in capsys.readouterr().out


def test_compare_names_unlike_places_and_wrong_paths(tmp_path: Path, capsys: Any) -> None:
    assert compare(tmp_path, made("batched", 0.1), made("batched", 0.1, processor="another")) == 0
    assert "The results also differ in processor." in capsys.readouterr().out
    with pytest.raises(ResultsError, match=r"expected a bench\.csv or a folder with one"):
        bench_compare.main([str(tmp_path / "none"), str(tmp_path / "old")])
