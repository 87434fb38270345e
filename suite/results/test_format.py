"""Figures are written with as many digits as they have to say something."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from suite.results.example_runs import benchmark
from suite.results.format import count, machine, percent, ratio_text, significant3, sizes, with_interval
from suite.results.statistics import Interval

NAN = float("nan")


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (significant3, 0.0, "0"), (significant3, 0.012345, "0.0123"), (significant3, 99.94, "99.9"),
        (significant3, 99.95, "100"), (significant3, 1234.4, "1,234"), (significant3, -0.5, "-0.500"),
        (count, 1234567.4, "1,234,567"),
        (ratio_text, 0.0994, "0.099"), (ratio_text, 0.1, "0.10"), (ratio_text, 9.994, "9.99"), (ratio_text, 10, "10.0"),
        (ratio_text, 99.9, "99.9"), (ratio_text, 100, "100"), (ratio_text, 1234, "1,234"),
        (percent, 0.0994, "9.9%"), (percent, 0.1, "10%"), (percent, -0.25, "-25%"),
        (with_interval, Interval(1.5, 1.25, 2), "1.50 (1.25-2.00)"), (with_interval, Interval(1.5, NAN, NAN), "1.50"),
        (partial(sizes, dims="TB"), {"T": 50.0, "B": 1, "H": 9}, "T 50, B 1"),
    ],
)  # fmt: skip
def test_figures(write: Callable[[Any], str], value: Any, text: str) -> None:
    assert write(value) == text


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"processor": "Intel(R) Xeon(R) Processor (AMX)", "threads": 2}, r".* Intel Xeon \(AMX\)"),
        ({"processor": "Neoverse-V2", "threads": 1}, ".* Neoverse-V2"),
        ({"processor": "AMD EPYC 7763", "threads": 16}, "16 .* AMD EPYC 7763"),
        ({"processor": "NVIDIA H100", "threads": 2, "device": "cuda"}, "NVIDIA H100"),
    ],
)
def test_a_machine_is_its_cores_and_processor(row: dict[str, Any], name: str) -> None:
    assert re.fullmatch(name, machine(benchmark(**({"device": "cpu"} | row))))
