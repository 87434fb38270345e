"""Other processes are seen by the cores that they keep from what is measured; our own, and free cores, are not."""

from pathlib import Path

import pytest
import torch

from suite.measure import load
from suite.shared.examples import CPU


def moments(monkeypatch: pytest.MonkeyPatch, *times: tuple[float, float, float]) -> None:
    told = iter(times)
    monkeypatch.setattr(load, "_times", lambda: next(told))


@pytest.mark.parametrize(
    ("cores", "threads", "busy", "own", "taken"),
    [
        (2, 2, 20.0, 18.0, 0.2),  # 10 s: ours had 1.8 cores of 2, others 0.2
        (2, 2, 20.0, 5.0, 1.5),
        (8, 2, 60.0, 20.0, 0.0),  # four of others, on cores that we leave free
        (8, 4, 80.0, 20.0, 2.0),
        (2, 2, 17.9, 18.0, 0.0),  # clocks are coarse
    ],
)
def test_taken_cores_are_those_of_others(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, busy: float, own: float, taken: float
) -> None:
    moments(monkeypatch, (100.0, 0.0, 0.0), (110.0, busy, own))
    monkeypatch.setattr(load.os, "cpu_count", lambda: cores)  # type: ignore[attr-defined]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(load, "_STAT", Path("/"))
    assert load.Others().taken(CPU) == pytest.approx(taken)


def test_a_gpu_needs_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    moments(monkeypatch, (0.0, 0.0, 0.0), (10.0, 70.0, 0.0))
    monkeypatch.setattr(load.os, "cpu_count", lambda: 8)  # type: ignore[attr-defined]
    monkeypatch.setattr(load, "_STAT", Path("/"))
    assert load.Others().taken(torch.device("cuda", 0)) == 0


def test_where_no_processor_is_counted_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_STAT", Path("/no such file"))
    assert load.Others().taken(CPU) is None


@pytest.mark.skipif(not load._STAT.exists(), reason="no /proc/stat")
def test_processors_work_and_this_process_with_them() -> None:
    before = load._times()
    while (now := load._times())[2] - before[2] < 0.05:
        sum(range(10_000))
    assert now[0] > before[0]
    assert now[1] > before[1]


@pytest.mark.parametrize(("taken", "warns"), [(1.9, True), (0.2, False), (None, False)])
def test_a_busy_machine_is_reported(
    taken: float | None, warns: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "LOOK", 0.0)
    monkeypatch.setattr(load.Others, "taken", lambda *_: taken)
    load.warn(CPU)
    assert capsys.readouterr().out.startswith("Other processes use 1.9 of the cores that this needs") == warns
