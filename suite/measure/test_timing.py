"""Rounds are as many as they should be, and what is measured beside them is what it says."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from suite.measure import timing
from suite.measure.timing import DeviceEvents, Repeats, Stopwatch, Turns, Work
from suite.shared.candidates import LSTM
from suite.shared.examples import TINY


class FakeStopwatch(Stopwatch):
    """Believes the seconds that a call returns."""

    def seconds(self, work: Work, calls: int = 1) -> float:
        seconds = work()
        return seconds if isinstance(seconds, float) else 1.0


@pytest.mark.parametrize(
    ("seconds", "sides", "rounds"),
    [(0.001, 2, 7), (0.045, 1, 3), (0.07, 2, 2), (0.08, 2, 1), (0.4, 1, 1)],
)
def test_a_visit_has_two_turns_unless_slow(seconds: float, sides: int, rounds: int) -> None:
    side = Repeats(FakeStopwatch(), lambda x: seconds, torch.zeros(1))
    turns = Turns(dict.fromkeys(range(sides), side), lambda _: torch.zeros(1))
    turns.take(0.3)
    assert len(turns.rounds[0].data) == rounds


def test_calls_settle() -> None:
    calls = iter([3.0, 0.02, 0.05, 0.04, 0.04])
    assert timing.warm_up(FakeStopwatch(), lambda: next(calls)) == [3.0, 0.02, 0.05, 0.04]
    assert timing.warm_up(FakeStopwatch(), lambda: 3.0) == [3.0, 3.0]
    growing = (float(3**n) for n in range(99))
    assert len(timing.warm_up(FakeStopwatch(), lambda: next(growing))) == timing.MOST


class FakeEvent:
    """An event of a device whose clock is the length of the log."""

    log: list[str] = []  # noqa: RUF012

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: str) -> None:
        """Take the time."""
        self.at = len(FakeEvent.log)
        FakeEvent.log.append(f"record on {stream}")

    def elapsed_time(self, end: "FakeEvent") -> float:
        """Return milliseconds, a second for each entry of the log."""
        return 1e3 * (end.at - self.at)


def test_a_gpu_is_timed_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeEvent.log = log = []
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    record = "record on stream of cuda:1"
    watch = DeviceEvents(torch.device("cuda", 1))
    assert watch.seconds(lambda: log.append("work"), 4) == 5 / 4
    assert log == ["synchronize", record, *["work"] * 4, record, "synchronize"]


@pytest.mark.parametrize(("device", "dtype", "flattened"), [
    ("cuda:1", torch.bfloat16, True), ("cuda:1", torch.float32, False), ("cpu", torch.bfloat16, False),
])  # fmt: skip
def test_the_baseline_in_bfloat16_has_its_weights_in_one_buffer(
    device: str, dtype: torch.dtype, flattened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, lstm = list[Any](), torch.nn.LSTM
    monkeypatch.setattr(torch.nn, "LSTM", lambda *sizes, dtype, device: lstm(*sizes, dtype=dtype))  # no GPU is here
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", lambda *arguments: calls.append(arguments))
    built = LSTM.build(replace(TINY, L=2), dtype, torch.device(device))
    weights = [([*map(id, built.parameters())], 4, TINY.I, 2, TINY.H, 0, 2, False, False)]
    assert [([*map(id, w)], *sizes) for w, *sizes in calls] == (weights if flattened else [])
