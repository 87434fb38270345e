"""Rates of the hardware are the best of several products and copies."""

from functools import partial

import pytest
import torch

from suite.cases.examples import CPU
from suite.measure import hardware
from suite.measure.fakes import told
from suite.measure.timing import Work


def test_the_ceiling_is_the_best_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of random numbers, as a card clocks higher on ones than on data."""
    factors = list[torch.Tensor]()

    def takes(*seconds: float) -> hardware.Product:
        times = iter(seconds)

        def product(a: torch.Tensor) -> Work:
            factors.append(a)
            return partial(float, next(times))

        return product

    ways = {"slow": takes(0.004, 0.06), "fast": takes(0.002, 0.01, 0.2)}
    monkeypatch.setattr(hardware, "COPIED", 1 << 10)
    monkeypatch.setattr(hardware, "products", lambda device, dtype: ways)
    monkeypatch.setattr(hardware, "seconds_of", told)
    (row,) = hardware.rows(hardware.jobs(CPU, ["float32"])[0], True)
    assert (row["product"], row["side"]) == ("fast", 2 * hardware.SMALLEST)
    assert row["multiply_adds_per_s"] == (2 * hardware.SMALLEST) ** 3 / 0.01
    assert row["bytes_per_s"] == 2 * 1024 / 1.0  # read and written
    assert all(0.9 < a.std() < 1.1 for a in factors)
