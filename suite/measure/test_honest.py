"""What is timed is what rows say: models that record their calls, and a clock that they move, show each slip."""

import random
from dataclasses import replace
from itertools import cycle, groupby, pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from pytest_benchmark.stats import Stats
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from suite.candidates.catalogue import find
from suite.candidates.names import BASELINE
from suite.cases.case import Case, lengths
from suite.cases.examples import CPU, TINY
from suite.cases.workloads import Pass
from suite.measure import timing, visit, work
from suite.measure.fakes import job
from suite.measure.job import RefusedError
from suite.measure.step import Step, Tensors
from suite.results.columns import Row

PACKED = replace(TINY, T=16, B=8, lengths=lengths(16, 8))
#: Seconds of a call of each model, and of its first call.
SECONDS, FIRST = {"ours": 0.03, "norm": 0.06, BASELINE: 0.01}, 0.09


def calls_of(recorded: SimpleNamespace, name: str, step: str) -> list[SimpleNamespace]:
    return [call for call in recorded.calls if (call.name, call.step) == (name, step)]


def model_of(name: str, recorded: SimpleNamespace) -> Any:
    """A model that records its calls, which move the clock."""
    model: Any = nn.Module()
    model.weight = nn.Parameter(torch.randn(3, dtype=torch.float64))

    def forward(x: Any, state: Any = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        step = "train" if torch.is_grad_enabled() else "forward"
        recorded.clock += SECONDS[name] if calls_of(recorded, name, step) else FIRST
        about = {"name": name, "step": step, "training": model.training, "clean": model.weight.grad is None}
        numbers, weight = x.data.clone(), model.weight.detach().clone()
        recorded.calls.append(SimpleNamespace(**about, x=x, state=state, numbers=numbers, weight=weight))
        return (x.data.sum() * model.weight)[None], ()

    model.forward = forward
    return model


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let visits build models that record, and time them by the clock that these move."""
    recorded = SimpleNamespace(clock=0.0, calls=[])
    monkeypatch.setattr(timing, "perf_counter", lambda: recorded.clock)  # wall time alone
    monkeypatch.setattr(timing, "sleep", lambda seconds: None)
    monkeypatch.setattr("gc.collect", lambda: None)
    monkeypatch.setattr(work, "wrong", lambda *_: "checked again")

    def recording(name: str) -> Any:
        def build(case: Case, *_: Any) -> Any:
            ours = "norm" if case.layer_norm else "ours"
            return model_of(BASELINE if name == BASELINE else ours, recorded)

        return replace(find(name), build=build)

    monkeypatch.setattr(visit, "LSTM", recording(BASELINE))
    monkeypatch.setattr(visit, "find", recording)
    return recorded


def rows_of(case: Case = PACKED) -> list[Row]:
    return [*visit.rows(job("deferred", case=case, layer_norms=(False, True)), False)]


def test_a_visit_times_steady_calls_by_the_wall(recorded: SimpleNamespace) -> None:
    rows = rows_of()
    assert [row["median_s"] for row in rows] == pytest.approx([0.03, 0.06] * 2)
    assert [row["baseline_s"] for row in rows] == pytest.approx([0.01] * 4)
    assert [row["ratio"] for row in rows] == pytest.approx([3, 6] * 2)


def test_forward_has_no_graph_and_training_new_gradients(recorded: SimpleNamespace) -> None:
    """Forward is in evaluation mode, in which cuDNN keeps nothing for a backward pass."""
    rows_of()
    assert {(call.step, call.training) for call in recorded.calls} == {("forward", False), ("train", True)}
    assert all(call.clean for call in recorded.calls)
    model = model_of("ours", recorded)
    assert Step(model, Pass.TRAIN)(torch.ones(2, 3, 4))[1].equal(model.weight.grad)


@pytest.mark.parametrize("case", [TINY, PACKED], ids=["batch", "packed"])
def test_no_call_of_a_model_has_numbers_of_another(case: Case, recorded: SimpleNamespace) -> None:
    rows_of(case)
    for name in SECONDS:
        calls = [call for call in recorded.calls if call.name == name]
        assert len({float(call.numbers.sum()) for call in calls}) == len(calls) >= 10


def test_each_call_of_a_side_has_a_state_of_its_own(recorded: SimpleNamespace) -> None:
    """One that starts both layers, which `torch.nn.LSTM` gets for each; without training, forward alone is timed."""
    rows = rows_of(replace(TINY, L=2, state="shared", training=False))
    assert [row["pass"] for row in rows] == ["forward"] * 2
    assert {call.step for call in recorded.calls} == {"forward"}
    B, H, S = TINY.B, TINY.H, TINY.S
    for name in SECONDS:
        states = [call.state for call in calls_of(recorded, name, "forward")]
        shapes = {tuple(part.shape) for state in states for part in state}
        assert shapes == ({(2, B, H)} if name == BASELINE else {(B, H), (B, S)})
        assert {len(state) for state in states} == ({2} if name == BASELINE else {4})
        assert len({float(state[0].sum()) for state in states}) == len(states) >= 5


def test_parameters_change_between_calls_of_training_alone(recorded: SimpleNamespace) -> None:
    rows_of()
    for name in SECONDS:
        forward, train = ([call.weight for call in calls_of(recorded, name, step)] for step in ("forward", "train"))
        assert all(weight.equal(forward[0]) for weight in forward)
        assert all((a != b).all() for a, b in pairwise(train))


def test_parameters_stay_near_where_they_started(recorded: SimpleNamespace) -> None:
    step = Step(model := model_of("ours", recorded), Pass.TRAIN)
    (start,), (direction,) = step.parameters.values(), step.directions
    for _ in range(200):
        step(torch.ones(2, 3, 4))
        assert ((model.weight - start).abs() <= 1.001 * direction.abs()).all()


def test_both_sides_of_a_turn_have_lengths_of_their_own_turn(recorded: SimpleNamespace) -> None:
    rows_of()
    for step in ("forward", "train"):
        lengths_of = [
            list(dict.fromkeys(tuple(call.x.batch_sizes.tolist()) for call in calls_of(recorded, name, step)))
            for name in SECONDS
        ]
        assert lengths_of[0] == lengths_of[1] == lengths_of[2]
        assert len(lengths_of[0]) == timing.LEAST + 1  # and those of the warm-up


def test_lengths_that_a_person_names_stay(recorded: SimpleNamespace) -> None:
    one = job("deferred", case=PACKED)
    list(visit.rows(replace(one, workload=replace(one.workload, of_size=True)), False))
    drawn = {tuple(call.x.batch_sizes.tolist()) for call in recorded.calls}
    assert drawn == {PACKED.batch_sizes}


def test_each_turn_draws_its_order(recorded: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    coins = cycle([0.49, 0.5, 0.9])
    drawn = {"randint": max, "randrange": lambda n: 0, "uniform": lambda *_: 0.5, "getrandbits": random.getrandbits}
    monkeypatch.setattr(timing, "CHANCE", SimpleNamespace(random=lambda: next(coins), **drawn))
    monkeypatch.setattr(visit, "TURNS_S", 1.3)
    rows_of()
    names = [BASELINE, "ours", "norm"]
    order = [*names, *names, *names[::-1], *names[::-1], *names]  # after the warm-up
    called = [name for name, _ in groupby(call.name for call in recorded.calls)]
    assert called[:13] == [name for name, _ in groupby(order)]


def step_of(recorded: SimpleNamespace, seconds: float) -> MagicMock:
    """A step that moves the clock, more for an input of the turn before."""

    def call(x: Tensor, state: None) -> Tensors:
        recorded.clock += seconds if x.any() else 5.0
        results = (x.clone(),)
        x.zero_()  # the call that is drawn has a copy
        return results

    return MagicMock(side_effect=call, parameters_at=lambda call: {"call": torch.tensor(call)})


@pytest.mark.parametrize(("seconds", "calls", "warms"), [(0.0125, 2, 1), (0.0999, 1, 1), (0.1001, 1, 0)])
def test_only_rounds_count(seconds: float, calls: int, warms: int, recorded: SimpleNamespace) -> None:
    """Before them is an untimed call, on an input of the turn before, unless a call is long."""
    step, made = step_of(recorded, seconds), list[int]()

    def new(turn: int) -> tuple[Tensor, None]:
        made.append(turn)
        recorded.clock += 3.0  # outside the clock
        return torch.zeros(1) if turn == 1 else torch.full((1,), float(len(made))), None

    side = timing.Rounds(step, new, CPU)
    recorded.clock, made = 0.0, []
    mean, call = side.round(2, sampled_index=calls - 1)
    assert mean == pytest.approx(seconds)
    assert recorded.clock == pytest.approx(calls * seconds + warms * 5.0 + 3.0 * len(made))
    assert made == [2] * calls + [1] * warms
    assert call is not None
    assert call.x.data.equal(torch.full((1,), float(calls)))
    assert call.results[0].equal(call.x.data)
    assert call.parameters["call"] == calls - 1


def test_results_that_change_later_are_found(recorded: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    side = timing.Rounds(step_of(recorded, 0.05), lambda turn: (torch.ones(1), None), CPU)

    def change(*_: object) -> None:
        results, _ = side.copies[-1]
        results[0].add_(1)

    timing.take_turns({BASELINE: side}, 0.2)  # nothing changes
    change()
    with pytest.raises(RefusedError):
        timing.take_turns({BASELINE: side}, 0.2)
    monkeypatch.setattr(timing, "sleep", change)  # after the last round
    side.copies = []
    with pytest.raises(RefusedError):
        timing.take_turns({BASELINE: side}, 0.2)


def test_results_are_plain_tensors() -> None:
    with pytest.raises(RefusedError, match=r"Parameter$"):
        timing.copied((nn.Parameter(torch.ones(1)),))


def test_a_ratio_is_the_median_of_ratios() -> None:
    """A drift that is not the same for both sides tells it from the ratio of medians."""
    mine, theirs = Stats(), Stats()
    mine.data, theirs.data = [1.0, 10.0, 6.0], [1.0, 1.0, 3.0]
    assert timing.ratio(mine, theirs) == 2


@pytest.mark.parametrize("L", [1, 2])
@pytest.mark.parametrize("name", ["row_scaled", BASELINE])
def test_multiply_adds_are_those_that_torch_counts(name: str, L: int) -> None:
    for case in (replace(TINY, L=L), replace(PACKED, L=L)):
        model, x = find(name).build(case, torch.float32, CPU), work.example(case, torch.float32, CPU)
        # oneDNN's fused LSTM is one operator, without it there are products.
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            Step(model, Pass.FORWARD)(*x)
        assert counter.get_total_flops() == 2 * find(name).multiply_adds(case)


@pytest.mark.parametrize("name", ["batched_cpu", "deferred", "batched", BASELINE])
def test_peak_memory_counts_new_gradients_and_residuals(name: str) -> None:
    if reason := find(name).why_unavailable(CPU, torch.float32):
        pytest.skip(reason)
    case = replace(TINY, T=12, B=16)
    model, x = find(name).build(case, torch.float32, CPU), work.example(case, torch.float32, CPU)
    gradients, step = 4 * sum(p.numel() for p in model.parameters()), Step(model, Pass.TRAIN)
    work.peak(step, x)  # allocates what stays
    model.zero_grad(set_to_none=True)
    fresh = work.peak(step, x)
    step(*x)
    peak = work.peak(step, x)
    assert peak == fresh >= gradients  # earlier gradients are freed, and new ones allocated
    longer = work.peak(step, work.example(replace(case, T=24), torch.float32, CPU))
    cells = 4 * case.T * case.B * (case.H if name == BASELINE else case.H + case.S)
    assert longer - peak >= cells  # allocations in C++ count
