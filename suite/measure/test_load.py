"""Other processes are reported if they use cores that a measurement needs, or the GPU; free cores are not needed."""

from typing import Any

import psutil
import pytest
import torch

from suite.measure import load

CORES, GPU, UNKNOWN = "Other processes use {} of the cores", "Other work keeps the GPU busy 40 %", "Whether other work"


@pytest.mark.parametrize(
    ("device", "cores", "threads", "percent", "gpu", "lines"),
    [
        ("cpu", 2, 2, 13.0, 40, [CORES.format("0.3")]),
        ("cpu", 2, 2, 12.0, 40, []),
        ("cpu", 8, 2, 70.0, 40, []),  # of others, on cores that we leave free
        ("cpu", 8, 4, 75.0, 40, [CORES.format("2.0")]),
        ("cuda:0", 8, 8, 80.0, 40, [GPU]),  # which needs one core
        ("cuda:0", 8, 8, 100.0, 0, [CORES.format("1.0")]),
        ("cuda:0", 8, 8, 0.0, None, [UNKNOWN]),  # NVML fails
    ],
)
def test_a_busy_machine_is_reported(
    device: str,
    cores: int,
    threads: int,
    percent: float,
    gpu: int | None,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda seconds: percent)
    monkeypatch.setattr(load.os, "cpu_count", lambda: cores)  # type: ignore[attr-defined]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 1 / 0 if gpu is None else gpu)
    load.warn(torch.device(device))
    printed = capsys.readouterr().out.splitlines()
    assert [line[: len(start)] for line, start in zip(printed, lines, strict=True)] == lines
