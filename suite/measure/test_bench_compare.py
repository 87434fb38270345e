"""Results differ where a change is larger than intervals and noise, and revisions are compared by visits in turns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from impls import HyperLSTM
from suite import bench_compare
from suite.measure import revision
from suite.shared import candidates
from suite.shared.cases import BASELINE
from suite.shared.examples import CPU, TINY, runs
from suite.shared.files import ResultsError
from suite.shared.tables import TABLES


def compare(tmp_path: Path, old: Sequence[Any], new: Sequence[Any], *arguments: str) -> int:
    for name, rows in (("old", old), ("new", new)):
        TABLES["bench"].replace(tmp_path / name, rows)
    return bench_compare.main([str(tmp_path / "old"), str(tmp_path / "new" / "bench.csv"), *arguments])


FEW: dict[str, Any] = {"visits": 1, "ratio_low": None, "ratio_high": None}
OLD, TWIN = runs("batched", 0.1), runs(BASELINE, 0.05)


@pytest.mark.parametrize(
    ("old", "new", "status", "output"),
    [
        (OLD, runs("batched", 0.13), 1, "+30.0%"),
        (OLD, runs("batched", 0.13, spread=0.4), 0, "2 same"),
        (OLD, runs("batched", 0.08), 0, "2 faster"),
        (OLD + TWIN, runs("batched", 0.13) + TWIN, 1, "2 regression"),
        (OLD + runs(BASELINE, 0.05, spread=0.4), runs("batched", 0.13) + TWIN, 0, "2 same"),
        (TWIN, runs(BASELINE, 0.06), 0, "2 not comparable"),
        (OLD, runs("batched", 0.2, **FEW), 0, "2 not comparable"),
        (OLD, runs("batched", 0.1, peak=1_200_000), 1, "2 regression"),
        (OLD, runs("batched", 0, status="out of memory"), 1, "2 missing"),
        (OLD, runs("batched", 0), 0, "2 missing"),
        (OLD, runs("batched", 0.2, baseline_s=0.06), 0, "torch.nn.LSTM itself took 1.20 times as long"),
        (OLD, runs("batched", 0.2, baseline_s=0.06), 0, "2 not comparable"),
        (OLD, runs("batched", 0.2, baseline_s=0.06, peak=1_200_000), 1, "2 regression"),
        (OLD, runs("batched", 0.2, baseline_s=0.055), 1, "2 regression"),
        (OLD + runs("deferred", 0.1), OLD + runs("deferred", 0.3, taken_cores=1.5), 0, "2 same, 2 not comparable."),
        (OLD, runs("batched", 0.1, processor="another"), 0, "The results also differ in processor."),
        (OLD + runs("naive", 1), OLD, 1, "2 missing"),
    ],
)
def test_compare_judges_each_row(
    old: list[Any], new: list[Any], status: int, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, old, new) == status
    assert output in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        (runs("batched", 0.119), "same"),  # RUN_TO_RUN
        (runs("batched", 0.123), "regression"),
        (runs("batched", 0.084), "same"),
        (runs("batched", 0.082), "faster"),
        (runs("batched", 0.1, peak=1_090_000), "same"),  # --threshold
        (runs("batched", 0.1, peak=1_110_000), "regression"),
        (runs("batched", 0.2, baseline_s=0.0573), "regression"),  # MAX_BASELINE_DRIFT
        (runs("batched", 0.2, baseline_s=0.0577), "not comparable"),
        (runs("batched", 0.2, baseline_s=0.0437), "regression"),
        (runs("batched", 0.2, baseline_s=0.0433), "not comparable"),
        (runs("batched", 0.2, taken_cores=0.24), "regression"),  # BUSY
        (runs("batched", 0.2, taken_cores=0.26), "not comparable"),
        (runs("batched", 0.13, spread=0.11), "regression"),  # 1.99 and 2.60: intervals of 1 % and 11 %
        (runs("batched", 0.13, spread=0.24), "same"),
        ([], "missing"),
    ],
)
def test_thresholds_hold_on_both_sides(new: list[Any], verdict: str, tmp_path: Path, capsys: Any) -> None:
    compare(tmp_path, OLD, [*new, *runs("deferred", 0.3)] if new else runs("naive", 1) + OLD[:1])
    assert f" {verdict}" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(("spread", "verdict"), [(0.15, "regression"), (0.5, "same")])
def test_the_noise_floor_of_either_side_counts(spread: float, verdict: str, tmp_path: Path, capsys: Any) -> None:
    noisy = runs(BASELINE, 0.05, spread=spread)
    for old, new in ((noisy, TWIN), (TWIN, noisy)):
        compare(tmp_path, OLD + old, runs("batched", 0.15) + new)
        assert f"2 {verdict}" in capsys.readouterr().out


def test_slower_than_the_same_is_no_regression_below_the_threshold(tmp_path: Path, capsys: Any) -> None:
    assert compare(tmp_path, OLD, runs("batched", 0.13), "--threshold", "31") == 0
    assert "2 slower" in capsys.readouterr().out
    assert compare(tmp_path, OLD, runs("batched", 0.13), "--threshold", "29") == 1


def test_options_allow_more(tmp_path: Path) -> None:
    assert compare(tmp_path, OLD, runs("batched", 0.13), "--threshold", "40") == 0
    assert compare(tmp_path, OLD + runs("naive", 1), OLD, "--partial") == 0


def visits(name: str, seconds: Sequence[float]) -> pd.DataFrame:
    rows = [row | {"median_s_visits": " ".join(map(str, seconds)), "taken_cores": 0.0} for row in runs(name, 0.05)]
    return pd.DataFrame(rows)


def test_revisions_differ_where_neighbouring_visits_do() -> None:
    host = [1.0, 1.4, 1.4, 1.0, 1.1, 1.0]  # whose states hit both

    def verdict(*changes: float) -> set[str]:
        slower = [state * change for state, change in zip(host, changes, strict=True)]
        return set(bench_compare.alternated(visits("batched", host), visits("batched", slower), 0.1)["verdict"])

    assert verdict(1.08, 1.07, 1.09, 1.08, 1.08, 1.07) == {"slower"}
    assert verdict(1.25, 1.24, 1.26, 1.25, 1.25, 1.25) == {"regression"}
    assert verdict(0.92, 0.91, 0.93, 0.92, 0.92, 0.92) == {"faster"}
    assert verdict(1.01, 0.99, 1.03, 0.98, 1.0, 0.97) == {"same"}


def test_a_revision_is_its_implementations_alone(tmp_path: Path) -> None:
    with revision.checkout("HEAD", tmp_path) as folder:
        assert (folder / "impls" / "naive.py").exists()
    assert not (tmp_path / "worktree").exists()
    with (
        pytest.raises(ResultsError, match=r"--base: git worktree add: .*no-such"),
        revision.checkout("no-such", tmp_path),
    ):
        pass


def test_of_a_revision_only_its_module_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "impls").mkdir()
    (tmp_path / "impls" / "__init__.py").write_text("from .theirs import HyperLSTM")
    (tmp_path / "impls" / "theirs.py").write_text("from impls import HyperLSTM as ours\nclass HyperLSTM(ours): pass")
    monkeypatch.setenv(candidates.BASE, str(tmp_path))
    package = candidates.timed_package.__wrapped__()
    monkeypatch.setattr(candidates, "timed_package", lambda: package)
    model = candidates.find("batched").build(TINY, torch.float32, CPU)
    assert (type(model).__module__, type(model).__bases__) == ("impls_of_base.theirs", (HyperLSTM,))
    assert candidates.find("batched").check(TINY, torch.float32, CPU)[0].ratio <= 1


def test_a_revision_that_cannot_be_imported_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision, "USED", "from suite.shared.candidates import no_such")
    message = "--base: its HyperLSTM cannot be imported: ImportError: .*no_such"
    with pytest.raises(ResultsError, match=message), revision.checkout("HEAD", tmp_path):
        pass
    assert not (tmp_path / "worktree").exists()


@pytest.mark.thorough("a whole benchmark")
def test_a_revision_is_timed_against_this_one(tmp_path: Path, capsys: Any) -> None:
    chosen = ["--workload", "small", "--implementation", "batched", "--minutes", "0.3", "--device", "cpu"]
    assert bench_compare.main(["--base", "HEAD", *chosen, "--results", str(tmp_path)]) == 0
    assert "HEAD is old, this checkout is new. 4 " in capsys.readouterr().out


def test_a_path_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"none: expected a bench\.csv or a folder with one"):
        bench_compare.main([str(tmp_path / "none"), str(tmp_path)])
