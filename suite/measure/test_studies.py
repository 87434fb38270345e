"""The studies keep their clocks and ledgers honest, and label what did not come to its end."""

import math
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from impls import HyperLSTM, registry
from impls.gradient.chunks import limited
from suite import study
from suite.measure import memory as study_memory
from suite.measure import scaling as study_scaling
from suite.measure import study_step
from suite.measure import text as study_text
from suite.measure import threads as study_threads
from suite.measure.jobs import Job
from suite.pages.page import unfinished
from suite.shared.candidates import LABML, LSTM, Candidate, find, lstm_parameters
from suite.shared.cases import EXTERNAL, WORKLOADS
from suite.shared.corpus import text
from suite.shared.files import ROOT
from suite.shared.rows import TABLES

CPU = torch.device("cpu")
TINY = replace(WORKLOADS["small"], T=3, B=2, H=16, S=8)


def job(study: str, candidate: str, **changes: Any) -> Job:
    return replace(Job(study, candidate, (candidate,), TINY, "float32", CPU), **changes)


def test_a_page_says_which_rows_other_processes_slowed() -> None:
    rows = [job("threads", name).row("point", name, median_s=1) for name in ("naive", "batched")]
    page = pd.DataFrame([rows[0] | {"taken_cores": 0.9}, rows[1] | {"taken_cores": 0.1}])
    assert unfinished(page) == "Not reliable, because other processes used the cores: naive.\n"
    assert unfinished(pd.DataFrame(rows)) == ""


def test_the_ledger_counts_parameters_gradients_and_saved_memory() -> None:
    found = study_memory.ledger(find("batched"), TINY, torch.float32, CPU)
    numbers = sum(p.numel() for p in find("batched").build(TINY, torch.float32, CPU).parameters())
    # A gradient may be a view of a buffer that is a little larger.
    assert 4 * numbers == found["parameter_bytes"] <= found["gradient_bytes"] < 4 * numbers + 64 * 20
    assert found["kept_bytes"] > 4 * TINY.T * TINY.B * TINY.H
    assert found["peak_bytes"] <= found["kept_bytes"] + found["gradient_bytes"] + found["workspace_bytes"]


def test_the_ledger_shows_what_a_step_takes_without_residuals() -> None:
    with limited("cpu", forward=1, rows=4):  # chunks that are small beside the sequence
        found = study_memory.ledger(find("deferred"), replace(TINY, T=60), torch.float32, CPU)
    assert 0 < found["recomputed_bytes"] < found["peak_bytes"]
    assert "recomputed_bytes" not in study_memory.ledger(find("batched"), TINY, torch.float32, CPU)


# The LSTM's own workspace grows by pages, which are small only beside a larger limit.
@pytest.mark.thorough("processes of the studies")
@pytest.mark.parametrize(("name", "limit"), [("batched", 1_000_000), (LSTM.name, 4_000_000)])
def test_the_longest_sequence_is_predicted_and_both_sides_of_it_confirmed(name: str, limit: int) -> None:
    rows = {row["kind"]: row for row in study_memory.rows(job("memory", name, limit=limit))}
    under, over = rows["under"], rows["over"]
    assert under["peak_bytes"] <= limit < over["peak_bytes"]
    assert under["T"] <= under["longest"] == over["longest"] < over["T"]
    assert under["predicted_bytes"] <= limit < over["predicted_bytes"]


def test_the_naive_form_holds_n_z_times_the_weights_and_more_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_memory, "TENSOR_Z", (1, 8, 32))
    found = study_memory.rows(job("memory", "naive", limit=1_000_000))
    rows = [row for row, _ in zip(found, range(3), strict=False)]
    assert [(row["kind"], row["Z"]) for row in rows] == [("tensor", Z) for Z in (1, 8, 32)]
    _, few, many = rows
    forward, train = ((many[name] - few[name]) / many["weight_bytes"] / 24 for name in ("forward_bytes", "peak_bytes"))
    assert forward == pytest.approx(1, rel=0.02)
    assert 1 < train < 2


def wrong() -> Candidate:
    def why_not(*_: Any) -> str:
        return "is not here today"

    return replace(find("batched"), why_unavailable=why_not)


def test_what_is_refused_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_step, "find", lambda name: wrong())
    (row,) = study_step.rows(job("text", f"batched{study_text.RECIPE}"))
    assert row["status"] == "refused: is not here today"


def test_scaling_takes_candidates_in_turns_and_drops_the_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_scaling, "SIZES", {"T": (2, 4, 6, 8)})
    monkeypatch.setattr(study_scaling, "BUDGET", 0.0)
    monkeypatch.setattr(study_scaling, "SLOW", math.inf)
    both = job("scaling", "T", candidates=("batched", LSTM.name))
    rows = list(study_scaling.rows(both))
    assert [row["T"] for row in rows] == [2, 2, 4, 4, 6, 6, 8, 8]
    assert all(row["q1_s"] <= row["median_s"] <= row["q3_s"] and row["peak_bytes"] > 0 for row in rows)
    monkeypatch.setattr(study_scaling, "SLOW", 0.0)
    assert [row["T"] for row in study_scaling.rows(both)] == [2, 2]


@pytest.mark.parametrize("name", ["row_scaled", *EXTERNAL])
def test_all_hyperlstms_start_alike(name: str) -> None:
    if find(name).why_unavailable(CPU, torch.float32) is not None:
        pytest.skip(f"{name} is not installed")
    case, (ids, _) = replace(TINY, layer_norm=True), study_text.Streams(torch.arange(400) % TINY.I, 50, 2).window(0)
    one, other = (study_text.seeded(each, case)(ids, None)[0] for each in (name, "batched"))
    assert torch.allclose(one, other, atol=1e-5)


def test_the_larger_lstm_has_as_many_parameters_and_no_more() -> None:
    for case in (TINY, WORKLOADS["medium"], replace(WORKLOADS["medium"], L=2, layer_norm=True)):
        ours, larger = (
            sum(p.numel() for p in study_text.seeded(name, case).parameters())
            for name in ("batched", study_text.LARGER_LSTM)
        )
        H = study_text.equal_width(case)
        step = lstm_parameters(replace(case, H=H + 1)) - lstm_parameters(replace(case, H=H))
        assert 0 <= ours - larger < step + case.I


def test_the_recipe_of_the_paper_is_one_more_curve_and_reads_without_dropout() -> None:
    options = study.parser().parse_args(["--device", "cpu"])
    recipes = [job for job in study_text.jobs(options) if job.candidates[0].endswith(study_text.RECIPE)]
    assert [job.case.layer_norm for job in recipes] == [True]
    model = study_text.seeded(f"batched{study_text.RECIPE}", replace(TINY, layer_norm=True))
    assert isinstance(model.recurrent, HyperLSTM)
    assert model.recurrent.recurrent_dropout == 0.1
    ids = torch.arange(4000) % TINY.I
    assert study_text.bits_per_character(model, ids) == study_text.bits_per_character(model, ids)
    assert model.training


def test_bits_of_a_model_that_knows_nothing_are_those_of_its_classes() -> None:
    model = study_text.seeded(LSTM.name, TINY)
    nn.init.zeros_(model.softmax.weight)
    nn.init.zeros_(model.softmax.bias)
    assert study_text.bits_per_character(model, torch.arange(4000) % TINY.I) == pytest.approx(math.log2(TINY.I))


def test_windows_of_streams_follow_one_another_and_start_again() -> None:
    streams = study_text.Streams(torch.arange(25), T=3, B=2)
    assert len(streams) == 3
    assert streams.window(0)[0].T.tolist() == [[0, 1, 2], [12, 13, 14]]
    assert streams.window(1)[0].T.tolist() == [[3, 4, 5], [15, 16, 17]]
    assert streams.window(1)[1].T.tolist() == [[4, 5, 6], [16, 17, 18]]
    assert torch.equal(streams.window(3)[0], streams.window(0)[0])


def test_nothing_trains_on_the_text_held_out() -> None:
    train, held_out = study_text.parts(30)
    whole = text(30).classes
    assert torch.equal(torch.cat([train, held_out]), whole)
    assert held_out.numel() == pytest.approx(whole.numel() / 10, abs=1)


def test_the_clock_of_training_stands_while_nothing_trains() -> None:
    train, held_out = study_text.parts(TINY.I)
    model = study_text.seeded("batched", TINY)
    training = study_text.Trainer(model, study_text.Streams(train, 20, 8))
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    training.warm_up()
    assert training.steps == 0
    assert all(torch.equal(p, start[name]) for name, p in model.named_parameters())
    training.until(0.5)
    seconds, bits = training.seconds, study_text.bits_per_character(model, held_out[:4000])
    assert training.seconds == seconds >= 0.5
    assert bits < math.log2(TINY.I)
    assert isinstance(model.recurrent, HyperLSTM)
    assert model.recurrent.impl == "batched"


@pytest.mark.thorough("processes of the studies")
def test_a_job_leaves_its_rows_and_says_where_it_ended(tmp_path: Path) -> None:
    quick = job("text", LSTM.name, limit=0.05)
    rows = study.done(quick, tmp_path / "log.txt")
    assert [row["status"] for row in rows] == ["ok"] * (1 + len(study_text.CHECKPOINTS))
    assert {(row["kind"], row["implementation"]) for row in rows} == {("curve", LSTM.name)}
    assert all(row["taken_cores"] is None or row["taken_cores"] >= 0 for row in rows)
    rows = study.done(quick, tmp_path / "log.txt", limit=0.1)
    assert [row["status"] for row in rows] == ["time-out: 0 s"]


def test_a_job_that_crashes_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    (row,) = study.done(job("text", LSTM.name), tmp_path / "log.txt")
    assert (row["status"], row["implementation"]) == ("crashed: signal 11", LSTM.name)


def test_threads_are_timed_from_one_to_all() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = list(study_threads.rows(job("threads", "deferred", candidates=("deferred", LSTM.name))))
    finally:
        torch.set_num_threads(before)
    points = {(row["implementation"], row["pass"], row["n"]) for row in found}
    assert points == set(product(("deferred", LSTM.name), ("forward", "train"), (1, 2)))
    assert all(row["rounds"] >= study_threads.VISITS and row["median_s"] > 0 for row in found)


@pytest.mark.thorough("processes of the studies")
def test_a_process_that_runs_out_of_memory_says_so(tmp_path: Path) -> None:
    huge = replace(TINY, T=20_000, B=256)
    rows = study.done(job("memory", LSTM.name, case=huge, limit=1, memory_limit=1 << 30), tmp_path / "log.txt")
    assert [(row["kind"], row["status"]) for row in rows] == [("end", "out of memory")]


def test_every_study_plans_all_that_runs_here_and_labml_with_layer_norm() -> None:
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
        here = LABML.why_unavailable(CPU, torch.float32) is None
        assert ((LABML.name, True) in planned) == here
    with pytest.raises(SystemExit):
        study.parser().parse_args(["speed"])


def test_a_study_is_a_table_a_module_and_a_page_of_one_name() -> None:
    assert list(study.STUDIES) == ["memory", "scaling", "threads", "peers", "text"]
    for name in study.STUDIES:
        assert {"part", "kind", "status"} <= set(TABLES[name].columns)
        assert (ROOT / "suite" / "pages" / f"{name}.py").exists()
