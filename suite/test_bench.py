"""The benchmark labels what went wrong, measures what it says, and leaves whole files."""

import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console

from . import bench, bench_compare, bench_step, hardware, live, machine, measure, pairing, planning, report, trust
from .bench_tables import bench_markdown, bench_summary
from .cases import SHORT, WORKLOADS, Case
from .compare import Verdict, implementation
from .jobs import Job, run
from .machine import slug
from .pages import page
from .results import ResultsError, read, replace_rows, write_whole
from .stopwatch import DeviceEvents, clock_columns
from .subjects import LSTM, find

TINY = replace(WORKLOADS["small"], T=3, B=2)
CPU = torch.device("cpu")
HERE = machine.environment(CPU)


def job(folder: Path, subject: str = "batched", **changes: Any) -> Job:
    return replace(Job(subject, TINY, "float32", "cpu", 8 << 30, 60, folder, (False,)), **changes)


def statuses(job: Job, tmp_path: Path) -> list[str]:
    return [row["status"] for row in run(job, tmp_path / "raw.json", tmp_path / "log.txt")]


# A whole run


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the results of a run of two subjects and of one that cannot run here."""
    folder = tmp_path_factory.mktemp("results")
    subjects = ["batched", "batched_cuda", "torch.nn.LSTM"]
    assert bench.main(["--workload", "small", "--implementation", *subjects, *ON_CPU, "--results", str(folder)]) == 0
    return folder


ON_CPU = ["--layer-norm", "off", "--device", "cpu"]


def test_a_run_leaves_rows_tables_and_raw_figures_without_the_hosts_name(results: Path) -> None:
    folder = results / slug(CPU)
    rows = page("bench").rows(folder)
    timed = rows[rows["status"] == "ok"]
    assert list(timed["implementation"] + " " + timed["pass"]) == [
        "batched forward", "batched train", "torch.nn.LSTM forward", "torch.nn.LSTM train",
    ]  # fmt: skip
    for low, high in (("q1_s", "median_s"), ("median_s", "q3_s"), ("ratio_low", "ratio"), ("ratio", "ratio_high")):
        assert bool((timed[low] <= timed[high]).all()), (low, high)
    assert bool((timed[["peak_bytes", "least_bytes", "multiply_adds", "job_s"]] > 0).all(axis=None))
    assert bool(timed["share"].between(0, 1.2).all())
    assert set(rows["commit"]) == {trust.commit()}
    assert set(rows["sources"]) == {trust.sources()}
    assert list(timed["verify"]) == ["unverified", "unverified", "peer", "peer"]
    assert "| batched |" in (folder / "bench.md").read_text()
    assert "| float32 |" in (folder / "hardware.md").read_text()
    assert f"[bench]({folder.name}/bench.md)" in (results / "README.md").read_text()
    raw = (folder / "raw" / "small-float32-batched.json").read_text()
    assert '"data"' in raw
    assert '"baseline_s"' in raw
    host = platform.node()
    assert not host or not re.search(rf"\b{re.escape(host)}\b", raw)


def test_what_cannot_run_here_has_rows_that_say_why(results: Path) -> None:
    rows = page("bench").rows(results / slug(CPU))
    rows = rows[rows["implementation"] == "batched_cuda"]
    assert list(rows["status"]) == ["not run: batched_cuda runs on cuda, not on cpu."] * 2
    text = (results / slug(CPU) / "bench.md").read_text()
    assert "| batched_cuda | not run | - | not run |" in text
    assert "`batched_cuda` on small: not run: batched_cuda runs on cuda, not on cpu." in text


def test_a_run_that_resumes_does_nothing_twice(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def label(job: Job, *_: Path) -> list[dict[str, Any]]:
        ran.append(job.subject)
        return job.rows(job.cases, "time-out: 1 s")

    monkeypatch.setattr(bench, "run", label)
    monkeypatch.setattr(bench, "measured_ceilings", lambda *_: {})
    before = (results / slug(CPU) / "bench.csv").read_text()
    chosen = ["--implementation", "batched", "torch.nn.LSTM", *ON_CPU, "--results", str(results), "--resume"]
    assert bench.main(["--workload", "small", *chosen]) == 0
    assert not ran
    assert (results / slug(CPU) / "bench.csv").read_text() == before
    shards = ["--workload", "small", "--shard", "2/2", *chosen]
    assert bench.main(shards) == 0
    assert ran == ["torch.nn.LSTM"], "the rows of a whole run are none of a shard"


def test_the_list_says_what_would_run_and_for_how_long(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--implementation", "batched", "deferred", "batched_cuda", *ON_CPU, "--results", str(results)]
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert bench.main(["--workload", "small", *chosen, "--list"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "small float32 batched_cuda off 0 not run: batched_cuda runs on cuda, not on cpu." in text
    assert re.search(r"2 of 3 jobs would run: \d\.\d minutes by earlier rows, and 1 that have not run here yet\.", text)
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


# Labels


def test_out_of_memory_is_a_label(tmp_path: Path) -> None:
    huge = replace(WORKLOADS["char-ptb"], T=2, B=64)
    assert statuses(job(tmp_path, "naive", case=huge, memory_limit=1 << 30), tmp_path) == ["out of memory"] * 2


def test_a_time_out_is_a_label(tmp_path: Path) -> None:
    assert statuses(job(tmp_path, time_limit=0.2), tmp_path) == ["time-out: 0 s"] * 2


def test_a_crash_is_a_label_and_takes_no_later_case_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    crashing = tmp_path / "python"
    crashing.write_text(f"#!/bin/sh\necho >> {started}\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    assert statuses(job(tmp_path, layer_norms=(False, True)), tmp_path) == ["crashed: signal 11"] * 4
    assert len(started.read_text().splitlines()) == 2


def test_a_wrong_subject_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(find("batched"), check=lambda *_: [Verdict("grad x", 2e-3, 1e-6)])
    monkeypatch.setattr(bench_step, "find", lambda name: wrong)
    with pytest.raises(bench_step.RefusedError, match=r"grad x is off by 2\.0e-03, allowed 1\.0e-06"):
        bench_step.checked_model(job(tmp_path), TINY)
    assert '"status": "refused: grad x is off' in (tmp_path / "plain-train.json").read_text()


class Steps:
    """A stopwatch of a subject that takes a second for each step of its input, and 100 more the first time."""

    def __init__(self) -> None:
        self.calls = 0

    def seconds(self, work: Any) -> float:
        """Return how many steps the call says it made."""
        self.calls += 1
        return float(work()) + (100 if self.calls == 1 else 0)


@pytest.mark.parametrize(("limit", "ends"), [(200, True), (150, False)])
def test_a_time_out_is_predicted_from_a_few_steps(tmp_path: Path, limit: float, ends: bool) -> None:
    long = replace(TINY, T=30)  # 6 passes of 30 s
    made = bench_step.Bench(job(tmp_path, case=long, time_limit=limit), long)
    made.watch = Steps()  # type: ignore[assignment]
    made.since = time.monotonic()

    def step(_: Any, x: torch.Tensor) -> int:
        return len(x)

    first = made.watch.seconds(lambda: step(None, made.x[:1]))
    if ends:
        bench_step.will_end(made, first, step)  # type: ignore[arg-type]
    else:
        with pytest.raises(
            bench_step.TooLongError, match=r"time-out: predicted, 6 passes of 30\.0 s each, limit 150 s"
        ):
            bench_step.will_end(made, first, step)  # type: ignore[arg-type]


def test_every_subject_passes_its_check_at_the_sizes_of_small() -> None:
    for subject in map(find, ("naive", "row_scaled", "batched", "deferred")):
        for layer_norm in (False, True):
            worst = subject.check(replace(TINY, layer_norm=layer_norm), torch.float32, CPU)[0]
            assert worst.ratio <= 1, (subject.name, worst)


# Paired rounds


def test_a_paired_ratio_sees_through_a_clock_that_drifts() -> None:
    drift = [1 + 0.2 * k for k in range(20)]
    found = pairing.paired_ratio([1.5 * clock for clock in drift], drift)
    assert found == pytest.approx((1.5, 1.5, 1.5))


def test_an_interval_holds_the_ratio_of_most_noisy_runs_and_is_the_same_each_time() -> None:
    generator = torch.Generator().manual_seed(0)

    def rounds(usual: float) -> list[float]:
        return [usual * (1 + 0.1 * u) for u in torch.rand(15, generator=generator).tolist()]

    runs = [(rounds(2), rounds(1)) for _ in range(40)]
    found = [pairing.paired_ratio(*run) for run in runs]
    assert sum(run.low <= 2 <= run.high for run in found) >= 34
    assert found[0] == pairing.paired_ratio(*runs[0])


def test_a_verdict_takes_an_interval_beyond_the_noise() -> None:
    noise = pairing.noise_floor(pairing.Interval(1.0, 0.96, 1.03))
    assert noise == pytest.approx(1 / 0.96 - 1)
    verdicts = {
        pairing.Interval(0.8, 0.7, 0.9): "faster",
        pairing.Interval(0.97, 0.965, 0.99): "undecided",
        pairing.Interval(1.2, 0.9, 1.4): "undecided",
        pairing.Interval(1.2, 1.1, 1.3): "slower",
    }
    assert {found: pairing.verdict(found, noise) for found in verdicts} == verdicts


def test_a_round_whose_baseline_was_slow_is_marked() -> None:
    assert pairing.columns([3.0] * 6, [1, 1, 1, 1.6, 1, 1])["disturbed"] == 1


def test_rounds_without_a_partner_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected as many of each, at least 3; got 4 and 3"):
        pairing.paired_ratio([1.0] * 4, [1.0] * 3)


def test_slow_rounds_are_fewer_and_their_interval_wider() -> None:
    assert [pairing.rounds(seconds, 0.8) for seconds in (0.001, 0.08, 0.5, 2)] == [50, 10, 6, 3]
    ratios = [2.0, 2.1, 2.2]
    found = pairing.paired_ratio(ratios, [1.0] * 3)
    assert found.low < min(ratios)
    assert found.high > max(ratios)


class FakeEvent:
    """An event of a device whose clock is the length of the log."""

    log: list[str] = []  # noqa: RUF012

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        """Take the time."""
        self.at = len(FakeEvent.log)
        FakeEvent.log.append("record")

    def elapsed_time(self, end: "FakeEvent") -> float:
        """Return milliseconds, a second for each entry of the log."""
        return 1e3 * (end.at - self.at)


def test_on_a_gpu_a_call_starts_with_an_emptied_cache_and_is_timed_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeEvent.log = log = []
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "clock_rate", lambda device: 1980)
    flush = torch.ones(8)
    watch = DeviceEvents(torch.device("cuda"), flush)
    assert watch.seconds(lambda: log.extend(["work", "work"])) == 3
    assert log == ["synchronize", "record", "work", "work", "record", "synchronize"]
    assert not flush.any()
    assert watch.clock() == 1980

    def missing(device: torch.device) -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "clock_rate", missing)
    assert watch.clock() is None


def test_a_round_after_which_the_clock_is_down_is_marked() -> None:
    assert clock_columns([1400, 1980, 1700, 1900]) == {
        "clock_before_mhz": 1400, "clock_after_mhz": 1900, "throttled": 1,
    }  # fmt: skip
    assert set(clock_columns([1980, None]).values()) == {"unknown"}


# What the hardware allows


@pytest.mark.parametrize("layer_norm", [False, True])
def test_formulas_count_the_parameters_that_are_there(layer_norm: bool) -> None:
    case = replace(TINY, L=2, layer_norm=layer_norm)
    model = implementation("naive")(case, torch.float32, torch.device("meta"))
    assert case.parameters() == sum(p.numel() for p in model.parameters())


def test_least_bytes_are_what_must_move_once() -> None:
    case = Case(T=2, B=3, I=5, H=7, S=4, Z=2)
    x, h, cells = 2 * 3 * 5, 2 * 3 * 7, 2 * 3 * (7 + 2 * 4)
    assert case.least_numbers(train=False) == x + h + case.parameters()
    assert case.least_numbers(train=True) == 2 * x + 3 * h + 3 * case.parameters() + 2 * cells
    lstm = sum(p.numel() for p in LSTM.build(case, torch.float32, CPU).parameters())
    assert LSTM.least_numbers(case, False) == x + h + lstm


def test_the_share_is_of_the_bound_that_holds() -> None:
    ceiling = {"multiply_adds_per_s": 1e9, "bytes_per_s": 1e8}
    row = {"multiply_adds": 5e8, "least_bytes": 1e7, "median_s": 1.0}
    assert hardware.share(row, ceiling) == {"multiply_adds_per_s": 5e8, "bound": "compute", "share": 0.5}
    assert hardware.share(row | {"least_bytes": 8e7}, ceiling) == {
        "multiply_adds_per_s": 5e8, "bound": "memory", "share": 0.8,
    }  # fmt: skip


def test_operator_calls_are_those_that_call_no_other() -> None:
    x = torch.ones(3, 3, requires_grad=True)
    assert measure.operator_calls(lambda: torch.sin(torch.sin(x))) == 2
    # linear is a view of the weight and a product, each of which is counted and it is not.
    few, more = (
        measure.operator_calls(lambda n=n: [torch.nn.functional.linear(x, x) for _ in range(n)]) for n in (1, 3)
    )
    assert more == 3 * few


def test_calls_per_step_tell_a_loop_in_python_from_one_in_compiled_code(tmp_path: Path) -> None:
    calls = {
        name: bench_step.calls_per_step(bench_step.Bench(job(tmp_path, name), TINY), bench_step.forward)
        for name in ("row_scaled", "batched", "torch.nn.LSTM")
    }
    assert calls["row_scaled"] > calls["batched"] > 0
    assert calls["torch.nn.LSTM"] == 0


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def work() -> None:
        a = torch.ones(1_000_000)
        b = a + a
        del a
        b.add_(1)

    assert 8_000_000 <= measure.peak_bytes(work, CPU) < 8_100_000


def test_kept_memory_counts_what_the_result_holds() -> None:
    x = torch.ones(1_000_000, requires_grad=True)
    assert 4_000_000 <= measure.kept_bytes(lambda: x.exp(), CPU) < 4_100_000


# Workloads


def test_short_workloads_say_what_was_cut(tmp_path: Path) -> None:
    short = replace(WORKLOADS["char-ptb"], T=SHORT["char-ptb"]["T"], B=SHORT["char-ptb"]["B"])
    assert job(tmp_path).columns(short, "train")["shortened"] == "T 20 of 100, B 64 of 128"
    assert job(tmp_path).columns(WORKLOADS["char-ptb"], "train")["shortened"] == ""


def test_pen_offsets_are_a_walk_with_a_lifted_pen_now_and_then() -> None:
    offsets = bench_step.pen_offsets(WORKLOADS["handwriting"])
    assert offsets.shape == (300, 32, 3)
    assert bool((offsets[..., :2].norm(dim=-1) <= 1 + 1e-6).all())
    assert 0.02 < offsets[..., 2].mean().item() < 0.06
    assert torch.equal(offsets, bench_step.pen_offsets(WORKLOADS["handwriting"]))


# Trust


def verified(**changes: Any) -> dict[str, Any]:
    row = {"implementation": "batched", "dtype": "float32", "case": "a", "verdict": "pass"}
    return row | {"sources": trust.sources()} | HERE | changes


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([], "unverified"),
        ([verified(dtype="float64")], "unverified"),
        ([verified(verdict="skipped")], "unverified"),
        ([verified(), verified(case="b")], "verified"),
        ([verified(), verified(case="b", verdict="FAIL")], "red"),
        ([verified(), verified(case="b", sources="elsewhere")], "stale"),
        ([verified(torch="1.0", sources="elsewhere", verdict="FAIL")], "unverified"),
    ],
)
def test_what_verification_says_of_an_implementation(rows: list[dict[str, Any]], word: str) -> None:
    found = trust.standing(pd.DataFrame(rows), "batched", "float32", torch.__version__)
    assert found.word == word
    assert (found.refusal is not None) == (word in ("red", "stale"))


def test_rows_of_before_sources_were_recorded_are_stale() -> None:
    rows = pd.DataFrame([verified()]).drop(columns="sources")
    assert trust.standing(rows, "batched", "float32", torch.__version__).word == "stale"


def test_the_hash_of_a_verification_changes_with_its_rows() -> None:
    hashes = {
        trust.standing(pd.DataFrame([verified(ratio=ratio)]), "batched", "float32", torch.__version__).rows
        for ratio in (0.1, 0.2, 0.1)
    }
    assert len(hashes) == 2


def test_red_and_stale_are_refused_unless_told_otherwise(tmp_path: Path) -> None:
    page("verify").put(tmp_path, [verified(), verified(implementation="deferred", verdict="FAIL", case="training")])
    jobs = [job(tmp_path, name) for name in ("batched", "deferred", "torch.nn.LSTM")]
    labels = [planned.instead for planned in planning.plan(jobs, tmp_path)]
    assert labels == [None, "refused: verify.csv has a failure of deferred in float32", None]
    assert [planned.runs for planned in planning.plan(jobs, tmp_path, unverified=True)] == [True] * 3


def test_the_sources_hash_sees_a_change_and_no_change_of_line_ends(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(trust, "ROOT", tmp_path)
    (tmp_path / "impls").mkdir()
    hashes = []
    for text in (b"a\nb\n", b"a\r\nb\r\n", b"a\nc\n"):
        (tmp_path / "impls" / "one.py").write_bytes(text)
        hashes.append(trust.sources.__wrapped__())
    assert hashes[0] == hashes[1] != hashes[2]
    assert trust.commit.__wrapped__() == "unknown"


# Result files


def test_a_partial_run_replaces_only_its_own_rows(tmp_path: Path) -> None:
    path, known = tmp_path / "rows.csv", {"name": ["a", "b", "c"]}
    replace_rows(path, [{"name": "a", "n": 1, "value": 1}, {"name": "b", "n": 1, "value": 2}], ["name", "n"], known)
    replace_rows(path, [{"name": "b", "n": 1, "value": 3}, {"name": "b", "n": 2, "value": 4}], ["name", "n"], known)
    assert read(path).to_dict("split")["data"] == [["a", 1, 1], ["b", 1, 3], ["b", 2, 4]]
    replace_rows(path, [{"name": "c", "n": 1, "value": 5}], ["name", "n"], {"name": ["b", "c"]})
    assert list(read(path)["name"]) == ["b", "b", "c"]


def test_rows_of_an_earlier_format_go_when_new_ones_come(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("name,value\na,1\n")
    replace_rows(path, [{"name": "b", "value": 2, "made": "x"}], ["name"], {}, ["made"])
    assert list(read(path)["name"]) == ["b"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.md"
    write_whole(path, "old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for step in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(step, fail)
            with pytest.raises(ResultsError, match=r"table\.md could not be written and is as it was before: No space"):
                write_whole(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line of errors that a run of two subjects ends with."""
    command = ["--workload", "small", "--implementation", "batched_cuda", *ON_CPU, *arguments]
    assert bench.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_results_folder_that_is_none_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results"
    file.write_text("mine")
    assert re.search(
        r"expected a folder to write results to, got: Not a directory", said(capsys, "--results", str(file))
    )
    assert file.read_text() == "mine"


@pytest.mark.parametrize("damage", [b"", b'implementation,"\nx', b"\xff\xfe\x00", b"implementation\nnaive\n"])
def test_a_damaged_file_is_a_sentence_and_stays(tmp_path: Path, capsys: Any, damage: bytes) -> None:
    path = tmp_path / slug(CPU) / "bench.csv"
    path.parent.mkdir()
    path.write_bytes(damage)
    line = said(capsys, "--results", str(tmp_path))
    assert str(path) in line
    assert "move it away" in line
    assert path.read_bytes() == damage
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_a_sentence_and_loses_no_row(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path = tmp_path / slug(CPU) / "bench.csv"
    page("bench").put(path.parent, made("row_scaled", 0.2))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in said(capsys, "--results", str(tmp_path))
    assert path.read_bytes() == before


def test_killed_at_any_moment_a_run_leaves_whole_files_and_whole_jobs(tmp_path: Path) -> None:
    # Writing rows over and over is what a run does between its jobs; here it does nothing else.
    script = f"""
from pathlib import Path
from suite import test_bench
from suite.pages import page
for k in range(1, 10**6):
    page("bench").put(Path({str(tmp_path)!r}), test_bench.made("batched", k))
    print(k, flush=True)
"""
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    rows = page("bench").rows(tmp_path)
    assert list(rows["pass"]) == ["forward", "train"]
    assert rows["median_s"].nunique() == 1
    assert rows["median_s"].iloc[0] >= 20


# Shards


def test_every_job_is_in_one_shard(tmp_path: Path) -> None:
    def labels(*arguments: str) -> list[str]:
        options = bench.parser().parse_args(["--device", "cpu", *arguments])
        bench.choose(options)
        return [job.label for job in bench.jobs(options, tmp_path)]

    parts = [labels("--shard", f"{i}/3") for i in (1, 2, 3)]
    assert sorted(label for part in parts for label in part) == sorted(labels())
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b"])
def test_a_shard_that_is_none_is_an_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parser().parse_args(["--shard", text])
    assert "expected I/N with 1 <= I <= N" in capsys.readouterr().err


def test_report_merges_shards_and_refuses_those_of_two_commits(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / slug(CPU)
    bench_page = page("bench")
    bench_page.put(folder, made("naive", 9) + made("batched", 8))
    bench_page.put(folder, made("batched", 1), "shard-1-of-3")
    bench_page.put(folder, made("torch.nn.LSTM", 1, commit="other"), "shard-2-of-3")
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert report.main(["--results", str(tmp_path)]) == 2
    assert "expected shards of one commit" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert report.main(["--results", str(tmp_path), "--mixed"]) == 0
    assert "merged shard-1-of-3, shard-2-of-3; not there: shard-3-of-3" in capsys.readouterr().out
    rows = bench_page.rows(folder)
    assert dict(zip(rows["implementation"], rows["median_s"], strict=True)) == {
        "naive": 9, "batched": 1, "torch.nn.LSTM": 1,
    }  # fmt: skip
    assert not list(folder.glob("*shard*"))


# Tables


def made(
    subject: str, seconds: float, peak: int = 1_000_000, layer_norm: bool = False, spread: float = 0.01, **changes: Any
) -> list[dict[str, Any]]:
    """Return rows as a run makes them, of a baseline that takes 50 ms; no seconds stand for a time-out."""
    about = job(Path(), subject)
    stamp = {"commit": "c", "sources": "s", "verify": "verified", "verify_rows": "v", "job_s": 9.0} | HERE
    ratio = seconds / 0.05
    figures = {
        "status": "ok", "median_s": seconds, "ratio": ratio, "ratio_low": ratio * (1 - spread),
        "ratio_high": ratio * (1 + spread), "first_s": 9.0, "peak_bytes": peak, "kept_bytes": 60, "work": 1.45,
        "multiply_adds": 1e6, "calls_per_step": 7.0, "share": 0.25, "bound": "compute", "disturbed": 0,
        "throttled": "unknown",
    }  # fmt: skip
    labelled: dict[str, Any] = {"status": "time-out: 9 s"}
    return [
        about.columns(replace(TINY, layer_norm=layer_norm), step) | (figures if seconds else labelled) | stamp | changes
        for step in ("forward", "train")
    ]


def test_tables_give_paired_ratios_and_labels_where_there_is_no_figure() -> None:
    table = pd.DataFrame(
        made("naive", 0) + made("row_scaled", 0.2, 4_000_000) + made("batched", 0.1, 3_000_000)
        + made("torch.nn.LSTM", 0.05, 2_000_000) + made("row_scaled", 0.4, 4_000_000, True)
        + made("batched", 0.3, 3_000_000, True) + made("labml", 0.6, 1_000_000, True)
    )  # fmt: skip
    text = bench_markdown(table)
    assert "| naive | time-out | - | time-out | - | - | - | - | - |" in text
    assert "| batched | 100 | 2.00 (1.98-2.02) | 100 | 2.00 (1.98-2.02) | slower | 0.50 | 3 | 1.50 |" in text
    assert "| labml | 600 | 12.0 (11.9-12.1) | 600 | 12.0 (11.9-12.1) | slower | 1.50 | 1 | 0.50 |" in text
    assert "| torch.nn.LSTM | 50 | 1.00 (0.99-1.01) | 50 | 1.00 (0.99-1.01) | undecided |" in text
    assert "| batched | 0.02 | 25% compute | 7 | 0.02 | 25% compute | 7 | 10 | 9 | verified | - |" in text
    assert "Shortened: T 3 of 100, B 2 of 8. Noise floor: 1.0% (forward), 1.0% (train)." in text
    assert "`naive` on small: time-out: 9 s" in text
    assert text.index("`batched` trains fastest in 2 of 2 tables. It takes 2.00 to 6.00 times") < text.index("| ---")
    summary = bench_summary(table)
    assert list(summary["fastest"]) == ["batched", "batched"]
    assert list(summary["/ labml"]) == ["-", "0.50"]


def test_without_an_a_a_run_there_is_no_verdict() -> None:
    text = bench_markdown(pd.DataFrame(made("row_scaled", 0.2) + made("batched", 0.1)))
    assert "| batched | 100 | 2.00 (1.98-2.02) | 100 | 2.00 (1.98-2.02) | no A/A run |" in text


def test_a_terminal_shows_the_workload_that_runs_and_a_pipe_a_line(tmp_path: Path) -> None:
    jobs = [job(tmp_path, name, layer_norms=(False, True)) for name in ("naive", "batched")]
    terminal = live.Terminal([j.label for j in jobs], [12.0, None])
    terminal.start(jobs[0])
    terminal.end(jobs[0], made("naive", 0) + made("naive", 0.1234, layer_norm=True))
    terminal.start(jobs[1])
    console = Console(file=StringIO(), width=80)
    console.print(terminal.render())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"naive +time-out +time-out +123\.4 +123\.4", text)
    assert re.search(r"batched +\.\.\.", text)
    assert "1/2" in text
    assert live.line(jobs[1], made("batched", 0.1)) == "small float32 batched: forward 100 ms (2 x), train 100 ms (2 x)"
    assert live.line(jobs[1], made("batched", 0)) == "small float32 batched: time-out: 9 s"


# Compare


def compare(tmp_path: Path, old: Sequence[Any], new: Sequence[Any], *arguments: str) -> int:
    for name, rows in (("old", old), ("new", new)):
        page("bench").put(tmp_path / name, rows)
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


def test_compare_fails_on_more_memory_and_on_a_figure_that_is_lost(tmp_path: Path, capsys: Any) -> None:
    assert compare(tmp_path, made("batched", 0.1), made("batched", 0.1, peak=1_200_000)) == 1
    assert "2 REGRESSION" in capsys.readouterr().out
    assert compare(tmp_path, made("batched", 0.1), made("batched", 0)) == 1
    assert "2 LOST" in capsys.readouterr().out


def test_compare_refuses_unlike_places_and_wrong_paths(tmp_path: Path, capsys: Any) -> None:
    other = made("batched", 0.1, processor="another")
    assert compare(tmp_path, made("batched", 0.1), other) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected results of one machine and torch, got processor" in line
    assert compare(tmp_path, made("batched", 0.1), other, "--anyway") == 0
    assert bench_compare.main([str(tmp_path / "none"), str(tmp_path / "old")]) == 2
    assert "expected a bench.csv or a folder with one" in capsys.readouterr().err
