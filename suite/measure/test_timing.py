"""Rounds are as many as they should be, and what is measured beside them is what it says."""

from collections.abc import Callable
from itertools import repeat
from typing import Any

import pytest
import torch

from suite.candidates.names import BASELINE
from suite.cases.examples import CPU
from suite.measure import timing
from suite.measure.fakes import told
from suite.measure.timing import Rounds, seconds_of, take_turns, warm_up


@pytest.fixture
def sides_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Rounds]]:
    """Sides that take some seconds a call, by name; the call that is drawn is its turn and number."""

    def sides(baseline: float, **others: float) -> dict[str, Rounds]:
        step: Any = None
        result = {}
        for name, once in {BASELINE: baseline, **others}.items():
            monkeypatch.setattr(timing, "warm_up", lambda *_, once=once: [once])
            result[name] = Rounds(step, lambda _: (torch.zeros(1), None), CPU)
        return result

    def round_of(side: Rounds, turn: int, sampled_index: int) -> tuple[float, tuple[int, int] | None]:
        once = side.round_s / (side.calls + side.warms)
        return once, (turn, sampled_index) if sampled_index >= 0 else None

    monkeypatch.setattr(timing, "sleep", lambda seconds: None)
    monkeypatch.setattr(Rounds, "round", round_of)
    return sides


@pytest.mark.parametrize(
    ("baseline", "ours", "count"),
    [(0.001, 0.001, 7), (0.001, 0.0029, 6), (0.001, 0.0031, 5), (0.02, 0.02, 3), (0.07, 0.07, 2), (0.08, 0.08, 1)],
)
def test_a_visit_has_as_many_turns_as_its_seconds_allow_unless_all_is_slow(
    baseline: float, ours: float, count: int, sides_of: Callable[..., dict[str, Rounds]]
) -> None:
    sides = sides_of(baseline=baseline, ours=ours)
    timed_s = take_turns(sides, 0.3)
    drawn: list[Any] = [side.sampled_call for side in sides.values()]
    assert [len(side.times.data) for side in sides.values()] == [count, count]
    assert all(turn >= min(2, count) for turn, _ in drawn)
    assert timed_s == pytest.approx(count * sum(side.round_s for side in sides.values()))


def test_one_side_that_is_not_slow_is_enough(sides_of: Callable[..., dict[str, Rounds]]) -> None:
    assert take_turns(sides_of(baseline=0.001, ours=0.001, norm=0.0031), 1.0) > 0.9


def test_any_call_of_a_later_turn_may_be_drawn(sides_of: Callable[..., dict[str, Rounds]]) -> None:
    drawn = list[Any]()
    for _ in range(200):
        sides = sides_of(baseline=0.007, ours=0.007)
        take_turns(sides, 0.2)
        drawn.append(sides["ours"].sampled_call)
    assert {*drawn} == {(turn, call) for turn in (2, 3) for call in (0, 1, 2)}
    assert 60 < sum(turn == 2 for turn, _ in drawn) < 140


def test_calls_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "seconds_of", told)
    calls = iter([3.0, 0.02, 0.05, 0.04, 0.04])
    inputs = repeat((torch.zeros(1), None))
    assert warm_up(lambda *_: next(calls), inputs, CPU) == [3.0, 0.02, 0.05, 0.04]
    assert warm_up(lambda *_: 3.0, inputs, CPU) == [3.0, 3.0]
    growing = (float(3**n) for n in range(99))
    assert len(warm_up(lambda *_: next(growing), inputs, CPU)) == timing.MOST


def test_a_gpu_is_timed_until_all_its_streams_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    log = list[str]()

    def now() -> float:
        log.append("clock")
        return float(len(log))

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append(f"all of {device}"))
    monkeypatch.setattr(timing, "perf_counter", now)
    assert seconds_of(lambda: log.append("work"), torch.device("cuda", 1)) == 3.0
    assert log == ["all of cuda:1", "clock", "work", "all of cuda:1", "clock"]
