"""Sweeps keep every row and drop what is slow."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from impls import registry
from impls.gradient.chunks import limited
from suite import study
from suite.measure import examples, sweep
from suite.measure.job import Job
from suite.measure.work import PASSES
from suite.shared.candidates import LABML, LSTM, find
from suite.shared.cases import WORKLOADS, Case
from suite.shared.examples import CPU
from suite.shared.process import Row
from suite.shared.statistics import merged, with_intervals
from suite.shared.tables import TABLES

TINY = replace(WORKLOADS["small"], T=3, B=2, H=16, S=8)


def job(varied: str, *candidates: str) -> Job:
    return examples.job(table="sweep", varied=varied, candidates=candidates, case=TINY)


def test_sizes_grow_until_a_candidate_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SIZES", {"T": (2, 4, 6)})
    monkeypatch.setattr(sweep, "BUDGET", 0.0)
    monkeypatch.setattr(sweep, "SLOW", math.inf)
    both = job("T", "batched", LSTM.name)
    rows = list(sweep.rows(both, True))
    assert [(row["T"], row["n"]) for row in rows] == [(n, n) for n in (2, 4, 6) for _ in range(2)]
    assert all(row["median_s"] > 0 and row["peak_bytes"] > 0 for row in rows)
    assert [row.get("ratio", 0) > 0 for row in rows] == [False, True] * 3
    assert not any("peak_bytes" in row for row in sweep.rows(both, False))
    monkeypatch.setattr(sweep, "SLOW", 0.0)
    assert [row["T"] for row in sweep.rows(both, True)] == [2, 2]


def test_lengths_double_to_the_first_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "LIMIT", 200_000)
    with limited("cpu", forward=1, rows=4):  # chunks that are small beside the sequence
        rows = list(sweep.rows(job("length", "deferred"), True))
    peaks, lengths = [row["peak_bytes"] for row in rows], [row["T"] for row in rows]
    assert lengths == [row["n"] for row in rows] == [2**k for k in range(1, len(rows) + 1)]
    assert peaks[-2] < 200_000 <= peaks[-1]
    assert rows[-1]["recomputed_bytes"] < peaks[-1]
    assert not any("recomputed_bytes" in row for row in sweep.rows(job("length", LSTM.name), True))


def test_what_is_refused_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(find("batched"), why_unavailable=lambda *_: "is not here today")
    monkeypatch.setattr(sweep, "find", lambda name: absent)
    (row,) = sweep.rows(job("length", "batched"), True)
    assert row["status"] == "refused: is not here today"


def draws() -> list[Case]:
    forms = product(sweep.RANDOM_Z, (False, True))
    return [case for Z, norm in forms for case in sweep.drawn(replace(TINY, Z=Z, layer_norm=norm))]


def test_random_sizes_are_within_bounds() -> None:
    cases = draws()
    assert cases == draws()
    assert len({case.id for case in cases}) == len(cases) == 20
    for case in cases:
        for n, (low, high) in sweep.RANGES.items():
            assert low <= getattr(case, n) <= high
        assert case.H // 8 <= case.S <= case.H / 4 + 1
        assert case.multiply_adds() <= sweep.MOST_WORK


def test_a_sweep_at_random_sizes_keeps_every_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sweep, "RANGES", {"T": (2, 4), "B": (1, 3), "H": (16, 32)})
    monkeypatch.setattr(sweep, "POINTS", 2)
    monkeypatch.setattr(sweep, "BUDGET", 0.0)
    monkeypatch.setattr(sweep, "SLOW_TO_COMPILE", ("row_scaled",))
    names, points = ("deferred", "batched", "row_scaled"), list[Row]()  # the first is what auto takes
    for first in (True, False, False):
        points = merged(points, list(sweep.rows(job("random", *names), first)))
    TABLES["sweep"].put(tmp_path, with_intervals(points), CPU)
    rows = TABLES["sweep"].read(tmp_path)
    timed = [(row["n"], row["implementation"], row["pass"]) for _, row in rows.iterrows()]
    assert sorted(timed) == sorted([*product([0], names, PASSES), *product([1], names[:2], PASSES)])
    assert (rows["visits"] == 3).all()
    assert set(rows[rows["ratio"].notna()]["implementation"]) == set(names[1:])
    compared = rows[rows["ratio"].notna()]
    assert compared["ratio"].between(compared["ratio_low"], compared["ratio_high"]).all()


def test_every_sweep_plans_all_that_runs() -> None:
    options = study.parser().parse_args(["--device", "cpu"])
    ours, has_labml = (
        registry.resolve("auto", CPU, torch.float32).name,
        LABML.why_unavailable(CPU, torch.float32) is None,
    )
    for varied in sweep.VARIED:
        jobs = sweep.jobs(varied, options)
        planned = [(candidate, job.case.layer_norm) for job in jobs for candidate in job.candidates]
        assert {(ours, False)} <= set(planned)
        if varied == "threads":
            assert (set(planned), [job.case.B for job in jobs]) == ({(ours, False), (LSTM.name, False)}, [1, 4, 32])
            continue
        assert ((LABML.name, True) in planned) == has_labml
        assert ((LSTM.name, False) in planned) == (varied not in ("S", "Z", "random"))
        assert (("naive", False) in planned) == (varied != "random")
        assert (("compiled", False) in planned) <= (varied == "random")
        if varied != "length":
            assert {job.candidate for job in jobs} == {ours}
    with pytest.raises(SystemExit):
        study.parser().parse_args(["speed"])
