"""Rounds are as many as they should be, and what is measured beside them is what it says."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytest_benchmark.stats import Stats

from suite.measure import bench, hardware, timing, work
from suite.measure.examples import job
from suite.measure.timing import DeviceEvents, Repeats, Stopwatch, Turns, Work
from suite.shared import arithmetic, usage
from suite.shared.candidates import LSTM, find
from suite.shared.cases import BASELINE, Case, lengths
from suite.shared.compare import implementation
from suite.shared.examples import CPU, TINY


def stats(seconds: Sequence[float]) -> Stats:
    result = Stats()
    result.data += seconds
    return result


class FakeStopwatch(Stopwatch):
    """Believes the seconds that a call returns."""

    def seconds(self, work: Work) -> float:
        seconds = work()
        return seconds if isinstance(seconds, float) else 1.0


def test_a_round_of_long_calls_is_one_call() -> None:
    inputs = list[float]()
    side = Repeats(FakeStopwatch(), lambda x: inputs.append(x[0].item()), torch.zeros(1))
    inputs.clear()
    side.round(torch.ones(1), before=torch.zeros(1))
    assert inputs == [1]


def test_a_visit_has_two_turns_unless_slow() -> None:
    def count(seconds: float, budget: float, sides: int) -> int:
        work = Repeats(FakeStopwatch(), lambda x: seconds, torch.zeros(1))
        turns = Turns(dict.fromkeys(range(sides), work), lambda _: torch.zeros(1))
        turns.take(budget)
        return len(turns.rounds[0].data)

    assert count(0.001, 0.3, 2) == 7
    assert count(0.05, 0.1, 1) == 2
    assert count(0.4, 0.3, 1) == 1


@pytest.mark.parametrize("first", [0.4, 0.05])
def test_a_first_call_on_a_gpu_decides_nothing(first: float) -> None:
    """It loads cuDNN, cuBLAS or Triton."""
    watch, calls = FakeStopwatch(), list[str]()
    watch.loads_first = DeviceEvents.loads_first

    def side(name: str) -> Repeats:
        def call(x: Any) -> float:
            calls.append(name)
            return first if calls.count(name) == 1 else 0.0013

        return Repeats(watch, call, torch.zeros(1))

    turns = Turns({name: side(name) for name in ("ours", "lstm")}, lambda _: torch.zeros(1))
    turns.take(0.5)
    assert [len(rounds.data) for rounds in turns.rounds.values()] == [11, 11]
    # Three calls settle, then 16 and an untimed one make a round.
    assert [calls.count(name) for name in ("ours", "lstm")] == [3 + 11 * 17] * 2


def test_calls_settle_unless_one_is_slow() -> None:
    calls = iter([3.0, 0.02, 0.05, 0.04, 0.04])
    assert timing.warm_up(FakeStopwatch(), lambda: next(calls), compiles=True) == [3.0, 0.02, 0.05, 0.04]
    assert timing.warm_up(FakeStopwatch(), lambda: 3.0) == [3.0]
    assert timing.warm_up(FakeStopwatch(), lambda: 0.01) == [0.01, 0.01]


def test_the_typical_draw_has_the_median_number_of_tokens() -> None:
    case = replace(TINY, T=16, B=8, lengths=lengths(16, 8))
    tokens = [bench.drawn(case, draw).tokens for draw in (1, 2, 3)]
    assert len({case.tokens, *tokens}) > 2
    assert bench.typical(case, 3).tokens == sorted(tokens)[1]


def test_a_round_whose_baseline_was_slow_is_marked() -> None:
    side = Repeats(FakeStopwatch(), print, torch.zeros(1))
    turns = Turns({BASELINE: side, TINY: side}, lambda _: torch.zeros(1))
    turns.rounds = {BASELINE: stats([1, 1, 1, 1.6, 1, 1]), TINY: stats([3.0] * 6)}
    assert turns.columns(TINY)["disturbed"] == 1


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
    flush, record = torch.ones(8), "record on stream of cuda:1"
    watch = DeviceEvents(torch.device("cuda", 1), flush)
    assert watch.seconds(lambda: log.extend(["work", "work"])) == 3
    assert log == ["synchronize", record, "work", "work", record, "synchronize"]
    assert not flush.any()
    log.clear()
    assert watch.async_seconds(lambda: log.append("work"), 4) == 5 / 4
    assert log == ["synchronize", record, *["work"] * 4, record, "synchronize"]


def test_products_and_cudnn_compute_in_one_arithmetic() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        for name, tf32 in (("tf32", True), ("float32", False), ("bfloat16", False)):
            arithmetic.use(name)
            assert (torch.backends.cuda.matmul.fp32_precision == "tf32") == tf32
            assert arithmetic.eps(torch.float32, torch.device("cuda")) == (2**-10 if tf32 else 2**-23)
            assert arithmetic.eps(torch.float32, CPU) == 2**-23
            assert (getattr(torch.backends.cudnn.rnn, "fp32_precision") == "tf32") == tf32  # noqa: B009
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_tf32_is_for_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arithmetic.dtype_of("tf32") == torch.float32
    assert arithmetic.why_not("tf32", CPU) == "tf32 needs a GPU of compute capability 8.0 or higher."
    assert arithmetic.why_not("float32", CPU) is None
    for capability, has in (((7, 5), False), ((8, 9), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, result=capability: result)
        assert (arithmetic.why_not("tf32", torch.device("cuda", 0)) is None) == has


@pytest.mark.parametrize("layer_norm", [False, True])
def test_formulas_count_the_parameters_that_are_there(layer_norm: bool) -> None:
    case = replace(TINY, L=2, layer_norm=layer_norm)
    model = implementation("naive")(case, torch.float32, torch.device("meta"))
    assert case.parameters() == sum(p.numel() for p in model.parameters())


def test_least_bytes_are_what_must_move_once() -> None:
    case = Case(T=2, B=3, I=5, H=7, S=4, Z=2)
    x, h, cells = 2 * 3 * 5, 2 * 3 * 7, 2 * 3 * (7 + 2 * 4)
    assert case.least_numbers(train=False) == x + h + case.parameters()
    assert case.least_numbers(train=True) == 2 * x + 3 * h + 3 * case.parameters() + 2 * cells
    ragged = replace(case, lengths=(2, 1, 1))
    assert ragged.least_numbers(train=False) - case.parameters() == (x + h) * 4 // 6
    assert (6 * ragged.multiply_adds(), 6 * LSTM.multiply_adds(ragged)) == (
        4 * case.multiply_adds(),
        4 * LSTM.multiply_adds(case),
    )
    lstm = sum(p.numel() for p in LSTM.build(case, torch.float32, CPU).parameters())
    assert LSTM.least_numbers(case, False) == x + h + lstm


def test_the_share_is_of_the_bound_that_holds() -> None:
    ceiling = {"float32": {"multiply_adds_per_s": 1e9, "bytes_per_s": 1e8}}
    row = {"multiply_adds": 5e8, "least_bytes": 1e7, "median_s": 1.0, "status": "ok", "dtype": "float32"}
    assert hardware.share(row, ceiling) == {"multiply_adds_per_s": 5e8, "bound": "compute", "share": 0.5}
    assert hardware.share(row | {"least_bytes": 8e7}, ceiling) == {
        "multiply_adds_per_s": 5e8, "bound": "memory", "share": 0.8,
    }  # fmt: skip
    assert hardware.share(row | {"status": "time-out: 9 s"}, ceiling) == {}
    assert hardware.share(row | {"dtype": "tf32"}, ceiling) == {}


def test_the_ceiling_is_the_best_product(monkeypatch: pytest.MonkeyPatch) -> None:
    def takes(*seconds: float) -> hardware.Product:
        times = iter(seconds)
        return lambda a: partial(float, next(times))

    ways = {"slow": takes(0.004, 0.06), "fast": takes(0.002, 0.01, 0.2)}
    monkeypatch.setattr(hardware, "COPIED", 1 << 10)
    monkeypatch.setattr(hardware, "products", lambda device, dtype: ways)
    monkeypatch.setattr(hardware, "stopwatch", lambda device: FakeStopwatch())
    (row,) = hardware.rows(hardware.jobs(CPU, ["float32"])[0], True)
    assert (row["product"], row["side"]) == ("fast", 2 * hardware.SMALLEST)
    assert row["multiply_adds_per_s"] == (2 * hardware.SMALLEST) ** 3 / 0.01


def test_the_ceiling_multiplies_random_numbers() -> None:
    """A card clocks higher on ones than on data."""
    factors = list[torch.Tensor]()

    def product(a: torch.Tensor) -> Work:
        factors.append(a)
        return lambda: 1.0

    list(hardware.rates(FakeStopwatch(), "told", product, CPU, "bfloat16"))
    assert all(a.dtype == torch.bfloat16 and 0.9 < a.float().std() < 1.1 for a in factors)


def test_operator_calls_are_those_that_call_no_other() -> None:
    x = torch.ones(3, 3, requires_grad=True)
    assert usage.operator_calls(lambda: torch.sin(torch.sin(x))) == 2
    # linear is a view of the weight and a product, each of which is counted and it is not.
    once = usage.operator_calls(lambda: torch.nn.functional.linear(x, x))
    assert usage.operator_calls(lambda: [torch.nn.functional.linear(x, x) for _ in range(3)]) == 3 * once


def test_calls_per_step_show_loops_in_python() -> None:
    calls = {}
    for name in ("row_scaled", "batched", "torch.nn.LSTM"):
        model, x = find(name).build(TINY, torch.float32, CPU), work.example(TINY, torch.float32, CPU)
        calls[name] = bench.calls_per_step(find(name), model, x, work.forward)
    assert calls["row_scaled"] > calls["batched"] > 0
    assert calls["torch.nn.LSTM"] == 0


@pytest.mark.parametrize(("name", "rows"), [("deferred", TINY.B + 1), ("batched", 2)])
def test_calls_are_counted_with_the_kernels_that_are_timed(name: str, rows: int) -> None:
    """Another batch has other kernels of a hand-written gradient, each of which would be compiled."""
    batches, case = set[int](), replace(TINY, B=TINY.B + 1)
    model, x = find(name).build(case, torch.float32, CPU), work.example(case, torch.float32, CPU)

    def step(model: Any, x: Any) -> None:
        batches.add(x.shape[1])
        work.forward(model, x)

    bench.calls_per_step(find(name), model, x, step)
    assert batches == {rows}


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


def test_the_profiler_of_a_gpu_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays attached, and slows what comes after it."""
    events, gpu = list[str](), torch.device("cuda", 0)
    monkeypatch.setattr(bench, "stopwatch", lambda device: FakeStopwatch())
    monkeypatch.setattr(work, "example", lambda *_: torch.zeros(TINY.T, TINY.B, TINY.I))
    monkeypatch.setattr(bench, "find", lambda name: replace(find(name), build=lambda *_: torch.nn.LSTM(TINY.I, TINY.H)))
    monkeypatch.setattr(bench, "LSTM", replace(LSTM, build=lambda *_: torch.nn.LSTM(TINY.I, TINY.H)))
    monkeypatch.setattr(work, "refusal", lambda *_: None)

    def recorded(event: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            events.append(event)
            return function(*arguments)

        return call

    monkeypatch.setattr(Turns, "take", recorded("turns", Turns.take))
    monkeypatch.setattr(bench, "once_measured", recorded("once", lambda *_: {}))
    monkeypatch.setattr(usage, "kernels", recorded("profile", lambda work, device: ["cudnn"]))
    rows = list(bench.rows(job(layer_norms=(False, True), device=gpu), True))
    assert events == [*["turns", "once", "once"] * 2, "profile"]
    assert [str(row.get("cudnn"))[-13:] for row in rows] == ["None", "None", "a kernel seen", "a kernel seen"]


class Profile:
    """A made-up profile of kernels by name, and of an operator that ran on the CPU."""

    def __init__(self, *kernels: str) -> None:
        devices = [("aten::_cudnn_rnn", "CPU"), *((name, "CUDA") for name in kernels)]
        events = [
            SimpleNamespace(name=partial(str, name), device_type=partial(SimpleNamespace, name=device))
            for name, device in devices
        ]
        self.profiler = SimpleNamespace(kineto_results=SimpleNamespace(events=lambda: events))


@pytest.mark.parametrize(
    ("kernels", "note"),
    [
        (["void elemWiseRNNcell<float, float, float, (cudnnRNNMode_t)2>(int, int)"], "a kernel seen"),
        (["void RNN_blockPersist_fp_LSTM_HMMA<__half, __half, float, 1, 128>(int)"], "a kernel seen"),
        (["cutlass_80_simt_sgemm", "void LSTM_elementWise_bp1<float, float, float>(int)"], "a kernel seen"),
        (
            ["sgemm_128x64_tn", "void at::native::(anonymous namespace)::kernel::lstm_cell_forward<float>"],
            "no kernel seen",
        ),
        ([], "no kernel seen"),
    ],
    ids=["steps", "persistent", "older", "torch's own", "none"],
)
def test_a_profile_shows_whether_cudnn_ran(kernels: list[str], note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(usage, "profile", lambda activities: nullcontext(Profile(*kernels)))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: ran.append(f"synchronize {device}"))
    names = usage.kernels(lambda: ran.append("work"), torch.device("cuda", 1))
    assert (names, ran) == (kernels, ["work", "synchronize cuda:1"])
    assert usage.cudnn_of(names, 91002) == f"91002, {note}"
    assert usage.cudnn_of(names, None) == f"none, {note}"


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def work() -> None:
        a = torch.ones(1_000_000)
        b = a + a
        del a
        b.add_(1)

    assert 8_000_000 <= usage.peak_bytes(work, CPU) < 8_100_000


def test_saved_memory_counts_what_the_result_holds() -> None:
    x = torch.ones(1_000_000, requires_grad=True)
    assert 4_000_000 <= usage.saved_bytes(lambda: x.exp(), CPU) < 4_100_000
