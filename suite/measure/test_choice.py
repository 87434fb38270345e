"""The benchmark times the right rows where it is told nothing, and says what it leaves out."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from impls.registry import resolve
from suite import bench
from suite.measure import choice
from suite.measure import plan as planning
from suite.measure.examples import job
from suite.measure.jobs import Job
from suite.shared.candidates import find
from suite.shared.cases import BASELINE, OF_ONE_LENGTH, SELECTION, WORKLOADS
from suite.shared.examples import CPU, made
from suite.shared.files import ROOT
from suite.shared.rows import table


def chosen(*arguments: str) -> list[Job]:
    options = bench.parser().parse_args(arguments)
    choice.choose(options)
    return choice.jobs(options)


def test_a_gpu_runs_whole_workloads() -> None:
    found = chosen("--device", "cuda:1")
    assert {job.case for job in found} == {WORKLOADS[name] for name in choice.SELECTED["cuda"]}
    assert len(found) == len({job.label for job in found})


def test_without_a_gpu_the_fastest_alone_is_timed_at_the_papers_own_size() -> None:
    def timed(*arguments: str) -> list[str]:
        return [job.candidate for job in chosen("--device", "cpu", *arguments) if job.case == WORKLOADS[choice.FULL]]

    assert timed() == [resolve("auto", CPU, torch.float32).name, BASELINE]
    assert not timed("--implementation", "batched")


def test_packed_sequences_are_timed_of_what_gains_by_them() -> None:
    found = chosen("--device", "cpu", "--workload", "small-ragged")
    assert {job.candidate for job in found} == {"deferred", BASELINE, "batched_cpu", "batched_cuda"}


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
    asked = [name for name in SELECTION if name in OF_ONE_LENGTH]
    everywhere = [(dtype, name, (False, True)) for dtype in ("float32", "bfloat16") for name in asked]
    assert places("compiled", "--implementation", "compiled") == everywhere


def test_the_answer_comes_first_and_the_equation_as_it_reads_last() -> None:
    found = [job.candidate for job in chosen("--device", "cpu")]
    first = [name in (choice.fastest(CPU, "float32"), BASELINE) for name in found]
    assert first == sorted(first, reverse=True)
    assert found[-4:] == ["row_scaled"] * 2 + ["naive"] * 2


def test_the_list_of_a_cpu_names_what_compiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--device", "cpu", "--list", "--results", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(r"medium float32 compiled off ", text)
    assert re.search(r"jobs would run: first rounds in about \d+\.\d minutes of 5, more rounds in the rest\.", text)
    assert f"at most {choice.MINUTES['cuda']:.0f} minutes" in (ROOT / "README.md").read_text()


def test_a_job_that_was_timed_here_takes_what_its_rows_say(tmp_path: Path) -> None:
    assert planning.plan([job()], tmp_path)[0].seconds == planning.ASSUMED
    table("bench").replace(tmp_path, made("batched", 0.1, job_s=17.0))
    assert planning.plan([job()], tmp_path)[0].seconds == 17


def test_jax_has_a_process_of_its_own_and_torch_compile_one_for_each_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "find", lambda name: replace(find(name), why_unavailable=lambda *_: None))
    todo = planning.plan(chosen("--device", "cpu", "--dtype", "float32", "bfloat16", "--implementation", "batched",
                                "compiled", BASELINE, "jax", "--workload", "small", "medium"), tmp_path)  # fmt: skip
    found = [{(p.job.candidate, p.job.dtype) for p in batch} for batch in planning.batches(todo)]
    assert [found.pop(1), found.pop(2)] == [{("jax", "float32")}, {("jax", "bfloat16")}]
    shared = [{("batched", dtype), (BASELINE, dtype)} for dtype in ("float32", "bfloat16")]
    assert found == [*shared, *({("compiled", dtype)} for dtype in ("float32",) * 2 + ("bfloat16",) * 2)]
