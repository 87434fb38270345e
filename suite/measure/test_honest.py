"""What is timed is what rows say: models that record their calls, and a clock that they move, show each slip."""

from dataclasses import dataclass, field, replace
from itertools import cycle, groupby
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytest_benchmark.stats import Stats
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from suite.measure import bench as visit
from suite.measure import timing, work
from suite.measure.examples import job
from suite.shared.candidates import find
from suite.shared.cases import BASELINE, Case, lengths
from suite.shared.examples import CPU, TINY
from suite.shared.process import Row

PACKED = replace(TINY, T=16, B=8, lengths=lengths(16, 8))
#: Seconds of a call of each model, and of its first call.
SECONDS, FIRST = {"ours": 0.03, "norm": 0.06, BASELINE: 0.01}, 0.09


@dataclass
class Recorded:
    """Calls of models, which move the clock."""

    clock: float = 0.0
    calls: list[SimpleNamespace] = field(default_factory=list)

    def now(self) -> float:
        return self.clock

    def of(self, name: str, step: str) -> list[SimpleNamespace]:
        return [call for call in self.calls if (call.name, call.step) == (name, step)]


class Model(nn.Module):
    """A model that records its calls."""

    def __init__(self, name: str, recorded: Recorded) -> None:
        super().__init__()
        self.name, self.recorded = name, recorded
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Any) -> tuple[Tensor]:
        step = "train" if torch.is_grad_enabled() else "forward"
        first = not self.recorded.of(self.name, step)
        called = SimpleNamespace(name=self.name, step=step, x=x, clean=self.weight.grad is None)
        self.recorded.calls.append(called)
        self.recorded.clock += FIRST if first else SECONDS[self.name]
        return ((x.data * self.weight).sum()[None],)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Let visits build models that record, and time them by the clock that these move."""
    record = Recorded()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=record.now))  # wall time alone
    monkeypatch.setattr(visit.gc, "collect", lambda: None)  # type: ignore[attr-defined]
    monkeypatch.setattr(work, "refusal", lambda *_: "checked again")

    def build(case: Case, *_: Any) -> Model:
        return Model("norm" if case.layer_norm else "ours", record)

    def recording(name: str) -> Any:
        baseline = name == BASELINE
        return replace(find(name), build=(lambda *_: Model(BASELINE, record)) if baseline else build)

    monkeypatch.setattr(visit, "LSTM", recording(BASELINE))
    monkeypatch.setattr(visit, "find", recording)
    return record


def rows_of(case: Case = PACKED) -> list[Row]:
    return list(visit.rows(job("deferred", case=case, layer_norms=(False, True)), False))


def test_a_visit_times_steady_calls_by_the_wall(recorded: Recorded) -> None:
    rows = rows_of()
    assert [row["median_s"] for row in rows] == pytest.approx([0.03, 0.06] * 2)
    assert [row["baseline_s"] for row in rows] == pytest.approx([0.01] * 4)
    assert [row["ratio"] for row in rows] == pytest.approx([3, 6] * 2)
    assert [row["first_s"] for row in rows] == pytest.approx([FIRST] * 4)


def test_forward_has_no_graph_and_training_new_gradients(recorded: Recorded) -> None:
    rows_of()
    half = len(recorded.calls) // 2
    assert {call.step for call in recorded.calls[: half - 5]} == {"forward"}
    assert {call.step for call in recorded.calls[half + 5 :]} == {"train"}
    assert all(call.clean for call in recorded.calls)
    model = Model("ours", recorded)
    work.train(model, torch.ones(2, 3, 4))
    assert model.weight.grad is not None


def test_both_sides_of_a_turn_have_inputs_of_their_own_turn(recorded: Recorded) -> None:
    rows_of()
    for step in ("forward", "train"):
        inputs = [
            list(dict.fromkeys(tuple(call.x.batch_sizes.tolist()) for call in recorded.of(name, step)))
            for name in SECONDS
        ]
        assert inputs[0] == inputs[1] == inputs[2]
        assert len(inputs[0]) == timing.LEAST + 1  # and the input of the warm-up


def test_each_turn_draws_its_order(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    coins = cycle([0.49, 0.5, 0.9])
    monkeypatch.setattr(timing, "random", SimpleNamespace(random=lambda: next(coins)))
    monkeypatch.setattr(visit, "BUDGET", {"cpu": 1.3})
    rows_of()
    names = [BASELINE, "ours", "norm"]
    order = ["ours", "norm", *names, *names[::-1], *names[::-1], *names]  # after the warm-up
    called = [name for name, _ in groupby(call.name for call in recorded.calls)]
    assert called[:12] == [name for name, _ in groupby(order)]


@pytest.mark.parametrize(("seconds", "calls", "warms"), [(0.0125, 2, 1), (0.0999, 1, 1), (0.1, 1, 0)])
def test_only_rounds_count(seconds: float, calls: int, warms: int, recorded: Recorded) -> None:
    """Before them is an untimed call, on the input of the turn before, unless a call is long."""
    before, x = torch.zeros(1), torch.ones(1)

    def call(x: Any) -> None:
        recorded.clock += seconds if x.any() else 5.0

    side = timing.Repeats(timing.Stopwatch(), call, x)
    recorded.clock = 0.0
    assert side.round(x, before) == pytest.approx(seconds)
    assert recorded.clock == pytest.approx(calls * seconds + warms * 5.0)


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
            work.forward(model, x)
        assert counter.get_total_flops() == 2 * find(name).multiply_adds(case)


@pytest.mark.parametrize("name", ["batched_cpu", "deferred", "batched", BASELINE])
def test_peak_memory_counts_new_gradients_and_residuals(name: str) -> None:
    if reason := find(name).why_unavailable(CPU, torch.float32):
        pytest.skip(reason)
    case = replace(TINY, T=12, B=16)
    model, x = find(name).build(case, torch.float32, CPU), work.example(case, torch.float32, CPU)
    gradients = 4 * sum(p.numel() for p in model.parameters())
    work.peak(work.train, model, x)  # allocates what stays
    model.zero_grad(set_to_none=True)
    fresh = work.peak(work.train, model, x)
    work.train(model, x)
    peak = work.peak(work.train, model, x)
    assert peak == fresh >= gradients  # earlier gradients are freed, and new ones allocated
    longer = work.peak(work.train, model, work.example(replace(case, T=24), torch.float32, CPU))
    cells = 4 * case.T * case.B * (case.H if name == BASELINE else case.H + case.S)
    assert longer - peak >= cells  # allocations in C++ count
