"""Rates of the hardware are the best of several products and copies, and a row is compared with the limiting one."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from suite.measure import hardware
from suite.measure.timing import Stopwatch, Work
from suite.shared import arithmetic
from suite.shared.candidates import LSTM
from suite.shared.cases import Case
from suite.shared.compare import implementation
from suite.shared.examples import CPU, TINY


class FakeStopwatch(Stopwatch):
    """Believes the seconds that a call returns; others take half a second."""

    def seconds(self, work: Work) -> float:
        seconds = work()
        return seconds if isinstance(seconds, float) else 0.5


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
    assert (row["bytes_per_s"], row["copied_bytes"]) == (2 * 1024 / 0.5, 1024)  # read and written


def test_the_ceiling_multiplies_random_numbers() -> None:
    """A card clocks higher on ones than on data."""
    factors = list[torch.Tensor]()

    def product(a: torch.Tensor) -> Work:
        factors.append(a)
        return lambda: 1.0

    list(hardware.rates(FakeStopwatch(), "fake", product, CPU, "bfloat16"))
    assert all(a.dtype == torch.bfloat16 and 0.9 < a.float().std() < 1.1 for a in factors)
