"""The benchmark runs jobs in processes, labels what went wrong, and shows what it found."""

import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
import torch
from rich.console import Console
from torch.nn.utils.rnn import PackedSequence

from suite import bench
from suite.measure import choice, processes, work
from suite.measure.examples import job
from suite.measure.jobs import Job
from suite.measure.plan import batches, plan
from suite.measure.processes import run
from suite.measure.progress import Progress
from suite.pages.bench import PAGE, speed
from suite.pages.bench_tables import alternatives_answer, answer, bench_summary, bench_view
from suite.pages.plots import svg
from suite.pages.sheets import markdown
from suite.shared import process, provenance
from suite.shared.candidates import find
from suite.shared.cases import BASELINE, SHORT, WORKLOADS
from suite.shared.examples import CPU, TINY, made
from suite.shared.machine import slug
from suite.shared.pairing import FEWEST
from suite.shared.rows import STAMP, TABLES


def statuses(tmp_path: Path, *jobs: Job, limit: float = 600) -> list[str]:
    return [row["status"] for _, rows in run(jobs, [600, 600], limit, tmp_path / "log.txt") for row in rows]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the results of a run of two candidates and of one that cannot run here."""
    folder = tmp_path_factory.mktemp("results")
    candidates = ["batched", "batched_cuda", "torch.nn.LSTM"]
    chosen = ["--workload", "small", "--implementation", *candidates, "--minutes", "2"]
    assert bench.main([*chosen, *ON_CPU, "--results", str(folder)]) == 0
    return folder


ON_CPU = ["--device", "cpu"]
whole = pytest.mark.thorough("a whole benchmark")


@whole
def test_a_run_leaves_rows_and_tables_without_the_hosts_name(results: Path) -> None:
    folder = results / slug(CPU)
    rows = TABLES["bench"].read(folder)
    timed = rows[rows["status"] == "ok"]
    assert list(timed["implementation"] + " " + timed["pass"] + " " + timed["layer_norm"]) == [
        "batched forward off", "batched train off", "torch.nn.LSTM forward off", "torch.nn.LSTM train off",
        "batched forward on", "batched train on",
    ]  # fmt: skip
    assert set(timed["rounds"] >= FEWEST) == {True}
    for low, high in (("q1_s", "median_s"), ("median_s", "q3_s"), ("ratio_low", "ratio"), ("ratio", "ratio_high")):
        assert bool((timed[low] <= timed[high]).all()), (low, high)
    assert bool((timed[["peak_bytes", "least_bytes", "multiply_adds", "job_s"]] > 0).all(axis=None))
    assert bool((timed["share"] > 0).all())
    assert not {"cudnn", "loop_ratio"} & set(rows)
    assert set(rows["commit"]) == {provenance.commit()}
    assert not provenance.stale(rows).any()
    assert dict(zip(timed["implementation"], timed["verify"], strict=True)) == {
        "batched": "unverified", "torch.nn.LSTM": "external",
    }  # fmt: skip
    assert "| batched |" in (folder / "bench.md").read_text()
    assert "## The hardware" in (folder / "bench.md").read_text()
    assert f"[bench]({folder.name}/bench.md)" in (results / "README.md").read_text()
    host = platform.node()
    assert not host or not re.search(rf"\b{re.escape(host)}\b", (folder / "bench.csv").read_text())


@whole
def test_what_cannot_run_here_has_rows_that_say_why(results: Path) -> None:
    rows = TABLES["bench"].read(results / slug(CPU))
    rows = rows[rows["implementation"] == "batched_cuda"]
    assert list(rows["status"]) == ["not run: batched_cuda runs on cuda, not on cpu."] * 4
    text = (results / slug(CPU) / "bench.md").read_text()
    assert "| batched_cuda | not run | - | not run |" in text
    assert "`batched_cuda` on small: batched_cuda runs on cuda, not on cpu." in text


@whole
def test_a_run_that_resumes_does_nothing_twice(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("nothing is to be done")

    monkeypatch.setattr(processes, "run", fail)
    before = (results / slug(CPU) / "bench.csv").read_text()
    chosen = ["--implementation", "batched", "torch.nn.LSTM", *ON_CPU, "--results", str(results), "--resume"]
    assert bench.main(["--workload", "small", *chosen]) == 0
    assert (results / slug(CPU) / "bench.csv").read_text() == before


def test_an_interrupted_run_keeps_what_is_done_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(jobs: Sequence[Job], *_: Any) -> Iterator[tuple[Job, list[dict[str, Any]]]]:
        (batched,) = (job for job in jobs if job.candidate == "batched")
        yield batched, [{c: v for c, v in row.items() if c not in STAMP} for row in made("batched", 0.1)]
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(bench, "prepared", lambda *_: {})
    chosen = ["--implementation", "batched", "deferred", "torch.nn.LSTM", *ON_CPU, "--results", str(tmp_path)]
    assert bench.main(["--workload", "small", *chosen]) == 130
    assert "Interrupted: 1 of 3 jobs have their rows; --resume continues from there." in capsys.readouterr().out
    assert list(TABLES["bench"].read(tmp_path / slug(CPU))["implementation"]) == ["batched"] * 2


def test_kernels_of_every_timed_call_are_compiled_beforehand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Training steps and forward passes without gradient, at the sizes of the workload and at those of its check."""
    asked = list[tuple[Any, str]]()
    monkeypatch.setattr(bench, "precompile", lambda pairs, device: asked.extend(pairs))
    monkeypatch.setattr(process, "rows_of", lambda *_, **__: pd.DataFrame([{"dtype": "float32"}]))
    monkeypatch.setattr(bench, "TABLES", {"hardware": mock.MagicMock()})
    bench.prepared(CPU, tmp_path, [job("batched"), job("batched_cuda")])
    assert asked == [
        (replace(case, training=training), "float32") for case in (TINY, work.short(TINY)) for training in (True, False)
    ]


@whole
def test_the_list_says_what_would_run_and_for_how_long(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--implementation", "batched", "deferred", "batched_cuda", *ON_CPU, "--results", str(results)]
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    assert bench.main(["--workload", "small", *chosen, "--list"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "off and on 0 not run: batched_cuda" in text
    assert re.search(r"2 of 3 jobs would run: first rounds in \d\.\d minutes, by prediction, and more rounds in", text)
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("late", [0.9, 1.3])
def test_the_processes_of_a_run_keep_to_its_time_together(
    late: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has what is left by its part of the work, and none is left to run beyond 10 % more than the run's time."""
    options = bench.parser().parse_args(["--device", "cpu", "--dtype", "float32", "bfloat16"])
    choice.choose(options)
    todo, now, given = plan(choice.jobs(options), tmp_path), [0.0], list[float]()

    def run(jobs: Sequence[Job], ends: Sequence[float], limit: float, log: Path) -> Iterator[tuple[Job, list[Any]]]:
        given.append(ends[0])
        now[0] += min(limit, ends[1] * late)
        yield from ((job, job.rows("time-out: no time was left")) for job in jobs)

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(time, "time", lambda: now[0])
    came = [p.job for p, _ in bench.measured(todo, tmp_path, 0.0, 15.0)]
    assert sorted(job.label for job in came) == sorted(p.job.label for p in todo)
    assert len(given) == len(batches(todo)) >= 3
    assert min(given) >= (10 if late < 1 else 0)
    assert now[0] <= 990


@pytest.mark.thorough("a benchmark that runs out of memory")
def test_out_of_memory_is_a_label(tmp_path: Path) -> None:
    huge = replace(WORKLOADS["char-ptb"], T=2, B=64)
    assert statuses(tmp_path, job("naive", case=huge, memory_limit=1 << 30)) == ["out of memory"] * 2


def test_a_time_out_is_a_label(tmp_path: Path) -> None:
    assert statuses(tmp_path, job(), job("deferred"), limit=0.2) == ["time-out: the run's time was over"] * 4


def test_a_crash_is_a_label_and_takes_no_later_job_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    crashing = tmp_path / "python"
    crashing.write_text(f"#!/bin/sh\necho >> {started}\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    assert statuses(tmp_path, job(), job("deferred")) == ["crashed: signal 11"] * 4
    assert len(started.read_text().splitlines()) == 2


@pytest.mark.parametrize(("given", "meant"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")])
def test_a_gpu_has_its_number(given: str, meant: str) -> None:
    assert bench.parser().parse_args(["--device", given]).device == torch.device(meant)


def test_every_candidate_passes_its_check_at_the_sizes_of_small() -> None:
    for candidate in map(find, ("naive", "row_scaled", "batched", "deferred")):
        for layer_norm in (False, True):
            worst = candidate.check(replace(TINY, layer_norm=layer_norm), torch.float32, CPU)[0]
            assert worst.ratio <= 1, (candidate.name, worst)


def test_short_workloads_say_what_was_cut() -> None:
    short = replace(WORKLOADS["char-ptb"], T=SHORT["char-ptb"]["T"], B=SHORT["char-ptb"]["B"])
    assert job().columns(short, "train")["shortened"] == "T 20 of 100, B 64 of 128"
    assert job().columns(WORKLOADS["char-ptb"], "train")["shortened"] == ""


def test_all_but_handwriting_is_text() -> None:
    text = work.example(TINY, torch.float32, CPU).data
    assert text.shape == (TINY.T, TINY.B, TINY.I)
    assert torch.equal(text.sum(-1), torch.ones(TINY.T, TINY.B))


def test_a_ragged_workload_is_the_other_without_what_lies_beyond_each_end() -> None:
    ragged = replace(TINY, lengths=(3, 1))
    x, packed = (work.example(case, torch.float32, CPU) for case in (TINY, ragged))
    assert isinstance(packed, PackedSequence)
    assert packed.batch_sizes.tolist() == [2, 1, 1]
    assert torch.equal(packed.data, torch.cat([x.data[0], x.data[1:, 0]]))
    first, again = work.repeated(packed), work.repeated(packed, 4, 2)
    assert torch.equal(first.data, packed.data[:2])
    assert torch.equal(again.data, x.data[0].repeat(4, 1))
    model = find("torch.nn.LSTM").build(TINY, torch.float32, CPU)
    for given in (packed, first, again):
        work.train(model, given)


@pytest.mark.parametrize("name", [name for name, case in WORKLOADS.items() if case.lengths])
def test_lengths_of_ragged_workloads_are_sorted_and_between_a_quarter_and_all_steps(name: str) -> None:
    for case in (WORKLOADS[name], replace(WORKLOADS[name], **SHORT.get(name, {}))):
        assert case.lengths == tuple(sorted(case.lengths, reverse=True))
        assert (case.T, len(case.lengths)) == (case.lengths[0], case.B)
        assert min(case.lengths) >= case.T // 4
        assert 0.5 < case.tokens / (case.T * case.B) < 0.75


def test_the_speed_of_ours_is_told_beside_the_fastest_alternative() -> None:
    plain = [*made("batched_cpu", 0.1), *made("row_scaled", 0.9), *made("compiled", 0.5), *made("jax", 0.25)]
    norm = [*made("batched_cpu", 0.2, layer_norm=True), *made("labml", 1.0, layer_norm=True)]
    norm += [*made("compiled", 0.5, layer_norm=True)[:1], *made("jax", 0, layer_norm=True)]
    alone = [*made("batched", 0.1, workload="medium"), *made("jax", 0.01, workload="stream")]
    assert alternatives_answer(pd.DataFrame(plain + norm + alone)) == (
        "The fastest implementation has 2.50 to 5.00 times the speed of the fastest alternative in training, and 2.50 "
        "times in a forward pass. Of `compiled` (torch.compile), labml's module and the same model in JAX, the fastest "
        "where they were timed is `jax` in 2, `compiled` in 1, `labml` in 1 of 4 comparisons."
    )
    assert alternatives_answer(pd.DataFrame(made("batched", 0.1))) == alternatives_answer(pd.DataFrame()) == ""
    slower = [*made("batched", 0.3)[1:], *made("jax", 0.15)[1:]]
    assert alternatives_answer(pd.DataFrame(slower)).startswith("The fastest implementation has 0.50 times the speed")


def test_tables_give_paired_ratios_and_labels_where_there_is_no_figure() -> None:
    table = pd.DataFrame(
        made("naive", 0) + made("row_scaled", 0.2, 4_000_000) + made("batched", 0.1, 3_000_000)
        + made("torch.nn.LSTM", 0.05, 2_000_000) + made("row_scaled", 0.4, 4_000_000, True)
        + made("batched", 0.3, 3_000_000, True) + made("labml", 0.6, 1_000_000, True)
    )  # fmt: skip
    text = markdown(PAGE.content(table))
    assert "| naive | time-out | - | time-out | - | - | - | - | - |" in text
    assert "| batched | 100 | 2.00 (1.98-2.02) | 100 | 2.00 (1.98-2.02) | slower | 0.50 | 3.00 | 1.50 |" in text
    assert "| labml | 600 | 12.0 (11.9-12.1) | 600 | 12.0 (11.9-12.1) | slower | 1.50 | 1.00 | 0.50 |" in text
    assert "| torch.nn.LSTM | 50.0 | 1.00 (0.99-1.01) | 50.0 | 1.00 (0.99-1.01) | undecided |" in text
    assert (
        "| batched | 0.0200 | 25% compute | 7 | 9.00 | 0.0200 | 25% compute | 7 | 9.00 | 10.0 | verified | - |" in text
    )
    assert "Shortened: T 3 of 100, B 2 of 8. Noise floor: 1.0% (forward), 1.0% (train)." in text
    assert "`naive` on small: time-out: 9 s" in text
    assert text.index("trains in 2.00 to 6.00 times the time of `torch.nn.LSTM`") < text.index("| ---")
    summary = bench_summary(table).words()
    assert [line["fastest"] for line in summary] == ["batched", "batched"]
    assert [line["/ labml"] for line in summary] == ["-", "0.50"]


def on_a_gpu(name: str, ratio: float, **changes: Any) -> list[dict[str, Any]]:
    """Return rows of a GPU whose time in a loop is 5 ms a multiple of the baseline's."""
    return made(name, 0.1, device="cuda", loop_s=0.005 * ratio, loop_ratio=ratio, **changes)


def test_on_a_gpu_figures_in_a_loop_come_first_where_an_idle_start_charges_the_host() -> None:
    rows = (
        on_a_gpu("batched", 1.3) + on_a_gpu("deferred", 1.2) + on_a_gpu(BASELINE, 1.05, ratio_low=0.99, ratio_high=1.01)
    )
    rows += [row | {"ratio": 1.0} for row in made("batched_cuda", 0.05, device="cuda", loop_s=0.02, loop_ratio=4.0)]
    here, elsewhere = pd.DataFrame(rows), pd.DataFrame(rows).assign(workload="char-ptb")
    text = markdown(PAGE.content(here))
    heads = ["forward in a loop, ms", "forward in a loop / LSTM", "forward, ms", "forward / LSTM"]
    assert f"| implementation | {' | '.join(heads)} | train in a loop, ms | " in text
    assert "| deferred | 6.00 | 1.20 | 100 | 2.00 (1.98-2.02) | 6.00 | 1.20 | 100 | 2.00 (1.98-2.02) | slower |" in text
    assert "Noise floor: 5.0% (forward), 5.0% (train)." in text
    assert answer(here).startswith("The fastest implementation trains in 1.20 times the time of `torch.nn.LSTM`")
    assert answer(here).endswith("It is `deferred` in 1 of 1 tables.")
    assert [line["/ LSTM"] for line in bench_summary(here).words()] == ["1.20"]
    assert "| train in a loop / LSTM |" in text
    assert "train in a loop, ms" not in re.findall(r"GFLOP/s.*", text)[0]
    assert "forward in a loop" not in markdown(PAGE.content(elsewhere))
    assert answer(elsewhere).endswith("It is `batched_cuda` in 1 of 1 tables.")
    assert answer(here.assign(device="cpu")) == answer(elsewhere)
    (view,) = bench_view(here).values()
    assert view.columns[2:4] == ["train in a loop, ms", "train in a loop / LSTM"]


@pytest.mark.parametrize(("seen", "marks"), [("a kernel seen", "-"), ("no kernel seen", "baseline without cuDNN")])
def test_a_baseline_that_ran_without_cudnn_is_marked(seen: str, marks: str) -> None:
    text = markdown(PAGE.content(pd.DataFrame(on_a_gpu("batched", 1.3, cudnn=f"91002, {seen}"))))
    assert f"| verified | {marks} |" in text


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rows_without_any_figure_have_their_labels(device: str) -> None:
    rows = pd.DataFrame(made("naive", 0, device=device))
    assert "| naive | time-out |" in markdown(PAGE.content(rows))
    assert [view.words()[0]["verdict"] for view in bench_view(rows).values()] == ["-"]


def test_the_first_call_of_either_pass_is_in_the_table() -> None:
    forward, train = made("compiled", 0.1)
    text = markdown(PAGE.content(pd.DataFrame([forward | {"first_s": 4.38}, train | {"first_s": 8.33}])))
    (heads,) = (line.split(" | ") for line in text.splitlines() if "first call, s" in line and line.startswith("|"))
    (cells,) = (line.split(" | ") for line in text.splitlines() if line.startswith("| compiled | 0."))
    found = dict(zip(heads, cells, strict=True))
    assert (found["forward, first call, s"], found["train, first call, s"]) == ("4.38", "8.33")


def test_without_an_a_a_run_there_is_no_verdict() -> None:
    text = markdown(PAGE.content(pd.DataFrame(made("row_scaled", 0.2) + made("batched", 0.1))))
    assert "| batched | 100 | 2.00 (1.98-2.02) | 100 | 2.00 (1.98-2.02) | no A/A run |" in text


def test_a_run_shows_a_line_a_job_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job(name, layer_norms=(False, True)) for name in ("naive", "batched_cuda", "torch.nn.LSTM")]
    progress = Progress(jobs, time.time() + 100.4)
    ran = [made("naive", 0) + made("naive", 0.1234, layer_norm=True), [], made("torch.nn.LSTM", 2)]
    for one, rows in zip(jobs, ran, strict=True):
        progress.show(one, rows)
    progress.show(jobs[0], made("naive", 1))  # after more rounds
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines if line] == [
        ["small,", "T", "3,", "B", "2,", "float32,", "ms"],
        ["forward", "train", "forward,", "norm", "train,", "norm", "left"],
        ["naive", "time-out", "time-out", "123", "123", "1:40"],
        ["batched_cuda", "has", "its", "rows", "1:40"],
        ["torch.nn.LSTM", "2,000", "2,000", "1:40"],
        ["All", "of", "float32", "have", "their", "first", "rounds:", "more", "rounds,", "for", "1:40", "at", "most."],
    ]


def test_the_tables_at_the_end_fit_80_columns_and_wrap_no_name() -> None:
    rows = made("naive", 0, status="out of memory") + made("row_scaled", 0.51, 1 << 30) + made("batched_cuda", 0.9)
    rows += made("torch.nn.LSTM", 0.05)
    console = Console(file=StringIO(), width=80)
    for title, view in bench_view(pd.DataFrame(rows)).items():
        view.show(title, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    named = [line.split()[0] for line in lines[2:] if line.strip() and not line.startswith("─")]
    assert named == ["implementation", "naive", "row_scaled", "batched_cuda", "torch.nn.LSTM"]
    assert max(map(len, lines)) <= 80


def busy(cores: float) -> list[dict[str, Any]]:
    return made("batched", 0.1, taken_cores=0.1) + made("deferred", 0.05, taken_cores=cores)


def test_the_last_line_answers() -> None:
    assert bench.conclusion(pd.DataFrame(busy(0.2))) == (
        "The fastest implementation trains in 1.00 times the time of torch.nn.LSTM, with 1.45 times its multiply-adds. "
        "It is deferred in 1 of 1 tables."
    )
    assert bench.conclusion(pd.DataFrame(made("batched", 0))).splitlines() == [
        "2 of 2 rows ran out of time: --resume does them.", "No implementation was timed in training.",
    ]  # fmt: skip


def test_rows_made_beside_busy_processes_are_marked_and_no_answer() -> None:
    rows = pd.DataFrame(busy(1.5))
    marked, fastest = bench.conclusion(rows).splitlines()
    assert marked == "2 of 4 rows were made while other processes took cores: marked, and in no summary."
    assert fastest.endswith("It is batched in 1 of 1 tables.")
    text = markdown(PAGE.content(rows))
    assert "It is `batched` in 1 of 1 tables." in text
    assert re.search(r"\| deferred \|.*\| busy machine \|", text)
    late = pd.DataFrame(made("batched", 0, taken_cores=1.5))
    assert "2 of 2 rows were made while other processes took cores" in bench.conclusion(late)


@pytest.mark.filterwarnings("error")
def test_one_workload_and_one_implementation_are_drawn_without_a_warning() -> None:
    drawn = speed(pd.DataFrame(made("batched", 0.1)))
    assert drawn is not None
    assert "torch.nn.LSTM" in svg(drawn)
