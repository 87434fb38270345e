"""The benchmark times the right rows where it is told nothing, and says what it leaves out."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from impls.registry import IMPLS, resolve
from suite import bench
from suite.measure import choice, cost, plan, work
from suite.measure.bench_step import Bench, calls_per_step
from suite.measure.examples import job
from suite.measure.jobs import Job
from suite.shared import machine
from suite.shared.candidates import Candidate, candidates, find
from suite.shared.cases import BASELINE, OF_ONE_LENGTH, SELECTION, WORKLOADS
from suite.shared.examples import CPU, TINY, made
from suite.shared.files import ROOT
from suite.shared.rows import table

#: What a GPU is asked for where there is none.
MEMORY = ("--memory-limit", "70")
IMPL = {impl.name: impl for impl in IMPLS}


def chosen(*arguments: str) -> list[Job]:
    options = bench.parser().parse_args(arguments)
    choice.choose(options)
    return bench.jobs(options)


def test_a_gpu_runs_whole_workloads_and_has_the_time_for_them() -> None:
    found = chosen("--device", "cuda:1", *MEMORY)
    assert {job.case for job in found} == {WORKLOADS[name] for name in choice.SELECTED["cuda"]}
    assert {job.time_limit for job in found if not find(job.candidate).compiles_each_size} == {choice.LONG_LIMIT}


def test_without_a_gpu_the_fastest_alone_is_timed_at_the_papers_own_size() -> None:
    def timed(*arguments: str) -> list[str]:
        return [job.candidate for job in chosen("--device", "cpu", *arguments) if job.case == WORKLOADS[choice.FULL]]

    assert timed() == [resolve("auto", CPU, torch.float32).name, BASELINE]
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


@pytest.mark.parametrize(("asked", "seconds"), [([], 45 + choice.COMPILING), (["--time-limit", "7"], 7)], ids=str)
def test_what_compiles_has_the_time_to_unless_a_limit_is_given(asked: list[str], seconds: float) -> None:
    found = chosen("--device", "cpu", "--workload", "medium", *asked)
    assert {job.time_limit for job in found if job.candidate == "compiled"} == {seconds}
    assert {job.time_limit for job in found if job.candidate == "batched"} == {min(45, seconds)}


def places(jobs: Sequence[Job]) -> set[tuple[str, str, str, str]]:
    """Return what jobs time: candidate, workload, dtype, layer norm."""
    return {(j.candidate, j.case.name, j.dtype, "on" if n else "off") for j in jobs for n in j.layer_norms}


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_what_the_defaults_leave_out_is_listed_by_the_option_that_asks_for_it(device: str) -> None:
    on = ["--device", device, "--dtype", "float32", "bfloat16", *MEMORY]
    options = bench.parser().parse_args(on)
    choice.choose(options)
    usual, listed = places(bench.jobs(options)), choice.left_out(options)
    named = {
        (candidate, workload, dtype, norm)
        for line in listed
        if line["option"] == "--implementation"
        for candidate in line["implementation"].split(", ")
        for workload in (options.workload if line["workload"] == "all" else line["workload"].split(", "))
        for dtype in line["dtype"].split(", ")
        for norm in line["layer norm"].split(", ")
    }
    everything = places(chosen(*on, "--implementation", *(s.name for s in candidates())))
    assert usual <= everything
    assert everything - usual == named & everything
    (others,) = (line["workload"].split(", ") for line in listed if line["option"] == "--workload")
    assert {*options.workload, *others} == set(WORKLOADS)
    assert any(line["option"] == "--full" for line in listed) == (device == "cpu")
    every = [*on, "--full", "--workload", *WORKLOADS, "--implementation", *(s.name for s in candidates())]
    options = bench.parser().parse_args(every)
    choice.choose(options)
    assert not choice.left_out(options)


def test_the_list_of_a_cpu_names_what_compiles_and_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--device", "cpu", "--list", "--results", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(r"medium float32 compiled off ", text)
    assert "Not run unless asked for:" in text
    assert "--implementation compiled: small, stream, char-ptb, medium-ragged; float32; layer norm off" in text
    assert "--workload: enwik8, handwriting, small-ragged, char-ptb-ragged" in text


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all but what needs a CPU run on a GPU that is not here, beside 16 cores: JAX is installed for the CPU."""

    def able(name: str) -> Candidate:
        found = find(name)
        devices = ("cpu",) if name == "jax" else getattr(IMPL.get(name), "devices", ("cuda",))
        reason = None if "cuda" in devices else "it needs a CPU."
        return replace(found, why_unavailable=lambda *_: reason)

    monkeypatch.setattr(plan, "find", able)
    monkeypatch.setattr(machine, "name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(os, "cpu_count", lambda: 16)


@pytest.mark.usefixtures("h100")
def test_a_default_run_on_an_h100_is_predicted_to_take_twenty_minutes_at_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def minutes(*arguments: str) -> float:
        on = ["--device", "cuda:0", "--dtype", "float32", "tf32", "bfloat16", *MEMORY, "--unverified"]
        assert bench.main([*on, "--list", "--results", str(tmp_path), *arguments]) == 0
        found = re.search(r"jobs would run: ([\d.]+) minutes by prediction\.", capsys.readouterr().out)
        assert found
        return float(found[1])

    usual = minutes()
    assert 5 < usual <= 20
    assert f"{usual:.0f} minutes" in (ROOT / "README.md").read_text()
    assert minutes("--workload", *WORKLOADS, "--implementation", *IMPL, BASELINE, "labml") > 120


def test_a_job_that_has_run_on_a_gpu_is_known_by_its_rows(tmp_path: Path) -> None:
    known, new = (job(tmp_path, name, device="cuda:0") for name in ("batched", "deferred"))
    table("bench").replace(tmp_path, made("batched", 0.1))
    first, second = plan.plan([known, new], tmp_path)
    assert (first.seconds, first.predicted) == (9.0, False)
    assert (second.seconds, second.predicted) == (cost.seconds(new), True)


@pytest.mark.parametrize("name", ["naive", "row_scaled", "batched", "deferred", "labml", BASELINE])
def test_operators_of_a_step_are_those_that_the_prediction_assumes(name: str, tmp_path: Path) -> None:
    if name == "labml":
        pytest.importorskip("labml_nn")
    case = replace(TINY, layer_norm=True in find(name).layer_norms)
    timed = Bench(job(tmp_path, name, case=case), case)
    counted = [calls_per_step(timed, step) for step in work.PASSES.values()]
    assert counted == pytest.approx(cost.OPERATORS.get(name, (0, 0)), rel=0.1)
