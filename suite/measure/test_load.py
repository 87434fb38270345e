"""Other processes are seen by the cores that they keep from what is measured; our own, and free cores, are not."""

from typing import Any

import pytest
import torch

from suite.measure import load


@pytest.mark.parametrize(
    ("device", "cores", "threads", "busy", "own", "expected"),
    [
        ("cpu", 2, 2, 20.0, 18.0, 0.2),  # 10 s: ours had 1.8 cores of 2, others 0.2
        ("cpu", 2, 2, 20.0, 5.0, 1.5),
        ("cpu", 8, 2, 60.0, 20.0, 0.0),  # four of others, on cores that we leave free
        ("cpu", 8, 4, 80.0, 20.0, 2.0),
        ("cpu", 2, 2, 17.9, 18.0, 0.0),  # clocks are coarse
        ("cuda", 8, 8, 70.0, 0.0, 0.0),  # a GPU needs one core
    ],
)
def test_taken_cores_are_those_of_others(
    device: str, cores: int, threads: int, busy: float, own: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([(100.0, 0.0, 0.0), (110.0, busy, own)])
    monkeypatch.setattr(load, "_times", lambda: next(times))
    monkeypatch.setattr(load.os, "cpu_count", lambda: cores)  # type: ignore[attr-defined]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert load.Others().cores(torch.device(device)) == pytest.approx(expected)


def test_processors_work_and_this_process_with_them() -> None:
    before = load._times()
    while (now := load._times())[2] - before[2] < 0.05:
        sum(range(10_000))
    assert now[0] > before[0]
    assert now[1] > before[1]


@pytest.mark.parametrize(
    ("device", "cores", "gpu", "lines"),
    [
        ("cpu", 0.26, 40, ["Other processes use 0.3 of the cores", "Rows made now are marked"]),
        ("cpu", 0.25, 40, []),
        ("cuda:0", 0.0, 40, ["Other work keeps the GPU busy 40 % of the time"]),
        ("cuda:0", 0.0, 0, []),
        ("cuda:0", 0.0, None, ["Whether other work keeps the GPU busy is unknown"]),  # NVML fails
    ],
)
def test_a_busy_machine_is_reported(
    device: str, cores: float, gpu: Any, lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(load, "LOOK", 0.0)
    monkeypatch.setattr(load.Others, "cores", lambda *_: cores)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 1 / 0 if gpu is None else gpu)
    load.warn(torch.device(device))
    printed = capsys.readouterr().out.splitlines()
    assert [line[: len(start)] for line, start in zip(printed, lines, strict=True)] == lines
