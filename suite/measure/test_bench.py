"""The benchmark keeps its rows, says what went wrong, and ends with a summary."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suite import bench, bench_compare
from suite.acceptance import why_not_kept
from suite.candidates.names import BASELINE, PADDED
from suite.cases.case import Case
from suite.cases.examples import CPU, TINY
from suite.cases.workloads import WORKLOADS, Workload
from suite.checks.triton.compiled import CARDS
from suite.checks.triton.launched import recorded
from suite.measure import choice, visit
from suite.measure.fakes import beside, fake_server, job
from suite.measure.job import Job
from suite.measure.runner import Revision, Visit
from suite.results.columns import Row
from suite.results.example_runs import benchmark as run_of
from suite.results.example_runs import timed as timed_rows
from suite.results.example_runs import verification, verified
from suite.results.run import Run, folder_of, read
from suite.results.status import Ended, Status
from suite.shared.files import ResultsError

Measure = Callable[[Job, bool], list[Row]]


def benchmark(results: Path, names: Sequence[str], *options: str) -> int:
    """Time implementations on one workload; return the exit status."""
    where = ["--workload", "small", "--device", "cpu", "--results", str(results)]
    return bench.main([*where, "--implementation", *names, *options])


def written(results: Path, *, whole: bool = False) -> tuple[Run, Path]:
    """Return the run that a benchmark wrote, and its folder."""
    machine = folder_of(results, CPU)
    (folder,) = [machine] if whole else [path for path in (machine / "raw").iterdir() if path.is_dir()]
    run = read(folder, "bench")
    assert run is not None
    return run, folder


@pytest.mark.thorough("a whole benchmark")
def test_two_runs_are_kept_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert benchmark(tmp_path, ["batched_cpu"], "--minutes", "0.5") == 0
    folders = [str(path) for path in (folder_of(tmp_path, CPU) / "raw").iterdir() if path.is_dir()]
    assert len(folders) == 2
    bench_compare.main(folders)
    assert re.search(r"\d same", capsys.readouterr().out)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Measure], None]:
    """Return a function that replaces what a visit of a benchmark does, on a tiny workload and a quiet machine."""
    beside(monkeypatch, 0.0)
    monkeypatch.setitem(WORKLOADS, "small", Workload("small", TINY))
    return lambda measure: monkeypatch.setattr(bench, "Server", lambda *_, **__: fake_server(measure))


def test_an_interrupted_run_keeps_its_rows(tmp_path: Path, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    remaining = iter(range(1))

    def measure(one: Job, first: bool) -> list[Row]:
        if one.layer_norms and next(remaining, None) is None:
            raise KeyboardInterrupt
        return timed(one, first)

    serve(measure)
    assert benchmark(tmp_path, ["batched", "deferred", BASELINE]) == 130
    run, folder = written(tmp_path)
    assert list(run.rows["status"]) == [Status.OK] * 2
    assert capsys.readouterr().out.splitlines()[-1].endswith(str(folder))


#: The options of a run; visits to each job of ours and of others, and the share of the cores that other processes had;
#: whether its results replace those of the machine; and whether it says why they do not, as a person asked for all.
RUNS: list[tuple[str, tuple[int, int, float], bool, bool]] = [
    ("", (3, 1, 0.0), True, False),
    ("--minutes 9", (3, 1, 0.0), True, False),
    ("", (2, 3, 0.0), False, True),
    ("", (3, 0, 0.0), False, True),
    ("", (3, 3, 0.5), False, True),
    ("interrupted", (3, 3, 0.0), False, False),
    ("--minutes 1", (3, 3, 0.0), False, False),
    ("--implementation batched", (3, 3, 0.0), False, False),
    ("--dtype float32", (3, 3, 0.0), False, False),
]


@pytest.mark.parametrize(("options", "visits", "replaced", "says_why"), RUNS)
def test_only_a_whole_run_of_the_plan_on_a_quiet_machine_replaces_the_results(
    options: str, visits: tuple[int, int, float], replaced: bool, says_why: bool, tmp_path: Path, serve: Any,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    of_ours, of_others, share = visits
    interrupted = options == "interrupted"

    def run(revisions: Sequence[Revision], jobs: Sequence[Job], *_: Any) -> None:
        for one in jobs:
            slow = one.candidate == "batched"
            every = timed_rows("", 0.2 if slow else 0.1, visits=None)
            rows = [row | about for row, about in zip(every, one.rows(Ended()), strict=True)]
            revisions[0].visits[one] = [Visit(rows, share)] * (of_others if slow else of_ours)
        if interrupted:
            raise KeyboardInterrupt

    serve(timed)
    monkeypatch.setattr(bench, "run", run)
    monkeypatch.setattr(choice, "jobs", lambda options: [job("batched"), job("batched_cpu"), job(BASELINE)])
    run_of(*timed_rows("naive", 0.1)).write(folder_of(tmp_path, CPU))
    arguments = [] if interrupted else options.split()
    assert bench.main(["--device", "cpu", "--results", str(tmp_path), *arguments]) == 130 * interrupted
    run_written, folder = written(tmp_path, whole=replaced)
    assert len(run_written.rows) == (6 if of_others else 4)
    assert "naive" not in {*run_written.rows["implementation"]}
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].endswith(str(folder))
    assert (f"{why_not_kept(run_written.rows, 6)}." in printed) is says_why
    kept = read(folder_of(tmp_path, CPU), "bench")
    assert kept is not None
    assert ("naive" in {*kept.rows["implementation"]}) is not replaced


def test_a_file_that_cannot_be_timed_ends_a_run_before_it_starts(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(lambda *_: pytest.fail("expected no visit"))
    monkeypatch.setattr("suite.candidates.submission.files", lambda: {"deferred": Path("deferred.py")})
    verification(verified("deferred", 2)).write(folder_of(tmp_path, CPU))
    with pytest.raises(SystemExit, match=r"^--impl: deferred .*: refused: verify\.csv "):
        benchmark(tmp_path, ["batched", "deferred"])


def timed(one: Job, first: bool) -> list[Row]:
    """Rows of a visit in which a call takes 0.1 s; no rates of the hardware."""
    return timed_rows(one.candidate, 0.1, visits=None) if one.layer_norms else []


def test_a_run_ends_after_its_minutes(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = list[float]()
    serve(timed)
    monkeypatch.setattr(bench, "run", lambda _, jobs, until, *others: ends.append(until))
    benchmark(tmp_path, ["batched"], "--minutes", "3")
    assert ends == [pytest.approx(time.time() + 3 * 60, abs=20)]


def test_rows_are_compared_with_the_rates_of_the_hardware(tmp_path: Path, serve: Any) -> None:
    rates = {"dtype": "float32", "multiply_adds_per_s": 1e8, "bytes_per_s": 1e9, "side": 512, "product": "torch.mm"}

    def measure(one: Job, first: bool) -> list[Row]:
        if not one.layer_norms:
            return [{**rates}]
        return timed_rows(one.candidate, 0.1, multiply_adds=3e6, least_bytes=2e6, visits=None, share=None, bound=None)

    serve(measure)
    assert benchmark(tmp_path, ["batched"], "--minutes", "0") == 0
    run, folder = written(tmp_path)
    assert list(run.rows["share"]) == pytest.approx([0.3] * 4)
    (hardware,) = run.tables["hardware"].to_dict("records")
    assert {name: hardware[name] for name in rates} == rates
    assert "| 30% compute |" in (folder / "bench.md").read_text()


def test_a_run_says_what_it_does_not_time_who_disturbs_it_and_where_its_results_are(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(timed)
    beside(monkeypatch, 0.42)
    assert benchmark(tmp_path, ["batched", PADDED], "--minutes", "0") == 0
    printed = capsys.readouterr().out
    assert re.search(r": torch\.nn\.LSTM padded .*small\.\n", printed)
    assert " 42% " in printed
    assert "nox -s verify" not in printed


@pytest.mark.parametrize("file", ["bench.csv", "bench.md"])
def test_a_full_disk_ends_a_run_after_its_summary(
    file: str, tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(timed)
    replace_file = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == file:
            raise OSError(28, "No space left on device")
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ResultsError, match=rf"{file} .*: No space left on device") as error:
        benchmark(tmp_path, ["batched"], "--minutes", "0")
    assert error.value.code != 0
    assert "train, ms" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_ends_a_run_before_it_starts(tmp_path: Path, serve: Any) -> None:
    serve(lambda *_: pytest.fail("expected no visit"))
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"\.txt .*: Not a directory"):
        benchmark(tmp_path / "file", ["batched"], "--minutes", "0")


def test_a_sweep_has_a_table_and_a_plot(tmp_path: Path, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def grows(one: Job, first: bool) -> list[Row]:
        seconds = (0.1 if one.candidate == "batched" else 0.05) * one.case.H / 64
        grown = {
            "ratio": 20 * seconds * 64 / one.case.H,
            "multiply_adds": one.case.H**2,
            "baseline_s": one.case.H / 1280,
        }
        every = timed_rows(one.candidate, seconds, visits=None)
        return [row | about | grown for about, row in zip(one.rows(Ended()), every, strict=False)]

    serve(grows)
    where = ["--device", "cpu", "--results", str(tmp_path), "--implementation", "batched", "--sweep", "H=64,128"]
    assert bench.main([*where, "--minutes", "1"]) == 0
    printed = capsys.readouterr().out
    assert "H 64 to 128 (T 50, B 32, I 50, S 64, Z 4, L 1, float32)" in printed
    growth = re.compile(r"^batched, H 64 to 128: 2\.00 .* 4\.00 ", re.MULTILINE)
    assert growth.search(printed)
    run, folder = written(tmp_path)
    assert {path.name for path in folder.glob("*.svg")} == {"sweep-H-float32.svg"}
    assert {*run.rows["workload"]} == {"H64", "H128"}
    assert bench.main([*where, "--minutes", "0"]) == 0  # without intervals
    assert not growth.search(capsys.readouterr().out)


@pytest.mark.parametrize("sources", [None, "old"])
def test_what_is_red_is_never_timed(
    sources: str | None, tmp_path: Path, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = list[str]()

    def measure(one: Job, first: bool) -> list[Row]:
        seen.append(one.candidate)
        return one.rows(Ended(Status.NO_MEMORY, "not tried"))

    serve(measure)
    made = verification(verified("batched", 0.5), verified("deferred", 2))
    replace(made, sources=sources or made.sources).write(folder_of(tmp_path, CPU))
    assert benchmark(tmp_path, ["batched", "deferred"], "--minutes", "0") == 1
    assert re.search(r"verify\.csv .*: deferred\. .*nox -s verify\.\n", capsys.readouterr().out)
    assert set(seen) == {BASELINE, "batched"}
    rows = written(tmp_path)[0].rows
    refused = rows[rows["status"] == Status.REFUSED]
    assert {*refused["implementation"]} == {"deferred"}
    assert refused["detail"].str.contains(r"verify\.csv.* deferred .*float32").all()


@pytest.mark.parametrize("stale", [True, False])
def test_a_stale_verification_is_said_to_be(
    stale: bool, tmp_path: Path, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(timed)
    made = verification(verified("batched", 0.5))
    (replace(made, sources="old") if stale else made).write(folder_of(tmp_path, CPU))
    assert benchmark(tmp_path, ["batched"], "--minutes", "0") == 0
    assert ("nox -s verify" in capsys.readouterr().out) is stale


@pytest.mark.parametrize("name", ["stream", "char-ptb-ragged", "two-layers"])
def test_no_visit_to_a_card_compiles_a_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the next draw of its lengths."""
    passes, case = list[tuple[Case, str, bool | None]](), WORKLOADS[name].case
    monkeypatch.setattr(bench, "precompile", lambda of_jobs, device: passes.extend(of_jobs))
    jobs = [job(name, case=case, layer_norms=(case.layer_norm,)) for name in ("batched", "batched_cuda")]
    bench.compile_kernels(jobs, CPU)
    compiled = {kernel for one, arithmetic, _ in passes for kernel in recorded(one, CARDS[90], arithmetic)[0]}
    assert len(passes) == 2
    called = set[Any]()
    for training in (False, True):
        one = replace(visit.with_new_lengths(case, 1), training=training)
        called |= {*recorded(one, CARDS[90], "float32")[0]}
    assert compiled == called


def test_the_rates_of_the_hardware_are_of_a_quiet_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    rates, shares = iter([(3e9, 5e8), (9e9, 4e8), (8e9, 6e8), (1e12, 1e12)]), iter([0.5, 0.2, 0.05])

    def measure(one: Job, first: bool) -> list[Row]:
        multiply_adds, copied = next(rates)
        return [{"dtype": "float32", "multiply_adds_per_s": multiply_adds, "bytes_per_s": copied}]

    beside(monkeypatch, shares)
    best = {"dtype": "float32", "multiply_adds_per_s": 9e9, "bytes_per_s": 6e8}
    assert bench.rates_of(fake_server(measure), job()) == best
    beside(monkeypatch, 0.5)
    assert bench.rates_of(fake_server(lambda *_: []), job()) == {}
