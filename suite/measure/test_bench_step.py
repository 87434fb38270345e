"""A process of the benchmark refuses what is wrong, predicts what is long, and times what has settled."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch import nn

from suite.measure import bench_step as bench_step
from suite.measure import rounds, work
from suite.measure.examples import job
from suite.measure.stopwatch import DeviceEvents, Stopwatch
from suite.shared import pairing
from suite.shared.candidates import find
from suite.shared.cases import Case, lengths
from suite.shared.compare import Verdict
from suite.shared.examples import TINY
from suite.shared.process import read_rows


def test_a_wrong_subject_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(find("batched"), check=lambda *_: [Verdict("grad x", 2e-3, 1e-6)])
    monkeypatch.setattr(bench_step, "find", lambda name: wrong)
    with pytest.raises(bench_step.RefusedError, match=r"grad x is off by 2\.0e-03, allowed 1\.0e-06"):
        bench_step.checked_model(job(tmp_path), TINY)
    assert [row["status"][:23] for row in read_rows(job(tmp_path).path)] == ["refused: grad x is off "] * 2


class Scripted(Stopwatch):
    """A stopwatch that takes a candidate's calls for as long as a script says, and its baseline's for half a step."""

    least = DeviceEvents.least

    def __init__(self, step: float, cold: float = 0.0, capture: int = 0, captured: float = 0.0) -> None:
        """Take seconds of one step, of the first call on top, and of the call at full length that is a capture."""
        self.step, self.cold, self.capture, self.captured, self.whole = step, cold, capture, captured, 0

    def seconds(self, call: Callable[[], Any]) -> float:
        """Return the seconds of a call that says whether it is the candidate's, and its steps."""
        candidate, steps = cast(tuple[bool, int], call())
        if not candidate:
            return self.step * steps / 2
        self.whole += steps == STEPS
        extra, self.cold = self.cold, 0.0
        extra += self.captured * (steps == STEPS and self.whole == self.capture)
        return self.step * steps + extra

    def in_a_loop(self, call: Callable[[], Any], calls: int) -> float:
        """Return the seconds of a call."""
        return self.seconds(call)


class InALoop(Stopwatch):
    """A stopwatch of a GPU that is not here."""

    def in_a_loop(self, call: Callable[[], object], calls: int) -> float:
        """Make the calls."""
        for _ in range(calls):
            call()
        return 1.0


class Pedantic:
    """Does rounds as pytest-benchmark does, but takes the target at its word for how long it took."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=[]))

    def pedantic(
        self, target: Callable[[], float], setup: Callable[[], None], teardown: Callable[[], None], rounds: int
    ) -> None:
        """Do the rounds."""
        for _ in range(rounds):
            setup()
            self.stats.stats.data.append(target())
            teardown()


#: Of the scripted case.
STEPS = 20


def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, **script: Any) -> bench_step.Bench:
    """Return what is timed, by a scripted stopwatch."""
    case = replace(TINY, T=STEPS)
    found = bench_step.Bench(job(tmp_path, case=case, time_limit=limit), case)
    found.watch, found.since = Scripted(**script), time.monotonic()
    monkeypatch.setitem(work.PASSES, "train", lambda model, x: (model is found.model, len(x)))
    return found


@pytest.mark.parametrize("capture", [2, 3])
def test_what_is_built_and_captured_first_is_no_part_of_the_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capture: int
) -> None:
    """A cold start of 10 s and a capture of 2 s leave the rounds and the interval that 5 ms a pass deserve."""
    script = {"step": 0.005 / STEPS, "cold": 10.0, "capture": capture, "captured": 2.0}
    made = scripted(tmp_path, monkeypatch, 900, **script)
    figures = bench_step.timed(made, "train", Pedantic())
    assert [figures[name] for name in ("median_s", "q1_s", "q3_s", "loop_s")] == [pytest.approx(0.005)] * 4
    assert [figures[name] for name in ("ratio", "ratio_low", "ratio_high", "loop_ratio")] == [pytest.approx(2)] * 4
    assert (figures["rounds"], figures["disturbed"]) == (rounds.rounds(0.025, 0.0225, bench_step.BUDGET["cpu"]), 0)
    assert figures["first_s"] == pytest.approx(10, rel=0.01)


def test_a_slow_pass_that_takes_as_long_as_expected_is_not_repeated_before_its_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scripted(tmp_path, monkeypatch, 900, step=0.1)
    assert bench_step.timed(made, "train", Pedantic())["rounds"] == pairing.FEWEST
    in_the_loop = 1
    assert made.watch.whole == 1 + pairing.FEWEST + in_the_loop  # type: ignore[attr-defined]


@pytest.mark.parametrize(("limit", "ends"), [(160, True), (110, False)])
def test_a_time_out_is_predicted_from_later_calls_on_two_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, ends: bool
) -> None:
    made = scripted(tmp_path, monkeypatch, limit, step=1.0)  # 6 passes of 20 s
    first = made.watch.seconds(lambda: (True, 1)) + 100
    if ends:
        assert bench_step.expected(made, first, work.PASSES["train"]) == pytest.approx(20)
    else:
        with pytest.raises(
            bench_step.TooLongError, match=r"time-out: predicted, 6 passes of 20\.0 s each, 110 of 110 s left"
        ):
            bench_step.expected(made, first, work.PASSES["train"])


def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case) -> tuple[list[tuple[bool, Any]], dict[str, Any]]:
    """Return the calls of a timed pass, of the candidate or not and their batches, and the figures."""
    found = bench_step.Bench(job(tmp_path, case=case), case)
    found.watch = Scripted(step=0.1)
    calls: list[tuple[bool, Any]] = []

    def step(model: nn.Module, x: work.Input) -> tuple[bool, int]:
        calls.append((model is found.model, x))
        return model is found.model, case.T

    monkeypatch.setitem(work.PASSES, "train", step)
    return calls, bench_step.timed(found, "train", Pedantic())


def test_each_round_of_packed_rows_draws_other_lengths_and_both_sides_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = replace(TINY, T=16, B=8, lengths=lengths(16, 8))
    calls, figures = drawn(tmp_path, monkeypatch, case)
    rounds, in_the_loop = figures["rounds"], 2
    of_rounds = calls[-2 * rounds - in_the_loop : -in_the_loop]
    assert [candidate for candidate, _ in of_rounds] == [False, True] * rounds
    sizes = [x.batch_sizes.tolist() for _, x in of_rounds]
    assert sizes[::2] == sizes[1::2]
    assert len({str(each) for each in sizes}) == rounds
    assert {len(each) for each in sizes} == {case.T}
    tokens = sorted(sum(each) for each in sizes[::2])
    assert figures["multiply_adds"] == 3 * find("batched").multiply_adds(case) / case.tokens * tokens[rounds // 2]
    again, _ = drawn(tmp_path, monkeypatch, case)
    assert [x.batch_sizes.tolist() for _, x in again] == [x.batch_sizes.tolist() for _, x in calls]


def test_a_call_before_a_round_is_on_the_batch_of_the_round_before() -> None:
    seen: list[int] = []
    batches: list[Any] = [(TINY, 0)]
    side = bench_step.Repeats(Stopwatch(), seen.append, batches, once=bench_step.BURST)  # type: ignore[arg-type]
    for draw in (1, 2):
        batches.append((TINY, draw))
        side.warm()
        side.round()
    assert seen == [0, 1, 1, 2]


def test_calls_in_a_loop_are_on_the_batches_of_all_rounds_in_turn() -> None:
    seen: list[int] = []
    side = bench_step.Repeats(InALoop(), seen.append, [(TINY, draw) for draw in range(3)], 1.0)  # type: ignore[arg-type, misc]
    side.in_a_loop()
    assert seen == [1, 2, 1]


def test_rows_of_one_length_have_one_batch_in_all_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, _ = drawn(tmp_path, monkeypatch, TINY)
    assert len({id(x) for _, x in calls if len(x) == TINY.T}) == 1
