"""The studies keep their clocks and ledgers honest, and label what did not come to its end."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd
import pytest
import torch

from impls import registry
from impls.gradient.chunks import limited
from suite import study
from suite.measure import memory as study_memory
from suite.measure import scaling as study_scaling
from suite.measure import threads as study_threads
from suite.measure import work
from suite.measure.examples import job as benchmark_job
from suite.measure.jobs import Job
from suite.pages.page import unfinished
from suite.shared import examples
from suite.shared.candidates import LABML, LSTM, find
from suite.shared.examples import CPU
from suite.shared.files import ROOT
from suite.shared.tables import TABLES

TINY = replace(examples.TINY, H=16, S=8)


def job(study: str, candidate: str, **changes: Any) -> Job:
    return benchmark_job(candidate, table=study, case=TINY, **changes)


def test_a_page_says_which_rows_other_processes_slowed() -> None:
    rows = [job("threads", name).row("point", name, median_s=1) for name in ("naive", "batched")]
    page = pd.DataFrame([rows[0] | {"taken_cores": 0.9}, rows[1] | {"taken_cores": 0.1}])
    assert unfinished(page) == "Not reliable, because other processes used the cores: naive.\n"
    assert unfinished(pd.DataFrame(rows)) == ""


def test_the_ledger_counts_parameters_gradients_and_saved_memory() -> None:
    row = study_memory.ledger(find("batched"), TINY, torch.float32, CPU)
    numbers = sum(p.numel() for p in find("batched").build(TINY, torch.float32, CPU).parameters())
    # A gradient may be a view of a buffer that is a little larger.
    assert 4 * numbers == row["parameter_bytes"] <= row["gradient_bytes"] < 4 * numbers + 64 * 20
    assert row["kept_bytes"] > 4 * TINY.T * TINY.B * TINY.H
    assert row["peak_bytes"] <= row["kept_bytes"] + row["gradient_bytes"] + row["workspace_bytes"]


def test_the_ledger_shows_memory_without_residuals() -> None:
    with limited("cpu", forward=1, rows=4):  # chunks that are small beside the sequence
        row = study_memory.ledger(find("deferred"), replace(TINY, T=60), torch.float32, CPU)
    assert 0 < row["recomputed_bytes"] < row["peak_bytes"]
    assert "recomputed_bytes" not in study_memory.ledger(find("batched"), TINY, torch.float32, CPU)


# The LSTM's own workspace grows by pages, which are small only beside a larger limit.
@pytest.mark.thorough("processes of the studies")
@pytest.mark.parametrize(("name", "limit"), [("batched", 1_000_000), (LSTM.name, 4_000_000)])
def test_the_longest_sequence_is_confirmed_on_both_sides(
    name: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_memory, "LIMIT", limit)
    rows = {row["kind"]: row for row in study_memory.rows(job("memory", name), True)}
    under, over = rows["under"], rows["over"]
    assert under["peak_bytes"] <= limit < over["peak_bytes"]
    assert under["T"] <= under["longest"] == over["longest"] < over["T"]
    assert under["predicted_bytes"] <= limit < over["predicted_bytes"]


def test_naive_holds_n_z_times_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_memory, "TENSOR_Z", (1, 8, 32))
    points = study_memory.rows(job("memory", "naive"), True)
    rows = [row for row, _ in zip(points, range(3), strict=False)]
    assert [(row["kind"], row["Z"]) for row in rows] == [("tensor", Z) for Z in (1, 8, 32)]
    _, few, many = rows
    forward, train = ((many[name] - few[name]) / many["weight_bytes"] / 24 for name in ("forward_bytes", "peak_bytes"))
    assert forward == pytest.approx(1, rel=0.02)
    assert 1 < train < 2


def test_what_is_refused_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(find("batched"), why_unavailable=lambda *_: "is not here today")
    monkeypatch.setattr(work, "find", lambda name: absent)
    (row,) = study_memory.rows(job("memory", "batched"), True)
    assert row["status"] == "refused: is not here today"


def test_scaling_drops_slow_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_scaling, "SIZES", {"T": (2, 4, 6, 8)})
    monkeypatch.setattr(study_scaling, "BUDGET", 0.0)
    monkeypatch.setattr(study_scaling, "SLOW", math.inf)
    both = job("scaling", "T", candidates=("batched", LSTM.name))
    rows = list(study_scaling.rows(both, True))
    assert [row["T"] for row in rows] == [2, 2, 4, 4, 6, 6, 8, 8]
    assert all(row["median_s"] > 0 and row["peak_bytes"] > 0 for row in rows)
    monkeypatch.setattr(study_scaling, "SLOW", 0.0)
    assert [row["T"] for row in study_scaling.rows(both, True)] == [2, 2]


def test_threads_are_timed_from_one_to_all() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rows = list(study_threads.rows(job("threads", "deferred", candidates=("deferred", LSTM.name)), True))
    finally:
        torch.set_num_threads(before)
    points = {(row["implementation"], row["pass"], row["n"]) for row in rows}
    assert points == set(product(("deferred", LSTM.name), ("forward", "train"), (1, 2)))
    assert all(row["median_s"] > 0 for row in rows)


def test_every_study_plans_all_that_runs() -> None:
    options = study.parser().parse_args(["--device", "cpu"])
    for name, module in study.STUDIES.items():
        planned = [(candidate, job.case.layer_norm) for job in module.jobs(options) for candidate in job.candidates]
        ours = registry.resolve("auto", CPU, torch.float32).name
        if name == "threads":
            assert set(planned) == {(ours, False), (LSTM.name, False)}
            continue
        if name == "peers":
            assert {job.candidates[0] for job in module.jobs(options)} == {ours}
            assert [planned.count(("compiled", norm)) for norm in (False, True)] == [1, 1]
            continue
        assert {("naive", False), ("deferred", False), (LSTM.name, False)} <= set(planned)
        has_labml = LABML.why_unavailable(CPU, torch.float32) is None
        assert ((LABML.name, True) in planned) == has_labml
    with pytest.raises(SystemExit):
        study.parser().parse_args(["speed"])


def test_table_module_and_page_share_a_name() -> None:
    assert list(study.STUDIES) == ["memory", "scaling", "threads", "peers"]
    for name in study.STUDIES:
        assert {"part", "kind", "status"} <= set(TABLES[name].columns)
        assert (ROOT / "suite" / "pages" / f"{name}.py").exists()
