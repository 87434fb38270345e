"""Results differ where a change is larger than intervals and noise, and revisions are compared by visits in turns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from suite import bench_compare
from suite.measure import revision
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


def test_compare_ignores_changes_of_the_baseline(tmp_path: Path, capsys: Any) -> None:
    assert compare(tmp_path, made(BASELINE, 0.05), made(BASELINE, 0.06)) == 0
    assert "2 A/A run" in capsys.readouterr().out


def test_times_on_another_host_are_not_judged(tmp_path: Path, capsys: Any) -> None:
    old, new = made("batched", 0.1), made("batched", 0.2, baseline_s=0.06)
    assert compare(tmp_path, old, new) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "torch.nn.LSTM itself took 1.20 times as long" in said
    assert "2 other host" in said
    assert compare(tmp_path, old, made("batched", 0.2, baseline_s=0.06, peak=1_200_000)) == 1
    assert compare(tmp_path, old, made("batched", 0.2, baseline_s=0.055)) == 1


def test_compare_leaves_out_what_other_processes_slowed(tmp_path: Path, capsys: Any) -> None:
    old, slowed = made("batched", 0.1) + made("deferred", 0.1), made("deferred", 0.3, taken_cores=1.5)
    assert compare(tmp_path, old, made("batched", 0.1) + slowed) == 0
    assert "2 same. Chance alone makes 0.0 of 2 rows differ." in capsys.readouterr().out


@pytest.mark.parametrize(("noise", "differs"), [(0.01, True), (0.4, False)])
def test_compare_needs_more_than_the_noise_floor(noise: float, differs: bool, tmp_path: Path, capsys: Any) -> None:
    twin = made(BASELINE, 0.05, spread=noise)
    assert compare(tmp_path, made("batched", 0.1) + twin, made("batched", 0.13) + made(BASELINE, 0.05)) == differs
    assert ("2 same" in capsys.readouterr().out) != differs


def test_compare_fails_where_rows_are_lost_unless_partial(tmp_path: Path, capsys: Any) -> None:
    old, new = made("batched", 0.1) + made("deferred", 0.1), made("batched", 0.1) + made("naive", 0.1)
    assert compare(tmp_path, old, new) == 1
    assert "2 of 4 old rows have no counterpart, which --partial allows." in capsys.readouterr().out
    assert compare(tmp_path, old, new, "--partial") == 0


def test_rows_without_an_interval_are_not_compared(tmp_path: Path, capsys: Any) -> None:
    few = made("batched", 0.2, visits=1, ratio_low=None, ratio_high=None)
    assert compare(tmp_path, made("batched", 0.1), few) == 0
    assert "2 one visit" in capsys.readouterr().out


def visits(name: str, seconds: Sequence[float]) -> pd.DataFrame:
    rows = [row | {"median_s_visits": " ".join(map(str, seconds)), "taken_cores": 0.0} for row in made(name, 0.05)]
    return pd.DataFrame(rows)


def test_revisions_differ_where_neighbouring_visits_do() -> None:
    host = [1.0, 1.4, 1.4, 1.0, 1.1, 1.0]  # whose states hit both

    def verdict(*changes: float) -> set[str]:
        slower = [state * change for state, change in zip(host, changes, strict=True)]
        return set(bench_compare.alternated(visits("batched", host), visits("batched", slower), 0.1)["verdict"])

    assert verdict(1.08, 1.07, 1.09, 1.08, 1.08, 1.07) == {"slower"}
    assert verdict(1.25, 1.24, 1.26, 1.25, 1.25, 1.25) == {"REGRESSION"}
    assert verdict(0.92, 0.91, 0.93, 0.92, 0.92, 0.92) == {"faster"}
    assert verdict(1.01, 0.99, 1.03, 0.98, 1.0, 0.97) == {"same"}


def test_a_revision_is_its_implementations_alone(tmp_path: Path) -> None:
    with revision.checkout("HEAD", tmp_path) as folder:
        assert [each.name for each in folder.iterdir()] == ["impls"]
        assert (folder / "impls" / "naive.py").exists()
    assert not (tmp_path / "worktree").exists()
    with pytest.raises(ResultsError, match=r"git worktree add: .*no-such"), revision.checkout("no-such", tmp_path):
        pass


@pytest.mark.thorough("a whole benchmark")
def test_a_revision_is_timed_against_this_one(tmp_path: Path, capsys: Any) -> None:
    chosen = ["--workload", "small", "--implementation", "batched", "--minutes", "0.3", "--device", "cpu"]
    assert bench_compare.main(["--base", "HEAD", *chosen, "--results", str(tmp_path)]) == 0
    assert "HEAD is old, this checkout is new. 4 " in capsys.readouterr().out


def test_compare_fails_on_memory_and_lost_figures(tmp_path: Path, capsys: Any) -> None:
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
