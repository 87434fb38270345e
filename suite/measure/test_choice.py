"""A benchmark times its plan, and what options name instead."""

from pathlib import Path

import pytest
import torch

from suite import bench
from suite.candidates.names import BASELINE, PADDED
from suite.cases.examples import CPU
from suite.cases.plan import PLAN
from suite.cases.workloads import WORKLOADS
from suite.measure import choice
from suite.measure.job import Job
from suite.shared.devices import DeviceType


def chosen(*arguments: str) -> list[Job]:
    return choice.jobs(bench.parser().parse_args(arguments))


def timed(*arguments: str) -> set[tuple[str, str, str, tuple[bool, ...]]]:
    jobs = chosen("--device", "cpu", *arguments)
    return {(job.workload.name, job.candidate, job.dtype, job.layer_norms) for job in jobs}


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_every_line_of_the_plan_is_timed_beside_the_baseline(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "multiplies_bfloat16", lambda: True)
    jobs = chosen("--device", device)
    assert len(jobs) == len({job.label for job in jobs})
    labels = {(job.workload.name, job.candidate, job.dtype) for job in jobs}
    for line in PLAN[DeviceType(torch.device(device).type)]:
        lines = {(line.workload, name, dtype) for name in (*line.candidates, BASELINE) for dtype in line.dtypes}
        assert lines <= labels
        padded = (line.workload, PADDED, "float32") in labels
        assert padded is bool(WORKLOADS[line.workload].case.lengths)


def test_without_instructions_for_it_bfloat16_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for multiplies, dtypes in ((True, {"float32", "bfloat16"}), (False, {"float32"})):
        monkeypatch.setattr(choice, "multiplies_bfloat16", lambda multiplies=multiplies: multiplies)
        assert {dtype for _, _, dtype, _ in timed()} == dtypes


def test_without_a_gpu_workloads_are_shortened_unless_asked() -> None:
    (short, *_) = chosen("--device", "cpu", "--workload", "char-ptb")
    assert (short.case.T, short.case.B, short.workload.short) == (10, 64, None)
    (full, *_) = chosen("--device", "cpu", "--full", "--workload", "char-ptb")
    assert full.workload == WORKLOADS["char-ptb"]


OFF, ON, BOTH = (False,), (True,), (False, True)
FAST = {("batched", BOTH), ("deferred", BOTH), ("batched_cpu", BOTH), (BASELINE, OFF)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--workload stream", {("batched_cpu", BOTH), (BASELINE, OFF)}),
        ("--workload handwriting", FAST),
        ("--workload char-ptb-ragged", {*FAST, (PADDED, OFF)}),
        ("--workload stream --implementation naive labml", {("naive", BOTH), ("labml", ON), (BASELINE, OFF)}),
        ("--workload two-layers --implementation batched jax", {("batched", ON), (BASELINE, OFF)}),
        ("--size L2-norm --implementation batched", {("batched", ON), (BASELINE, OFF)}),
        ("--sweep H=64,128", {("batched", OFF), ("deferred", OFF), ("batched_cpu", OFF), (BASELINE, OFF)}),
    ],
)
def test_options_name_what_is_timed_instead(arguments: str, expected: set[tuple[str, tuple[bool, ...]]]) -> None:
    assert {(name, norms) for _, name, _, norms in timed(*arguments.split())} == expected


def test_a_dtype_takes_the_place_of_that_of_the_plan() -> None:
    in_float32 = {(name, candidate) for name, candidate, dtype, _ in timed() if dtype == "float32"}
    assert {(name, candidate, dtype) for name, candidate, dtype, _ in timed("--dtype", "tf32")} == {
        (name, candidate, "tf32") for name, candidate in in_float32
    }


def test_files_are_timed_beside_the_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suite.candidates.submission.load_all", lambda files, *_: [file.stem for file in files])
    files = (f"--impl={tmp_path / name}.py" for name in ("one", "two"))
    options = choice.with_submitted(bench.parser().parse_args(["--device", "cpu", *files]))
    assert options.implementation == ["one", "two", *choice.taken_by_auto(CPU, ["float32"]), "jax"]
    assert (options.results, options.dtype, options.minutes) == (tmp_path / "one-results", ["float32"], 2)
    assert choice.taken_by_auto(torch.device("mps"), ["float32"]) == []
