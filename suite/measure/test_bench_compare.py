"""Results differ where a change is larger than their intervals, and revisions are compared by visits in turns."""

import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pandas as pd
import pytest
import torch

from impls import HyperLSTM
from suite import bench_compare
from suite.bench_compare import NotCompared
from suite.candidates import catalogue, ours
from suite.candidates.names import BASELINE
from suite.cases.examples import CPU, TINY
from suite.measure import choice
from suite.measure.job import Job
from suite.measure.server import Server
from suite.results.examples import runs
from suite.results.names import TableName
from suite.results.statistics import FEWEST
from suite.results.status import Status
from suite.results.tables import STAMP, TABLES
from suite.shared.devices import DeviceType
from suite.shared.files import ResultsError

OLD, TWIN, NAIVE = runs("batched", 0.1), runs(BASELINE, 0.05), runs("naive", 1)


@pytest.mark.parametrize(
    ("old", "new", "arguments", "status", "output"),
    [
        # Both sides of RUN_TO_RUN, of the threshold and of the drift of the baseline.
        (OLD, runs("batched", 0.119), "", 0, "2 same"),
        (OLD, runs("batched", 0.123), "", 1, "+23.0%"),
        (OLD, runs("batched", 0.084), "", 0, "2 same"),
        (OLD, runs("batched", 0.082), "", 0, "2 faster"),
        (OLD, runs("batched", 0.13), "--threshold 31", 0, "2 slower"),
        (OLD, runs("batched", 0.13), "--threshold 29", 1, "2 regression"),
        (OLD, runs("batched", 0.1, peak=1_090_000), "", 0, "2 same"),
        (OLD, runs("batched", 0.1, peak=1_110_000), "", 1, "+11.0% regression"),
        (runs("batched", 0.1, peak=0), OLD, "", 0, "2 same"),
        (OLD, runs("batched", 0.2, baseline_s=0.0573), "", 1, "2 regression"),
        (OLD, runs("batched", 0.2, baseline_s=0.0577), "", 0, "2 not comparable"),
        (OLD, runs("batched", 0.2, baseline_s=0.0437), "", 1, "2 regression"),
        (OLD, runs("batched", 0.2, baseline_s=0.0433), "", 0, "torch.nn.LSTM itself took 0.87 times as long"),
        (OLD, runs("batched", 0.2, baseline_s=0.06, peak=1_200_000), "", 1, "2 regression"),
        # One candidate of three beside which the baseline drifted is no other state of the host.
        (OLD + TWIN + NAIVE, runs("batched", 0.2) + TWIN + runs("naive", 1, baseline_s=0.1), "", 1, "2 regression"),
        # Intervals of 1 % and of 11 or 24 %.
        (OLD, runs("batched", 0.13, spread=0.11), "", 1, "2 regression"),
        (OLD, runs("batched", 0.13, spread=0.24), "", 0, "2 same"),
        # Rows without a figure or an interval, and the baseline.
        (TWIN, runs(BASELINE, 0.06), "", 0, "2 not comparable"),
        (OLD, runs("batched", 0.2, visits=1, ratio_low=None, ratio_high=None), "", 0, "2 not comparable"),
        (runs("batched", 0.1, visits=1, ratio_low=None, ratio_high=None), OLD, "", 0, "2 not comparable"),
        (runs("batched", 0), OLD, "", 0, "2 not comparable"),
        (OLD, runs("batched", 0, status=Status.NO_MEMORY), "", 1, "2 missing"),
        (OLD, runs("batched", 0), "", 0, "2 missing"),
        (OLD + NAIVE, OLD, "", 1, "2 missing"),
        # Of two machines no time is judged.
        (OLD, runs("batched", 0.2, processor="another"), "", 0, "machines that differ in processor, so no time is"),
        (
            OLD,
            runs("batched", 0.2, threads=99, device="cuda"),
            "",
            0,
            "differ in device, threads, so no time is judged",
        ),
        (OLD, runs("batched", 0.2, cpu_capability="NONE"), "", 0, "2 not comparable"),
        (OLD, runs("batched", 0.1, peak=1_110_000, processor="another"), "", 1, "2 regression"),
        (OLD, runs("batched", 0.2, torch="1.0"), "", 1, "The results also differ in torch. 2 regression"),
        (runs("batched", 0.1, cudnn="1"), runs("batched", 0.1, cudnn="2"), "", 0, "also differ in cudnn. 2 same"),
        (OLD, runs("batched", 0.1, cudnn="2"), "", 0, "same 2 same"),
    ],
)
def test_compare_judges_each_row(
    old: list[Any], new: list[Any], arguments: str, status: int, output: str, tmp_path: Path, capsys: Any
) -> None:
    for name, rows in (("old", old), ("new", new)):
        TABLES[TableName.BENCH].replace(tmp_path / name, rows)
    folders = [str(tmp_path / "old"), str(tmp_path / "new" / "bench.csv")]
    assert bench_compare.main([*folders, *arguments.split()]) == status
    assert output in " ".join(capsys.readouterr().out.split())


def test_a_folder_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="got no rows"):
        bench_compare.main([str(tmp_path), str(tmp_path)])


def test_a_merge_that_was_not_finished_is_named(tmp_path: Path) -> None:
    for name in ("old", "new"):
        TABLES[TableName.BENCH].replace(tmp_path / name, OLD)
    path = TABLES[TableName.BENCH].path(tmp_path / "new")
    path.write_text(f"{path.read_text()}<<<<<<< HEAD\n=======\n>>>>>>> theirs\n")
    with pytest.raises(ResultsError, match=r"new/bench.csv, line 4: expected \d+ cells, got 1"):
        bench_compare.main([str(tmp_path / "old"), str(tmp_path / "new")])


def visits(name: str, seconds: Sequence[float]) -> pd.DataFrame:
    few: dict[str, Any] = {} if len(seconds) >= FEWEST else {"ratio_low": None, "ratio_high": None}
    rows = runs(name, 0.05, median_s_visits=tuple(seconds), **few)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ((1.08, 1.07, 1.09, 1.08, 1.08, 1.07), "slower"),
        ((1.25, 1.24, 1.26, 1.25, 1.25, 1.25), "regression"),
        ((0.92, 0.91, 0.93, 0.92, 0.92, 0.92), "faster"),
        ((1.01, 0.99, 1.03, 0.98, 1.00, 0.97), "same"),
        ((1.25, 1.24), "not comparable"),
    ],
)
def test_revisions_differ_where_neighbouring_visits_do(changes: Sequence[float], verdict: str) -> None:
    old = [1.0, 1.4, 1.4, 1.0, 1.1, 1.0][: len(changes)]  # states of the host, which hit both
    new = [state * change for state, change in zip(old, changes, strict=True)]
    lines = bench_compare.alternated(visits("batched", old), visits("batched", new), 0.1)
    assert set(lines["verdict"]) == {verdict}


def test_a_run_is_compared_with_rows_that_were_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rows of a run have no stamp yet, and no columns but those that it measured."""
    TABLES[TableName.BENCH].replace(tmp_path, runs("batched", 0.1) + runs("deferred", 0.2))
    stamped = runs("batched", 0.05) + runs("deferred", 0.2)
    measured = [{column: value for column, value in row.items() if column not in STAMP} for row in stamped]
    bench_compare.same_twice(tmp_path, TABLES[TableName.BENCH].read(tmp_path), measured, CPU)
    assert capsys.readouterr().out == "\nThe same code twice: 2 of 4 rows differ from those of the last run.\n"
    (twice,) = TABLES[TableName.TWICE].read(tmp_path).to_dict("records")
    assert (twice["workload"], twice["rows"], twice["differ"], twice["largest"]) == ("small", 4, 2, 0.5)


def test_rows_without_figures_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seconds in (("old", 0.1), ("new", 0)):
        TABLES[TableName.BENCH].replace(tmp_path / name, runs("batched", seconds) + runs("naive", 0))
    assert bench_compare.main([str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["implementation", "pass", "old", "/", "LSTM", "new", "/", "LSTM", "verdict"] in lines
    assert ["batched", "train", "2.00", "time-out", "missing"] in lines
    assert ["naive", "train", "time-out", "time-out", "not", "comparable"] in lines


def test_a_revision_that_lacks_a_row_is_compared() -> None:
    old = TABLES[TableName.BENCH].filled(pd.DataFrame(runs("batched", 0.1, median_s_visits=(0.1, 0.1, 0.1))))
    lines = bench_compare.alternated(old, old.iloc[1:], 0.05)
    assert list(lines["verdict"]) == ["missing", "same"]


def test_of_many_rows_a_small_change_of_one_may_be_chance() -> None:
    """An interval covers more, the more rows are compared: else one of twenty would be called different."""
    small, none = (1.035, 1.005, 1.045, 1.015, 1.025, 1.0), (1.02, 0.99, 1.01, 0.98, 1.0, 1.01)
    old, new, same = (visits("batched", seconds) for seconds in ([1.0] * 6, small, none))
    assert set(bench_compare.alternated(old, new, 0.1)["verdict"]) == {"slower"}
    rows = range(4, 44)  # as many T
    many_old = pd.concat([old, *(old.assign(T=T) for T in rows)])
    many_new = pd.concat([new, *(same.assign(T=T) for T in rows)])
    assert set(bench_compare.alternated(many_old, many_new, 0.1)["verdict"]) == {"same"}


def test_a_revision_is_its_implementations_alone(tmp_path: Path) -> None:
    with bench_compare.checkout("HEAD", tmp_path) as folder:
        assert (folder / "impls" / "naive.py").exists()
    assert not (tmp_path / "worktree").exists()
    with pytest.raises(KeyboardInterrupt), bench_compare.checkout("HEAD", tmp_path):
        raise KeyboardInterrupt
    assert not (tmp_path / "worktree").exists()
    with pytest.raises(ResultsError, match=r"^--base: .*no-such"), bench_compare.checkout("no-such", tmp_path):
        pass


class History:
    """A repository in a folder, with commits of impls/ and results of these."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self("init", "--quiet")

    def __call__(self, *arguments: str) -> str:
        author = ("-c", "user.name=a", "-c", "user.email=a@example")
        command = ["git", "-C", str(self.folder), *author, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, code: str) -> str:
        (self.folder / "impls").mkdir(exist_ok=True)
        (self.folder / "impls" / "code.py").write_text(code)
        self("add", "impls")
        self("commit", "--quiet", "--allow-empty", "-m", code)
        return self("rev-parse", "--short=10", "HEAD")

    def results(
        self, machine: str, commit: str, name: str = "batched", seconds: float = 0.1, *, dirty: bool = False
    ) -> None:
        rows = runs(name, seconds, commit=commit, dirty=dirty)
        TABLES[TableName.BENCH].replace(self.folder / "results" / machine, rows)

    def base(self) -> str | NotCompared:
        return bench_compare.base_of_results(["batched", "deferred"], self.folder)


def test_the_base_is_the_newest_commit_that_was_measured(tmp_path: Path) -> None:
    history = History(tmp_path)
    first, second, third = map(history.commit, "abc")
    other = history("commit-tree", "HEAD^{tree}", "-m", "of another branch")[:10]
    history.results("machine", first)
    assert history.base() == first
    history.results("another machine", second)
    history.results("with a change", third, dirty=True)
    history.results("without git", "")
    history.results("another branch", other)
    history.results("of another implementation", third, "naive")
    history.results("without a figure", third, seconds=0)
    assert history.base() == second


def test_why_nothing_is_compared_is_said(tmp_path: Path) -> None:
    def why_not() -> str:
        base = bench_compare.base_of_results(["batched", "deferred"], tmp_path)
        assert isinstance(base, NotCompared)
        return base.why

    assert "is no checkout of git" in why_not()
    history = History(tmp_path)
    history.commit("a")
    assert "no figures of batched, deferred under results/ name a commit" in why_not()
    commit = history.commit("b")
    history.results("machine", commit)
    newest = f"{commit}, the newest commit with figures of batched, deferred under results/"
    assert why_not() == f"Not compared: impls/ is that of {newest}."
    (tmp_path / "impls" / "code.py").write_text("edited")
    assert history.base() == commit


def test_without_a_base_there_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without git
    assert bench_compare.main(["--base-of-results", "--device", "cpu", "--results", str(tmp_path)]) == 0
    assert "is no checkout of git, which has the code of the results." in capsys.readouterr().out


def test_of_a_revision_only_its_module_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "impls").mkdir()
    (tmp_path / "impls" / "__init__.py").write_text("from .theirs import HyperLSTM")
    (tmp_path / "impls" / "theirs.py").write_text("from impls import HyperLSTM as ours\nclass HyperLSTM(ours): pass")
    monkeypatch.setenv(ours.BASE, str(tmp_path))
    package = ours.timed_package.__wrapped__()
    monkeypatch.setattr(ours, "timed_package", lambda: package)
    model = catalogue.find("batched").build(TINY, torch.float32, CPU)
    assert (type(model).__module__, type(model).__bases__) == ("impls_of_base.theirs", (HyperLSTM,))


@pytest.mark.parametrize("device", DeviceType)
def test_a_revision_that_cannot_be_imported_ends_the_run(device: DeviceType, tmp_path: Path) -> None:
    (tmp_path / "impls").mkdir()
    (tmp_path / "impls" / "__init__.py").write_text("raise ImportError('of theirs')")
    log = tmp_path / "log.txt"
    with Server(log, tmp_path, tmp_path, device) as server, pytest.raises(SystemExit, match="ImportError: of theirs"):
        server.wait()


@pytest.mark.parametrize(
    ("arguments", "seconds", "status", "sentence"),
    [
        (["--base-of-results"], [1.0, 1.0, 1.0], 0, "2 same"),
        (["--base-of-results", "--threshold", "25"], [1.3, 1.31, 1.3], 1, "2 regression"),
        (["--base-of-results", "--threshold", "35"], [1.3, 1.31, 1.3], 0, "2 slower"),
        (["--base-of-results"], [1.0, 1.0], 1, "No time was judged, which takes 3 visits"),
        (["--base", "HEAD"], [1.0, 1.0], 0, "No time was judged, which takes 3 visits"),
    ],
)
def test_what_ends_a_comparison_of_revisions(
    arguments: list[str],
    seconds: list[float],
    status: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    old, new = (visits("batched", each).to_dict("records") for each in ([1.0] * len(seconds), seconds))
    sides = [SimpleNamespace(summary=lambda rows=rows: rows) for rows in (old, new)]
    monkeypatch.setattr(bench_compare, "Side", lambda server: sides.pop(0))
    monkeypatch.setattr(bench_compare, "Server", lambda *_: MagicMock())
    monkeypatch.setattr(bench_compare, "run", lambda *_, until: None)
    monkeypatch.setattr(bench_compare, "base_of_results", lambda names: "HEAD")
    results = ["--implementation", "batched", "--results", str(tmp_path), "--device", "cpu"]
    assert bench_compare.main([*arguments, *results]) == status
    assert sentence in capsys.readouterr().out


def test_the_old_side_is_the_revision_and_the_new_one_this_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """For five minutes, of the fastest implementation; what a first call compiles is compiled on both sides before."""
    servers, ends = dict[Path | None, MagicMock](), list[float]()

    def server(log: Path, scratch: Path, base: Path | None, device: DeviceType) -> MagicMock:
        servers[base] = MagicMock(base=base)
        return servers[base]

    def side(server: MagicMock) -> SimpleNamespace:
        seconds = [1.0, 1.0, 1.0] if server.base else [1.3, 1.31, 1.3]
        return SimpleNamespace(server=server, summary=lambda: visits("batched", seconds).to_dict("records"))

    def run(sides: Sequence[SimpleNamespace], jobs: Sequence[Job], until: float) -> None:
        assert [side.server for side in sides] == [*servers.values()]
        assert {job.candidate for job in jobs} == {choice.fastest(CPU, "float32")}
        for server in servers.values():
            assert [call.args[0].label for call in server.visit.call_args_list] == [job.label for job in jobs]
        ends.append(until)

    monkeypatch.setattr(bench_compare, "checkout", lambda revision, scratch: nullcontext(tmp_path / revision))
    monkeypatch.setattr(bench_compare, "time", SimpleNamespace(time=lambda: 1000.0))
    for name, value in (("Server", server), ("Side", side), ("run", run)):
        monkeypatch.setattr(bench_compare, name, value)
    assert bench_compare.main(["--base", "REV", "--results", str(tmp_path), "--device", "cpu"]) == 1
    assert list(servers) == [tmp_path / "REV", None]
    assert ends == [1000 + 5 * 60]
    assert "REV is old, this checkout is new. 2 regression." in capsys.readouterr().out


@pytest.mark.thorough("a whole benchmark")
def test_a_revision_is_timed_against_this_one(tmp_path: Path, capsys: Any) -> None:
    chosen = ["--workload", "small", "--implementation", "batched", "--minutes", "0.3", "--device", "cpu"]
    assert bench_compare.main(["--base", "HEAD", *chosen, "--results", str(tmp_path)]) == 0
    assert "HEAD is old, this checkout is new. 4 " in capsys.readouterr().out
