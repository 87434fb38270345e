"""The benchmark keeps its rows, says what went wrong, and ends with a summary."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from suite import bench, bench_compare
from suite.candidates.catalogue import find
from suite.candidates.names import BASELINE, PADDED
from suite.cases.case import Case
from suite.cases.examples import CPU, TINY
from suite.cases.workloads import WORKLOADS, Workload
from suite.checks.triton.compiled import CARDS
from suite.checks.triton.launched import recorded
from suite.measure import bench as visit
from suite.measure import choice, runner
from suite.measure.believed import believed
from suite.measure.examples import fake_server, job, others
from suite.measure.examples import rows as rows_of
from suite.measure.job import Job, RefusedError
from suite.measure.runner import Side, Visit
from suite.results.example_runs import benchmark as run_of
from suite.results.example_runs import timed as timed_rows
from suite.results.example_runs import verification, verified
from suite.results.run import Run, folder_of, read
from suite.results.status import Ended, Status
from suite.shared.files import ResultsError

RAGGED = replace(TINY, lengths=(3, 1))
Measure = Callable[[Job, list[dict[str, Any]], bool], Ended]


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
    for module in (bench, runner):
        monkeypatch.setattr(module, "share_since", others(0.0))
    monkeypatch.setattr(bench, "share_now", lambda: 0.0)
    monkeypatch.setitem(WORKLOADS, "small", Workload("small", TINY))
    return lambda measure: monkeypatch.setattr(bench, "Server", lambda *_, **__: fake_server(measure))


def test_an_interrupted_run_keeps_its_rows(tmp_path: Path, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    remaining = iter(range(1))

    def measure(one: Job, rows: list[dict[str, Any]], first: bool) -> Ended:
        if not one.layer_norms:
            return Ended()
        if next(remaining, None) is None:
            raise KeyboardInterrupt
        rows += timed_rows(one.candidate, 0.1)
        return Ended()

    serve(measure)
    assert benchmark(tmp_path, ["batched", "deferred", BASELINE]) == 130
    run, folder = written(tmp_path)
    assert list(run.rows["status"]) == [Status.OK] * 2
    printed = capsys.readouterr().out
    assert "\nInterrupted: the results have the rows of the visits that ended.\n" in printed
    assert printed.splitlines()[-1] == f"Results: {folder}"


@pytest.mark.parametrize(
    ("options", "interrupted", "whole"),
    [([], False, True), (["--minutes", "9"], False, True), ([], True, False), (["--minutes", "1"], False, False),
     (["--implementation", "batched"], False, False), (["--dtype", "float32"], False, False)],
)  # fmt: skip
def test_a_run_of_the_whole_plan_alone_replaces_the_results(
    options: list[str], interrupted: bool, whole: bool, tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(sides: Sequence[Side], jobs: Sequence[Job], *_: Any) -> None:
        for one in jobs:
            sides[0].visits[one] = [Visit(one.rows(Ended(Status.NO_MEMORY)))]
        if interrupted:
            raise KeyboardInterrupt

    serve(timed)
    monkeypatch.setattr(bench, "run", run)
    run_of(*timed_rows("naive", 0.1)).write(folder_of(tmp_path, CPU))
    assert bench.main(["--device", "cpu", "--results", str(tmp_path), *options]) == 130 * interrupted
    before = read(folder_of(tmp_path, CPU), "bench")
    assert before is not None
    assert (len(before.rows) > 2) is whole
    if not whole:
        written(tmp_path)


@pytest.mark.parametrize(
    ("of_ours", "of_others", "share", "reason"),
    [
        (3, 1, 0.0, None),
        (2, 3, 0.0, "3 rows"),
        (3, 0, 0.0, "2 rows"),
        (3, 3, 0.5, "other processes"),
    ],
)
def test_results_of_a_busy_machine_or_of_few_visits_replace_none(
    of_ours: int, of_others: int, share: float, reason: str | None, tmp_path: Path, serve: Any,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def run(sides: Sequence[Side], jobs: Sequence[Job], *_: Any) -> None:
        for one in jobs:
            slow = one.candidate == "batched"
            every = timed_rows("", 0.2 if slow else 0.1, visits=None)
            rows = [row | about for row, about in zip(every, one.rows(Ended()), strict=True)]
            sides[0].visits[one] = [Visit(rows, share)] * (of_others if slow else of_ours)

    serve(timed)
    monkeypatch.setattr(bench, "run", run)
    monkeypatch.setattr(choice, "jobs", lambda options: [job("batched"), job("batched_cpu"), job(BASELINE)])
    assert bench.main(["--device", "cpu", "--results", str(tmp_path)]) == 0
    run_written, folder = written(tmp_path, whole=reason is None)
    assert len(run_written.rows) == (6 if of_others else 4)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"Results: {folder}"
    assert (f"The results of this machine stay as they were: {reason}" in printed) is (reason is not None)


def test_a_file_that_cannot_be_timed_ends_a_run_before_it_starts(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(lambda *_: pytest.fail("expected no visit"))
    monkeypatch.setattr("suite.candidates.submission.files", lambda: {"deferred": Path("deferred.py")})
    verification(verified("deferred", 2)).write(folder_of(tmp_path, CPU))
    with pytest.raises(SystemExit, match=r"^--impl: deferred would not be timed: refused: verify\.csv is red"):
        benchmark(tmp_path, ["batched", "deferred"])


def timed(one: Job, rows: list[dict[str, Any]], first: bool) -> Ended:
    """Stand for a visit that takes 0.1 s."""
    if one.layer_norms:
        rows += timed_rows(one.candidate, 0.1, visits=None)
    return Ended()


def test_a_run_ends_after_its_minutes_and_gives_ours_more_visits(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours are the fastest one, a file, and `torch.nn.LSTM` against itself."""
    ends, wants = list[float](), dict[str, float]()

    def run(sides: Sequence[Side], jobs: Sequence[Job], until: float, score: runner.Score, latest: float) -> None:
        ends.append(until)
        wants.update((one.candidate, score(one, {}, 2)) for one in jobs)

    serve(timed)
    monkeypatch.setattr(bench, "run", run)
    monkeypatch.setattr(bench, "time", SimpleNamespace(time=lambda: 1000.0))
    monkeypatch.setattr("suite.candidates.submission.files", lambda: {"row_scaled": Path("row_scaled.py")})
    (fastest,) = choice.fastest_of(CPU, ["float32"])
    benchmark(tmp_path, [fastest, "naive", "row_scaled", BASELINE], "--minutes", "3")
    assert ends == [1000 + 3 * 60]
    assert wants == {fastest: 3.0, "row_scaled": 3.0, BASELINE: 3.0, "naive": 1.5}


def test_rows_are_compared_with_the_rates_of_the_hardware(tmp_path: Path, serve: Any) -> None:
    rates = {"dtype": "float32", "multiply_adds_per_s": 1e8, "bytes_per_s": 1e9, "side": 512, "product": "torch.mm"}

    def measure(one: Job, rows: list[dict[str, Any]], first: bool) -> Ended:
        if not one.layer_norms:
            rows.append({**rates})
            return Ended()
        for row in timed_rows(one.candidate, 0.1, multiply_adds=3e6, least_bytes=2e6, visits=None):
            rows.append({name: value for name, value in row.items() if name not in ("share", "bound")})
        return Ended()

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
    for module in (bench, runner):
        monkeypatch.setattr(module, "share_since", others(0.42))
    monkeypatch.setattr(bench, "share_now", lambda: 0.42)
    assert benchmark(tmp_path, ["batched", PADDED], "--minutes", "0") == 0
    printed = capsys.readouterr().out
    assert "Not timed, for what the case has: torch.nn.LSTM padded on small.\n" in printed
    assert "This machine is busy: other processes have 42% of its cores." in printed
    assert f"\nResults: {written(tmp_path)[1]}\n" in printed
    assert "Refused" not in printed


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
    with pytest.raises(ResultsError, match=rf"{file} cannot be written: No space left on device") as error:
        benchmark(tmp_path, ["batched"], "--minutes", "0")
    assert error.value.code != 0
    printed = capsys.readouterr().out
    assert "train, ms" in printed
    assert printed.splitlines()[-1] == "No headline: an interval takes 3 visits."


def test_a_folder_that_cannot_be_written_ends_a_run_before_it_starts(tmp_path: Path, serve: Any) -> None:
    seen = list[str]()

    def measure(one: Job, *_: Any) -> Ended:
        seen.append(one.candidate)
        return Ended()

    serve(measure)
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"log\.txt cannot be written: Not a directory"):
        benchmark(tmp_path / "file", ["batched"], "--minutes", "0")
    assert seen == []


def test_a_sweep_has_a_table_and_a_plot(tmp_path: Path, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def grows(one: Job, rows: list[dict[str, Any]], first: bool) -> Ended:
        if one.layer_norms:
            seconds = (0.1 if one.candidate == "batched" else 0.05) * one.case.H / 64
            for about, row in zip(one.rows(Ended()), timed_rows(one.candidate, seconds, visits=None), strict=True):
                grown = {"ratio": 20 * seconds * 64 / one.case.H, "multiply_adds": one.case.H**2}
                rows.append(row | about | grown | {"baseline_s": one.case.H / 1280})
        return Ended()

    serve(grows)
    where = ["--device", "cpu", "--results", str(tmp_path), "--implementation", "batched", "--sweep", "H=64,128"]
    assert bench.main([*where, "--minutes", "1"]) == 0
    printed = capsys.readouterr().out
    assert "H 64 to 128 (T 50, B 32, I 50, S 64, Z 4, L 1, float32)" in printed
    assert "batched, H 64 to 128: 2.00 times, multiply-adds 4.00 times." in printed
    run, folder = written(tmp_path)
    assert {path.name for path in folder.glob("*.svg")} == {"sweep-H-float32.svg"}
    assert {*run.rows["workload"]} == {"H64", "H128"}
    assert bench.main([*where, "--minutes", "0"]) == 0  # without intervals
    assert "multiply-adds" not in capsys.readouterr().out


@pytest.mark.parametrize("sources", [None, "old"])
def test_what_is_red_is_never_timed(
    sources: str | None, tmp_path: Path, serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = list[str]()

    def measure(one: Job, rows: list[dict[str, Any]], first: bool) -> Ended:
        seen.append(one.candidate)
        return Ended(Status.NO_MEMORY, "not tried")

    serve(measure)
    made = verification(verified("batched", 0.5), verified("deferred", 2))
    replace(made, sources=sources or made.sources).write(folder_of(tmp_path, CPU))
    assert benchmark(tmp_path, ["batched", "deferred"], "--minutes", "0") == 1
    assert "Refused, as verify.csv is red: deferred. Run nox -s verify.\n" in capsys.readouterr().out
    assert set(seen) == {BASELINE, "batched"}
    rows = written(tmp_path)[0].rows
    refused = rows[rows["status"] == Status.REFUSED]
    assert {*refused["implementation"]} == {"deferred"}
    assert {*refused["detail"]} == {"verify.csv is red for deferred in float32"}


def test_a_stale_verification_is_said_to_be(tmp_path: Path, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    serve(timed)
    made = verification(verified("batched", 0.5))
    replace(made, sources="old").write(folder_of(tmp_path, CPU))
    assert benchmark(tmp_path, ["batched"], "--minutes", "0") == 0
    assert "Code has changed since the last verification on this machine" in capsys.readouterr().out


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

    def measure(one: Job, rows: list[dict[str, Any]], first: bool) -> Ended:
        multiply_adds, copied = next(rates)
        rows.append({"dtype": "float32", "multiply_adds_per_s": multiply_adds, "bytes_per_s": copied})
        return Ended()

    monkeypatch.setattr(bench, "share_since", others(shares))
    best = {"dtype": "float32", "multiply_adds_per_s": 9e9, "bytes_per_s": 6e8}
    assert bench.rates_of(fake_server(measure), job()) == best
    monkeypatch.setattr(bench, "share_since", others(0.5))
    assert bench.rates_of(fake_server(lambda *_: Ended(Status.FAILED)), job()) == {}


@pytest.mark.parametrize(
    ("visits", "slower", "file", "refused"),
    [(3, 1.6, True, True), (3, 1.4, True, False), (2, 1.6, True, False), (3, 1.6, False, False)],
)
def test_a_file_that_slows_the_baseline_is_refused(
    visits: int, slower: float, file: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.candidates.submission.files", lambda: {"batched": Path("batched.py")} if file else {})
    mine = timed_rows("batched", 0.1, visits=visits, baseline_s=0.05 * slower)
    rows = believed([*mine, *timed_rows(BASELINE, 0.05)], {})
    why = Ended(Status.REFUSED, "beside it torch.nn.LSTM takes 1.6 times as long as beside itself")
    assert [Ended.of(row) for row in rows] == [why if refused else Ended()] * 2 + [Ended()] * 2
    assert [row["ratio"] is None for row in rows] == [refused] * 2 + [False] * 2


@pytest.mark.parametrize(("step", "tensor"), [("forward", "c"), ("train", r"grad layers\.0\.z_bias")])
@pytest.mark.parametrize("name", ["batched", "deferred"])
def test_a_wrong_candidate_is_refused(name: str, step: str, tensor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(model: nn.Module, _: Any, results: Any) -> Any:
        """Results with one wrong number of the last state, or a wrong gradient of one parameter."""
        out, last = results
        if step == "forward" and not torch.is_grad_enabled():
            last[1][0, 0, 0] *= 1.01
        if step == "train" and torch.is_grad_enabled():
            bias = model.get_parameter("layers.0.z_bias")
            out = out + 0.01 * (bias - bias.detach()).sum()  # which changes no number of out
        return out, last

    def build(*given: Any) -> nn.Module:
        model = find(name).build(*given)
        model.register_forward_hook(changed)
        return model

    monkeypatch.setattr(visit, "find", lambda name: replace(find(name), build=build))
    one = job(name, case=replace(TINY, B=5))
    with pytest.raises(RefusedError, match=rf"^{tensor} of a timed call is off by \S+e[+-]\d\d, allowed \S+e-0[67]$"):
        rows_of(one, True)
    assert len(rows_of(one, False)) == 2  # a visit after the first compares nothing
    monkeypatch.setattr("suite.candidates.submission.files", lambda: {name: Path("mine.py")})
    with pytest.raises(RefusedError):
        rows_of(one, False)


def test_jax_is_timed_without_a_peak_memory() -> None:
    pytest.importorskip("jax")
    row, _ = rows_of(job("jax"), True)
    assert (row["status"], row["peak_bytes"]) == (Status.OK, None)


@pytest.mark.parametrize(
    ("name", "computed", "dtype"),
    [("deferred", RAGGED, "float64"), (BASELINE, RAGGED, "float32"), (PADDED, TINY, "float32")],
)
def test_a_first_visit_has_costs_by_formula(
    name: str, computed: Case, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = find(name)
    monkeypatch.setattr(visit, "lengths", lambda *_: RAGGED.lengths)
    rows = rows_of(job(name, case=RAGGED, dtype=dtype), True)
    parameters = sum(p.numel() for p in one.build(TINY, torch.float32, CPU).parameters())
    adds = one.multiply_adds(computed)
    numbers = [computed.least_numbers(parameters, one.saved(TINY), train) for train in (False, True)]
    assert [row["multiply_adds"] for row in rows] == [adds, 3 * adds]
    assert [row["work"] for row in rows] == [adds / find(BASELINE).multiply_adds(RAGGED)] * 2
    size = {"float32": 4, "float64": 8}[dtype]
    assert [row["least_bytes"] for row in rows] == [size * least for least in numbers]


def test_a_run_shows_milliseconds_of_each_first_visit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(name, layer_norms=(False, True)) for name in ("naive", "batched")]
    no_memory, time_out = timed_rows("naive", 0, status=Status.NO_MEMORY)[0], timed_rows("naive", 0)[1]
    ran = [[no_memory, time_out, *timed_rows("naive", 0.1234, layer_norm=True)], timed_rows("batched", 2)]
    side = Side(fake_server(lambda *_: Ended()), {one: [Visit(rows)] for one, rows in zip(jobs, ran, strict=True)})
    monkeypatch.setattr(runner, "visits", lambda *_: product((1, 2), jobs))
    runner.run([side], jobs, time.time() + 125.4)
    printed = capsys.readouterr().out.splitlines()
    lines = [" ".join(line.split()) for line in printed if line.startswith("small")]
    assert lines == ["small float32 naive no memory time-out 123 123", "small float32 batched 2,000 2,000"]
    assert max(map(len, printed)) <= 80
