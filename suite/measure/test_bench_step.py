"""A process of the benchmark refuses what is wrong, predicts what is long, and keeps to the time that it is given."""

import gc
import random
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence as Packed

from suite import bench
from suite.measure import bench_step, choice, cost, processes, rounds, work
from suite.measure.bench_step import Bench
from suite.measure.examples import job
from suite.measure.jobs import Job
from suite.measure.stopwatch import Stopwatch
from suite.shared import usage
from suite.shared.candidates import LSTM, find
from suite.shared.cases import BASELINE, Case, lengths
from suite.shared.compare import Verdict
from suite.shared.examples import TINY
from suite.shared.pairing import FEWEST, LEAST
from suite.shared.process import Row, read_rows
from suite.shared.rows import PASSES, TABLES


class Clock:
    """A clock that only moves when it is told how long something took."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Timed(Stopwatch):
    """Times calls by such a clock, in a loop too if it is a GPU's."""

    def __init__(self, clock: Clock, loops: bool = False) -> None:
        self.read, self.loops = clock, loops

    def seconds(self, work: Callable[[], object]) -> float:
        """Call once and return how long it took."""
        start = self.read.now
        work()
        return self.read.now - start

    def in_a_loop(self, work: Callable[[], object], calls: int) -> float | None:
        """Call so often and return the mean."""
        return sum(self.seconds(work) for _ in range(calls)) / calls if self.loops else None


class Model(nn.Module):
    """A model of a name whose calls take so many seconds by pass at full length, and more at first."""

    def __init__(self, name: str, case: Case, seconds: dict[str, float], cold: float = 0.0) -> None:
        super().__init__()
        self.name, self.T, self.seconds, self.cold = name, case.T, seconds, cold
        self.calls: list[tuple[str, work.Input]] = []

    def take(self, name: str, x: work.Input) -> float:
        """Return the seconds of a call."""
        self.calls.append((name, x))
        steps = len(x) if isinstance(x, Tensor) else len(x.batch_sizes)
        cold, self.cold = self.cold, 0.0
        return cold + self.seconds[name] * steps / self.T


class Made:
    """A benchmark of models that take as long as they are told, on a machine with nothing else to do."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        seconds: Callable[[str, Case, str], float],
        noise: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self.clock, self.models, self.seconds, self.noise = Clock(), list[Model](), seconds, noise
        self.cold, self.loops = dict[str, float](), False
        for name in PASSES:
            monkeypatch.setitem(work.PASSES, name, self.calling(name))
        monkeypatch.setattr(bench_step, "LSTM", replace(LSTM, build=self.building(BASELINE)))
        monkeypatch.setattr(bench_step, "find", lambda name: replace(find(name), build=self.building(name)))
        monkeypatch.setattr(bench_step, "stopwatch", lambda device: Timed(self.clock, self.loops))
        monkeypatch.setattr(bench_step, "calls_per_step", lambda *_: 0.0)
        monkeypatch.setattr(bench_step, "Others", lambda: SimpleNamespace(taken=lambda device: 0.0))
        monkeypatch.setattr(work, "refusal", lambda *_: self.spend(0.3))
        monkeypatch.setattr(work, "peak", lambda step, model, x: step(model, x) or 1)
        monkeypatch.setattr(usage, "saved_bytes", lambda work, device: 1)

    def building(self, name: str) -> Callable[..., nn.Module]:
        """Return what builds a model of that name."""

        def build(case: Case, dtype: torch.dtype, device: torch.device) -> Model:
            taken = {each: self.seconds(name, case, each) for each in PASSES}
            self.models.append(Model(name, case, taken, self.cold.get(name, 0.0)))
            return self.models[-1]

        return build

    def calling(self, name: str) -> Any:
        """Return a pass, as `PASSES` has it."""
        return lambda model, x: self.take(model, name, x)

    def take(self, model: Model, name: str, x: work.Input) -> None:
        """Have a call take its time."""
        self.spend(model.take(name, x) * self.noise())

    def spend(self, seconds: float) -> None:
        """Have something take so long."""
        self.clock.now += seconds

    def run(self, jobs: list[Job], seconds: float) -> dict[tuple[Any, ...], Row]:
        """Measure jobs within so many seconds, and return the rows that remain."""
        made = Bench(jobs[0], self.clock.now + seconds, self.clock)
        every = [row for each in jobs for row in made.rows(each)] + list(made.more_rows())
        return {tuple(row[column] for column in TABLES["bench"].key): row for row in every}


def a_pass(seconds: float, baseline: float) -> Callable[[str, Case, str], float]:
    return lambda name, case, each: baseline if name == BASELINE else seconds


def test_a_wrong_candidate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(find("batched"), check=lambda *_: [Verdict("grad x", 2e-3, 1e-6)])
    monkeypatch.setattr(bench_step, "find", lambda name: wrong)
    rows = list(Bench(job(), 1e12).rows(job()))
    assert [row["status"] for row in rows] == ["refused: grad x is off by 2.0e-03, allowed 1.0e-06"] * 2


def test_what_is_built_at_first_is_no_part_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cold start of 10 s leaves the rounds and the interval that 5 ms a pass deserve."""
    made = Made(monkeypatch, a_pass(0.005, 0.0025))
    made.cold["batched"], made.loops = 10.0, True
    rows = list(made.run([job(answer=True)], 900).values())
    for row in rows:
        assert [row[name] for name in ("median_s", "q1_s", "q3_s", "loop_s")] == [pytest.approx(0.005)] * 4
        assert [row[name] for name in ("ratio", "ratio_low", "ratio_high", "loop_ratio")] == [pytest.approx(2)] * 4
        assert row["disturbed"] == 0
        assert row["rounds"] == rounds.fewest(job(answer=True), 0.025, 0.0225), "an interval of no width"
    assert rows[0]["first_s"] == pytest.approx(10, rel=0.01)
    assert rows[1]["first_s"] < 0.1


def test_a_slow_pass_that_takes_as_long_as_expected_is_not_repeated_before_its_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Made(monkeypatch, a_pass(2.0, 1.0))
    rows = made.run([job()], 900)
    assert {row["rounds"] for row in rows.values()} == {FEWEST}
    (model,) = (model for model in made.models if model.name == "batched")
    whole = [name for name, x in model.calls if len(x) == TINY.T]
    settled, memory = 1, 1
    assert whole.count("forward") == settled + FEWEST + memory


def test_what_xla_compiles_for_each_length_is_compiled_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    made = Made(monkeypatch, a_pass(0.1, 0.1))
    rows = made.run([job("jax")], 900)
    (model,) = (model for model in made.models if model.name == "jax")
    assert {len(x) for _, x in model.calls} == {TINY.T}
    for row in rows.values():
        assert (row["status"], row["calls_per_step"]) == ("ok", None)
        assert row["library"].startswith("jax ")


@pytest.mark.parametrize(("left", "ends"), [(160, True), (130, False)])
def test_a_time_out_is_predicted_from_a_later_call_on_one_step(
    left: float, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(monkeypatch, a_pass(20.0, 0.01))
    made.cold["batched"] = 18.0
    forward, train = [row["status"] for row in made.run([job(case=replace(TINY, T=20))], left).values()]
    assert (forward == "ok") == ends
    assert train.startswith("time-out: predicted, 6 passes of 20.0 s each, ")


def test_each_round_of_packed_rows_draws_other_lengths_and_all_of_a_turn_have_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = replace(TINY, T=16, B=8, lengths=lengths(16, 8))

    def drawn() -> tuple[list[list[int]], list[list[int]], dict[str, Any]]:
        made = Made(monkeypatch, a_pass(0.3, 0.2))
        (row,) = (row for row in made.run([job(case=case)], 900).values() if row["pass"] == "train")
        sides = []
        for name, beside in ((BASELINE, 0), ("batched", 1)):  # calls after the rounds: one, which measures memory
            (model,) = (model for model in made.models if model.name == name)
            sizes = [x.batch_sizes.tolist() for each, x in model.calls if each == "train" and isinstance(x, Packed)]
            sides.append(sizes[len(sizes) - beside - FEWEST : len(sizes) - beside])
        return sides[0], sides[1], row

    baseline, candidate, row = drawn()
    assert len(baseline) == len(candidate) == row["rounds"] == FEWEST
    assert baseline == candidate
    assert len({str(sizes) for sizes in baseline}) == FEWEST
    tokens = sorted(map(sum, baseline))
    assert row["multiply_adds"] == 3 * find("batched").multiply_adds(case) / case.tokens * tokens[FEWEST // 2]
    assert drawn()[:2] == (baseline, candidate)


def test_without_layer_norm_and_with_it_take_turns_with_one_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    made = Made(monkeypatch, a_pass(0.3, 0.2))

    def take(model: Model, name: str, x: work.Input) -> None:
        order.append(model.name)
        made.spend(model.take(name, x))

    monkeypatch.setattr(made, "take", take)
    made.run([job(layer_norms=(False, True))], 900)
    turn = [BASELINE, "batched", "batched"]
    assert any(order[k : k + 3 * FEWEST] == turn * FEWEST for k in range(len(order)))


def test_one_memory_failure_takes_nothing_else_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch, a_pass(0.3, 0.2))

    def take(model: Model, name: str, x: work.Input) -> None:
        if name == "train" and model.name == "batched":
            raise torch.OutOfMemoryError
        made.spend(model.take(name, x))

    monkeypatch.setattr(made, "take", take)
    rows = made.run([job("batched"), job("deferred")], 900)
    found = {(row["implementation"], row["pass"]): row["status"] for row in rows.values()}
    assert found.pop(("batched", "train")) == "out of memory"
    assert set(found.values()) == {"ok"}


def test_a_failure_that_nobody_expects_ends_the_process_and_its_missing_rows_say_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Bench, one: Job) -> Iterator[Row]:
        yield one.columns(TINY, "forward") | {"status": "ok"}
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    told, rows = tmp_path / "told", tmp_path / "rows"
    processes.tell(told, [job(), job("deferred")], [1e12, 1e12])
    monkeypatch.setattr(Bench, "rows", fail)
    monkeypatch.setattr(Job, "take_on", lambda self: None)
    monkeypatch.setattr(gc, "disable", lambda: None)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        bench_step.main(told, rows)
    assert [(row["implementation"], row["pass"], row["status"]) for row in read_rows(rows)] == [
        ("batched", "forward", "ok"),
        ("batched", "train", "failed: RuntimeError: CUDA error: an illegal memory access was encountered"),
    ]


def default_jobs() -> list[Job]:
    """Jobs of a default run without a GPU, except those that are compiled in a process of their own."""
    options: Namespace = bench.parser().parse_args(["--device", "cpu"])
    choice.choose(options)
    return [one for one in choice.jobs(options) if one.candidate not in ("compiled", "batched_cuda")]


def test_a_process_is_told_its_jobs_in_json(tmp_path: Path) -> None:
    case = replace(TINY, lengths=lengths(TINY.T, TINY.B))
    jobs = [job(), job("deferred", case=case, layer_norms=(False, True))]
    processes.tell(tmp_path / "told.json", jobs, [12.5, 25.0])
    assert processes.told(tmp_path / "told.json") == (jobs, [12.5, 25.0])


@pytest.mark.parametrize("speed", [0.25, 1.0, 3.0])
def test_a_whole_run_keeps_to_its_time_whatever_the_machine(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is among the rows that have figures, and the time left goes to those with the widest intervals."""
    noise, jobs = random.Random(0), default_jobs()

    def seconds(name: str, case: Case, each: str) -> float:
        return cost.call_s(name, case, each, jobs[0], {}) / speed

    made = Made(monkeypatch, seconds, lambda: noise.uniform(0.95, 1.1))
    rows = made.run(jobs, 300)
    assert made.clock.now <= 330
    assert {row["status"].split(":")[0] for row in rows.values()} <= {"ok", "time-out"}
    if speed >= 1:
        answers = {(one.candidate, one.case.name, one.case.T) for one in jobs if one.answer}
        of_them = [row for row in rows.values() if (row["implementation"], row["workload"], row["T"]) in answers]
        assert {row["status"] for row in of_them} == {"ok"}
        for row in of_them:
            assert row["rounds"] >= (FEWEST if row["median_s"] + row["baseline_s"] > rounds.LONG / 2 else LEAST)
    if speed == 3:
        assert {row["status"] for row in rows.values()} == {"ok"}
        assert made.clock.now > 290, "time that is left is used"
        assert sum(row["rounds"] > FEWEST for row in rows.values()) > len(rows) / 2


def test_time_goes_where_it_narrows_intervals_most() -> None:
    clock, noise = Clock(), random.Random(0)

    def turns(spread: float, seconds: float) -> rounds.Turns:
        def call(x: work.Input, spread: float) -> None:
            clock.now += seconds * noise.uniform(1 - spread, 1 + spread)

        mine, theirs = (rounds.Repeats(Timed(clock), partial(call, spread=one), seconds) for one in (spread, 0.001))
        made = rounds.Turns(theirs, {TINY: mine}, lambda draw: rounds.Batch(TINY, torch.zeros(1)))
        for _ in range(6):
            made.turn()
        return made

    every = [turns(0.2, 1.0), turns(0.05, 1.0), turns(0.2, 10.0), turns(0.001, 1.0)]
    until = clock.now + 40

    def had() -> list[int]:
        return [len(one.baseline_s) for one in every]

    rounds.spend(every, lambda: until - clock.now)
    wide, narrow, dear, certain = had()
    assert wide > 10 > max(narrow, dear)
    assert certain == 6
    assert 0 <= until - clock.now <= 2
    rounds.spend(every, lambda: 1e9)
    assert had() == [rounds.MOST] * 3 + [6]


def test_a_call_before_a_round_is_on_the_batch_of_the_round_before() -> None:
    first, second, seen = torch.zeros(1), torch.ones(1), list[Tensor]()
    side = rounds.Repeats(Stopwatch(), seen.append, once=rounds.BURST)
    side.round(first, before=[first])
    side.round(second, before=[first])
    assert [x.item() for x in seen] == [0, 0, 0, 1]
