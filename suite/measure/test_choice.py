"""The benchmark times the right rows where it is told nothing, and says what it leaves out."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from impls.registry import IMPLS, resolve
from suite import bench
from suite.measure import choice, cost, work
from suite.measure import plan as planning
from suite.measure.bench_step import calls_per_step
from suite.measure.examples import job
from suite.measure.jobs import Job
from suite.shared import machine
from suite.shared.candidates import Candidate, find
from suite.shared.cases import BASELINE, OF_ONE_LENGTH, SELECTION, WORKLOADS
from suite.shared.examples import CPU, TINY, made
from suite.shared.files import ROOT
from suite.shared.rows import PASSES, TABLES

IMPL = {impl.name: impl for impl in IMPLS}


def chosen(*arguments: str) -> list[Job]:
    options = bench.parser().parse_args(arguments)
    choice.choose(options)
    return choice.jobs(options)


def test_a_gpu_runs_whole_workloads() -> None:
    found = chosen("--device", "cuda:1")
    assert {job.case for job in found} == {WORKLOADS[name] for name in choice.SELECTED["cuda"]}
    assert len(found) == len({job.label for job in found})


def test_without_a_gpu_the_fastest_alone_is_timed_at_the_papers_own_size() -> None:
    def timed(*arguments: str) -> list[tuple[str, tuple[bool, ...]]]:
        jobs = [job for job in chosen("--device", "cpu", *arguments) if job.case == WORKLOADS[choice.FULL]]
        return [(job.candidate, job.layer_norms) for job in jobs]

    assert timed() == [(resolve("auto", CPU, torch.float32).name, (False,)), (BASELINE, (False,))]
    assert not timed("--implementation", "batched")


@pytest.mark.parametrize("asked", [False, True])
def test_packed_sequences_are_timed_of_what_takes_them(asked: bool) -> None:
    named = ["--implementation", "batched", "deferred", "labml", BASELINE]
    found = chosen("--device", "cpu", "--workload", "small-ragged", *(named if asked else []))
    others = {"batched"} if asked else {"batched_cpu", "batched_cuda"}
    assert {job.candidate for job in found} == {"deferred", BASELINE, *others}


@pytest.mark.parametrize(
    ("asked", "found"), [([], {"small", "medium"}), (["--workload", "stream"], {"stream"})], ids=["default", "asked"]
)
def test_the_equation_as_it_reads_is_timed_unasked_where_that_is_short(asked: list[str], found: set[str]) -> None:
    assert {job.case.name for job in chosen("--device", "cpu", *asked) if job.candidate == "row_scaled"} == found


def test_torch_compile_is_timed_once_by_default_and_jax_on_batches_of_one_length() -> None:
    def places(name: str, *arguments: str) -> list[tuple[str, str, tuple[bool, ...]]]:
        found = chosen("--device", "cpu", "--dtype", "float32", "bfloat16", *arguments)
        return [(job.dtype, job.case.name, job.layer_norms) for job in found if job.candidate == name]

    assert places("jax") == [("float32", name, (False, True)) for name in SELECTION if name in OF_ONE_LENGTH]
    assert places("compiled") == [("float32", "medium", (False,))]
    assert not places("compiled", "--workload", "stream")
    everywhere = [(dtype, name, (False, True)) for dtype in ("float32", "bfloat16") for name in SELECTION]
    assert places("compiled", "--implementation", "compiled") == everywhere


def test_the_answer_comes_first_and_the_equation_as_it_reads_last() -> None:
    found = [job.candidate for job in chosen("--device", "cpu")]
    first = [name in (choice.fastest(CPU, "float32"), BASELINE) for name in found]
    assert first == sorted(first, reverse=True)
    assert found[-4:] == ["row_scaled"] * 2 + ["naive"] * 2


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_what_the_defaults_leave_out_is_listed_by_the_option_that_asks_for_it(device: str) -> None:
    def run(jobs: Sequence[Job], candidate: str, workload: str) -> set[tuple[str, bool]]:
        here = [job for job in jobs if (job.candidate, job.case.name) == (candidate, workload)]
        return {(job.dtype, norm) for job in here for norm in job.layer_norms}

    on = ["--device", device, "--dtype", "float32", "bfloat16"]
    options = bench.parser().parse_args(on)
    choice.choose(options)
    usual, listed = choice.jobs(options), dict(line.split(": ") for line in choice.left_out(options))
    every = chosen(*on, "--implementation", *options.implementation)
    for candidate, workload in product(options.implementation, options.workload):
        named = listed.get(f"--implementation {candidate}", "").split(", ")
        found, all_of_it = run(usual, candidate, workload), run(every, candidate, workload)
        assert found <= all_of_it
        assert (workload in named) == (not found and bool(all_of_it)), (candidate, workload)
        assert (f"{workload} in part" in named) == (bool(found) and found < all_of_it), (candidate, workload)
    assert {*options.workload, *listed["--workload"].split(", ")} == set(WORKLOADS)
    assert ("--full" in listed) == (device == "cpu")
    asked = [*on, "--full", "--workload", *WORKLOADS, "--implementation", *options.implementation]
    options = bench.parser().parse_args(asked)
    choice.choose(options)
    assert not choice.left_out(options)


def test_the_list_of_a_cpu_names_what_compiles_and_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--device", "cpu", "--list", "--results", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(r"medium float32 compiled off ", text)
    assert "Not run unless asked for:" in text
    assert "--implementation compiled: small, medium in part, stream, char-ptb, medium-ragged" in text
    assert "--workload: enwik8, handwriting, small-ragged, char-ptb-ragged" in text


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all but what needs a CPU run on a GPU that is not here, beside 16 cores: JAX is installed for the CPU."""

    def able(name: str) -> Candidate:
        found = find(name)
        devices = ("cpu",) if name == "jax" else getattr(IMPL.get(name), "devices", ("cuda",))
        reason = None if "cuda" in devices else "it needs a CPU."
        return replace(found, why_unavailable=lambda *_: reason)

    monkeypatch.setattr(planning, "find", able)
    monkeypatch.setattr(choice, "fastest", lambda device, dtype: "deferred")
    monkeypatch.setattr(machine, "name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(os, "cpu_count", lambda: 16)


@pytest.mark.usefixtures("h100")
def test_a_default_run_on_an_h100_takes_twenty_minutes_at_most_with_first_rounds_for_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def needed(*arguments: str) -> float:
        on = ["--device", "cuda:0", "--dtype", "float32", "tf32", "bfloat16", "--unverified"]
        assert bench.main([*on, "--list", "--results", str(tmp_path), *arguments]) == 0
        text = " ".join(capsys.readouterr().out.split())
        found = re.search(r"first rounds in ([\d.]+) minutes, by prediction, and (more|no time)[a-z ]* (\d+)\.", text)
        assert found
        assert int(found[3]) == choice.MINUTES["cuda"] <= 20
        assert (found[2] == "more") == (float(found[1]) < 15)
        return float(found[1])

    usual = needed()
    assert 5 < usual < choice.MINUTES["cuda"]
    assert f"about {choice.MINUTES['cuda']:.0f} minutes" in (ROOT / "README.md").read_text()
    assert needed("--workload", *WORKLOADS, "--implementation", *IMPL, BASELINE, "labml") > 60


def test_a_call_that_was_timed_here_takes_what_its_row_says(tmp_path: Path) -> None:
    for seconds in (0.1, 1.0):
        TABLES["bench"].replace(tmp_path, made("batched", seconds))
        earlier = cost.known(TABLES["bench"].read(tmp_path))
        assert [cost.call_s("batched", TINY, name, job(), earlier) for name in PASSES] == [seconds] * 2
    assert planning.plan([job()], tmp_path)[0].seconds > planning.plan([job("deferred")], tmp_path)[0].seconds


def test_jax_has_a_process_of_its_own_and_torch_compile_one_for_each_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "find", lambda name: replace(find(name), why_unavailable=lambda *_: None))
    todo = planning.plan(chosen("--device", "cpu", "--dtype", "float32", "bfloat16", "--implementation", "batched",
                                "compiled", BASELINE, "jax", "--workload", "small", "medium"), tmp_path)  # fmt: skip
    found = [{(p.job.candidate, p.job.dtype) for p in batch} for batch in planning.batches(todo)]
    cold = [{("compiled", dtype)} for dtype in ("float32",) * 2 + ("bfloat16",) * 2]
    assert found == [
        *cold,
        *({("jax", dtype)} for dtype in ("float32", "bfloat16")),
        *({("batched", dtype), (BASELINE, dtype)} for dtype in ("float32", "bfloat16")),
    ]


def test_each_process_has_time_for_its_first_rounds_and_a_part_of_the_rest(tmp_path: Path) -> None:
    left = [planning.plan([job(name)], tmp_path) for name in ("compiled", "jax", "batched")]
    needed = list(map(planning.first_rounds, left))
    one, other, last = needed
    spare = 2 * one
    more = one + spare * one / sum(needed)
    assert planning.part(left, sum(needed) + spare, 1e9) == pytest.approx((one + spare, more))
    assert planning.part(left[1:], other + last, 1e9) == pytest.approx((1.5 * other, other))
    assert planning.part(left[2:], last + 100, last + 110) == pytest.approx((last + 100, last + 100))
    assert planning.part(left[2:], last - 5, last + 5) == pytest.approx((last + 5, last - 5))
    assert planning.part(left, one + 1, 1e9) == pytest.approx((1.5 * one, one)), "the others do without"
    assert planning.part(left, 1.0, 2.0) == (2.0, 1.0)


@pytest.mark.parametrize("name", ["naive", "row_scaled", "batched", "deferred", "labml", BASELINE])
def test_operators_of_a_step_are_those_that_the_prediction_assumes(name: str) -> None:
    if name == "labml":
        pytest.importorskip("labml_nn")
    case = replace(TINY, layer_norm=True in find(name).layer_norms)
    model, x = find(name).build(case, torch.float32, CPU), work.example(case, torch.float32, CPU)
    counted = [calls_per_step(find(name), model, x, step) for step in work.PASSES.values()]
    assert counted == pytest.approx(cost.OPERATORS.get(name, (0, 0)), rel=0.1)
