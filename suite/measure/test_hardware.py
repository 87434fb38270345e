"""Rates of the hardware are the best of several products and copies, and a row is compared with the limiting one."""

from functools import partial

import pytest
import torch

from suite.cases.examples import CPU
from suite.measure import hardware
from suite.measure.believed import believed, share
from suite.measure.examples import told
from suite.measure.timing import Work
from suite.results.columns import SETTING
from suite.results.status import Ended, Status

CEILING = {"float32": {"multiply_adds_per_s": 1e9, "bytes_per_s": 1e8}}
ROW = {"multiply_adds": 5e8, "least_bytes": 1e7, "median_s": 1.0, "status": Status.OK, "dtype": "float32"}


def test_the_share_is_of_the_bound_that_holds() -> None:
    assert share(ROW, CEILING) == ({"bound": "compute", "share": 0.5}, "")
    assert share(ROW | {"least_bytes": 8e7}, CEILING) == ({"bound": "memory", "share": 0.8}, "")
    assert share(ROW | {"status": Status.TIME_OUT}, CEILING) == ({}, "")
    assert share(ROW | {"dtype": "tf32"}, CEILING) == ({}, "")


def test_a_row_that_multiplies_faster_than_the_machine_is_refused() -> None:
    """One that moves bytes faster is not: a cache may hold them."""
    fast = dict(zip((*SETTING, "pass", "implementation"), "abcdef", strict=True)) | ROW | {"ratio_visits": (1.0,)}
    fast |= {"least_bytes": 8e8, "ratio": 0.1}
    rows = believed([fast | {"median_s": 0.41}, fast | {"median_s": 0.39}], CEILING)
    assert rows[0]["bound"] == "memory"
    sentence = "faster than this machine multiplies, at 1.28 times the rate of its products"
    assert Ended.of(rows[1]) == Ended(Status.REFUSED, sentence)
    assert {column for column, value in rows[1].items() if value is None} >= {"median_s", "ratio", "ratio_visits"}


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
