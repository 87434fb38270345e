"""By default, the benchmark times the right candidates on the right workloads."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from impls import names
from suite import bench
from suite.candidates.names import BASELINE, PADDED
from suite.cases.examples import CPU
from suite.cases.workloads import WORKLOADS
from suite.measure import choice
from suite.measure.choice import fastest
from suite.measure.job import Job
from suite.results.names import TableName
from suite.results.status import Ended, Status
from suite.results.tables import TABLES


def chosen(*arguments: str) -> list[Job]:
    return choice.jobs(bench.parser().parse_args(arguments))


def test_a_gpu_runs_whole_workloads() -> None:
    jobs = chosen("--device", "cuda:1")
    assert {job.workload for job in jobs} == {each for each in WORKLOADS.values() if "cuda" in each.by_default}
    assert len(jobs) == len({job.label for job in jobs})
    several = chosen("--device", "cuda:1", "--dtype", "float32", "tf32")
    assert {job.dtype for job in several if job.candidate in ("batched", "row_scaled")} == {"float32"}


def test_without_a_gpu_workloads_are_shortened_unless_asked() -> None:
    short = [job for job in chosen("--device", "cpu") if job.workload.name == "char-ptb"]
    assert {(job.case.T, job.case.B, job.workload.short) for job in short} == {(10, 64, None)}
    assert "char-ptb float32 batched" in {job.label for job in short}
    full = chosen("--device", "cpu", "--full", "--workload", "char-ptb")
    assert {job.workload for job in full} == {WORKLOADS["char-ptb"]}
    assert "char-ptb full float32 batched" in {job.label for job in full}


def test_files_are_timed_beside_the_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suite.candidates.submission.load_all", lambda files, device: [file.stem for file in files])
    files = (f"--impl={tmp_path / name}.py" for name in ("one", "two"))
    options = choice.with_submitted(bench.parser().parse_args(["--device", "cpu", *files]))
    assert options.implementation == ["one", "two", BASELINE, fastest(CPU, "float32"), "jax"]
    assert options.results == tmp_path / "one-results"
    assert (options.dtype, options.minutes) == (["float32"], 2)


def test_where_nothing_runs_none_is_the_fastest() -> None:
    assert fastest(torch.device("mps"), "float32") is None


@pytest.mark.parametrize("asked", [False, True])
def test_packed_sequences_are_timed_of_what_takes_them(asked: bool) -> None:
    named = ["--implementation", "batched", "deferred", "labml", BASELINE]
    jobs = chosen("--device", "cpu", "--workload", "small-ragged", *(named if asked else []))
    others = set() if asked else {*names(), PADDED}
    assert {job.candidate for job in jobs} == {"batched", "deferred", BASELINE, *others}
    assert PADDED not in {job.candidate for job in chosen("--device", "cpu", "--workload", "small")}


@pytest.mark.parametrize(
    ("options", "names"), [([], {"medium"}), (["--workload", "stream"], {"stream"})], ids=["default", "asked"]
)
def test_slow_forms_are_timed_on_small_workloads(options: list[str], names: set[str]) -> None:
    assert {job.workload.name for job in chosen("--device", "cpu", *options) if job.candidate == "row_scaled"} == names


def test_candidates_that_take_long_are_timed_in_few_places() -> None:
    def places(name: str, *arguments: str) -> list[tuple[str, str, tuple[bool, ...]]]:
        jobs = chosen("--device", "cpu", "--dtype", "float32", "bfloat16", *arguments)
        return [(job.dtype, job.workload.name, job.layer_norms) for job in jobs if job.candidate == name]

    batches = [name for name in choice.by_default("cpu") if not WORKLOADS[name].case.lengths]
    assert places("jax") == [("float32", "medium", (False, True))]
    assert places("jax", "--workload", "stream") == [("float32", "stream", (False, True))]
    of_labml = [(dtype, (True,)) for dtype in ("float32", "bfloat16")]
    assert places("labml") == [(dtype, "medium", norms) for dtype, norms in of_labml]
    assert places("labml", "--workload", "stream") == [(dtype, "stream", norms) for dtype, norms in of_labml]
    assert places("compiled") == [("float32", "medium", (False,))]
    assert not places("compiled", "--workload", "stream")
    batches.remove("two-layers")  # with dropout
    everywhere = [(dtype, name, (False, True)) for dtype in ("float32", "bfloat16") for name in batches]
    assert places("compiled", "--implementation", "compiled") == everywhere


def test_two_layers_are_timed_of_the_fastest_with_layer_norm_alone() -> None:
    def forms(*arguments: str) -> dict[str, tuple[bool, ...]]:
        jobs = chosen("--device", "cpu", "--dtype", "float32", *arguments)
        return {job.candidate: job.layer_norms for job in jobs if job.workload.name == "two-layers"}

    assert forms() == {fastest(CPU, "float32"): (True,), BASELINE: (False,)}
    every = dict.fromkeys(names(), (True,)) | {BASELINE: (False,)}
    assert forms("--workload", "two-layers") == every
    assert forms("--workload", "two-layers", "--implementation", "batched", "jax", "labml") == {"batched": (True,)}


@pytest.mark.parametrize(("device", "alone"), [("cpu", True), ("cuda:1", False)])
def test_without_a_gpu_long_workloads_are_timed_of_the_fastest_and_what_a_headline_compares(
    device: str, alone: bool
) -> None:
    def timed(name: str) -> set[str]:
        jobs = chosen("--device", device, "--dtype", "float32")
        return {job.candidate for job in jobs if job.workload.name == name}

    assert ("deferred" not in timed("stream")) is alone
    assert ("deferred" not in timed("char-ptb")) is alone
    if alone:
        ours = fastest(CPU, "float32")
        assert timed("stream") == {ours, BASELINE}
        assert timed("medium-ragged") == {ours, BASELINE, PADDED}
        assert timed("char-ptb") == {ours, BASELINE, "batched"}


def test_a_step_is_timed_forward_alone() -> None:
    jobs = [job for job in chosen("--device", "cpu") if job.workload.name == "step"]
    assert {"batched_cpu", "batched", "deferred", BASELINE} <= {job.candidate for job in jobs}
    rows = [row for job in jobs for row in job.rows(Ended())]
    assert {row["pass"] for row in rows} == {"forward"}
    assert len(rows) == sum(len(job.layer_norms) for job in jobs)


def test_sizes_are_timed_in_their_form_of_what_is_fast() -> None:
    jobs = chosen("--device", "cpu", "--size", "H512-norm", "L2", "--size", "T1-B1-eval-stacked")
    forms = {(job.candidate, job.workload.name): job.layer_norms for job in jobs}
    ours = {name for name, _ in forms} - {BASELINE}
    assert ours == {"batched", "deferred", "batched_cpu", "batched_cuda"}
    assert {forms[name, "H512-norm"] for name in ours} == {(True,)}
    assert {forms[name, "H256-L2"] for name in ours} == {(False,)} == {forms[BASELINE, "H512-norm"]}
    assert {job.workload.asked_for for job in jobs} == {True}
    assert {job.dtype for job in jobs} == {"float32"}
    step = next(job for job in jobs if job.case.T == 1)
    assert {row["pass"] for row in step.rows(Ended())} == {"forward"}
    asked = chosen("--device", "cpu", "--size", "L2", "--implementation", "jax", "naive", "labml")
    assert [job.candidate for job in asked] == ["naive"]


def test_sizes_that_differ_in_layer_norm_alone_have_one_baseline() -> None:
    arguments = ("--device", "cpu", "--dtype", "float32", "--size", "H512", "H512-norm", "H64-norm")
    jobs = chosen(*arguments)
    assert [job.workload.name for job in jobs if job.candidate == BASELINE] == ["H512", "H64-norm"]
    assert [job.workload.name for job in jobs if job.candidate == "batched"] == ["H512", "H512-norm", "H64-norm"]
    rows = pd.DataFrame([row for job in jobs for row in job.rows(Ended())])
    assert not rows.duplicated(TABLES[TableName.SIZES].key).any()
    options = bench.parser().parse_args(arguments)
    assert BASELINE not in {pair.candidate for pair in choice.left_out(options, jobs)}


def test_a_sweep_is_over_one_size_of_each_size_that_is_named() -> None:
    def names(*arguments: str) -> set[str]:
        return {job.workload.name for job in chosen("--device", "cpu", "--sweep", "H=64,256", *arguments)}

    assert names() == {"H64", "H256"}
    assert names("--size", "L2", "B8-norm") == {"H64-L2", "H256-L2", "B8-H64-norm", "B8-H256-norm"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "H512-Q3"], "argument --size: 'Q3': expected one of T, B, I, H, S, Z, L, lengths"),
        (["--sweep", "H=8"], "argument --sweep: 'H=8': expected two values or more"),
        (["--size", "lengths3.2", "--sweep", "B=1,2"], "--sweep: 'B=1': expected another size beside lengths"),
        (["--size", "H8", "--workload", "small"], "--size and --sweep: expected no --workload and no --full"),
        (["--sweep", "H=8,9", "--full"], "--size and --sweep: expected no --workload and no --full"),
        (["--size", "H8", "B9999999"], "--size: B9999999-H256: batched needs about 31,248,007 MB at this size, and"),
        (["--sweep", "H=8,9999999"], "--size: H9999999: batched needs about "),
    ],
)
def test_what_cannot_be_a_size_ends_with_a_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        bench.main(["--device", "cpu", "--results", str(tmp_path), *arguments])
    assert error.value.code != 0
    assert f"error: {message}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_candidate_that_needs_more_memory_than_the_others_is_not_run() -> None:
    (naive,) = chosen("--device", "cpu", "--size", "T500-B64-H2000", "--implementation", "naive")
    skipped = bench.fitting(naive).skipped
    assert skipped is not None
    assert skipped.status == Status.TOO_LARGE
    assert skipped.detail.startswith("naive needs about ")
    assert bench.fitting(replace(naive, candidate="batched")).skipped is None
    assert bench.fitting(replace(naive, workload=replace(naive.workload, asked_for=False))).skipped is None


def test_what_is_left_out_is_named() -> None:
    def said(*arguments: str) -> str | None:
        options = bench.parser().parse_args(["--device", "cpu", "--dtype", "float32", *arguments])
        return bench.about_untimed(choice.incapable(options), choice.left_out(options, choice.jobs(options)))

    assert said() == (
        "Left out unless asked for: naive and row_scaled on small, char-ptb, stream, step, medium-ragged, two-layers; "
        "batched on stream, medium-ragged, two-layers; deferred on char-ptb, stream, medium-ragged, two-layers; "
        "compiled and labml on small, char-ptb, stream, step; "
        "jax on small, char-ptb, stream."
    )
    assert said("--workload", "small-ragged") is None
    assert said("--implementation", "batched") is None
    lacking = "jax on two-layers, torch.nn.LSTM padded on two-layers"
    named = ("--implementation", "batched", "jax", PADDED)
    assert said("--workload", "two-layers", *named) == f"Not timed, for what the case has: {lacking}."
    assert (
        said("--sweep", "H=8,9")
        == "Left out unless asked for: naive and row_scaled and compiled and labml and jax on H8, H9."
    )


@pytest.mark.parametrize("multiplies", [False, True])
def test_bfloat16_is_timed_where_the_processor_multiplies_it(multiplies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "multiplies_bfloat16", lambda: multiplies)
    places = [(job.workload.name, job.candidate) for job in chosen("--device", "cpu") if job.dtype == "bfloat16"]
    both = [fastest(CPU, "bfloat16"), BASELINE]
    assert places == ([("medium", candidate) for candidate in both] if multiplies else [])
    assert {job.dtype for job in chosen("--device", "cpu", "--dtype", "float32")} == {"float32"}


@pytest.mark.parametrize(("instructions", "multiplies"), [("avx512_bf16", True), ("avx512_vnni", False)])
def test_a_processor_multiplies_bfloat16_by_instructions_of_its_own(
    instructions: str, multiplies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, instructions: True})
    assert choice.multiplies_bfloat16() is multiplies


@pytest.mark.parametrize("options", ["cpu", "cuda --dtype float32 bfloat16"])
def test_the_baseline_is_timed_against_itself_on_every_workload(options: str) -> None:
    jobs = {(job.candidate, job.workload, job.dtype) for job in chosen("--device", *options.split())}
    assert {(BASELINE, workload, dtype) for _, workload, dtype in jobs} <= jobs


def test_the_list_says_what_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--device", "cpu", "--list", "--results", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "small float32 batched_cpu layer norm off and on" in text
    assert "off and on not run: batched_cuda" in text
    ((would_run, every),) = re.findall(r" (\d+) of (\d+) jobs would run\.", text)
    assert int(every) - int(would_run) == text.count(" not run: ") > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "minutes"), [("cpu", 5), ("cpu --minutes 3", 3), ("cuda:0 --dtype float32 tf32", 32)]
)
def test_a_run_takes_minutes_for_each_dtype(options: str, minutes: float) -> None:
    assert choice.minutes(bench.parser().parse_args(["--device", *options.split()])) == minutes
