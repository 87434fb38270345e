"""Figures are written with as many digits as they have to say something, and rows say where they are from."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import pytest

from suite.results.examples import HERE, verified
from suite.results.format import count, dates, machine, origin, percent, ratio_text, significant3, sizes, with_interval
from suite.results.statistics import Interval
from suite.results.tables import TABLES

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
        ({"processor": "Intel(R) Xeon(R) Processor (AMX)", "threads": 2}, "two cores of an Intel Xeon (AMX)"),
        ({"processor": "Neoverse-V2", "threads": 1}, "one core of a Neoverse-V2"),
        ({"processor": "AMD EPYC 7763", "threads": 16}, "16 cores of an AMD EPYC 7763"),
        ({"processor": "NVIDIA H100", "threads": 2, "device": "cuda"}, "NVIDIA H100"),
    ],
)
def test_a_machine_is_its_cores_and_processor(row: dict[str, Any], name: str) -> None:
    assert machine(pd.Series({"device": "cpu"} | row)) == name


def rates(*changes: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return rows of the table `hardware`, which depend on no implementation, with changes."""
    return {"hardware": TABLES["hardware"].filled(pd.DataFrame([HERE | change for change in changes]))}


def test_commits_and_days_of_rows_are_named() -> None:
    both = origin(rates(*({"commit": commit} for commit in ("aaaa", "bbbb", "aaaa"))))
    assert both.endswith(", commits `aaaa` and `bbbb`.")
    assert both.count("Made on") == 1
    changed = origin(rates({"commit": "aaaa"}, {"commit": "aaaa", "dirty": True}, {"commit": ""}))
    assert changed.endswith(", commits `aaaa` and `aaaa` with changes and `unknown`.")
    assert origin(rates({"commit": "a"}, {"commit": "a"})).endswith(", commit `a`.")
    lines = origin(rates({"threads": 9}, {"threads": 7})).splitlines()
    assert [line[:15] for line in lines] == ["Made on 9 cores", "Made on 7 cores"]
    days = rates(*({"date": f"2026-{day}"} for day in ("11-30", "12-01", "11-29")))
    assert (dates(days["hardware"][:1]), dates(days["hardware"])) == ("2026-11-30", "2026-11-29 to 2026-12-01")
    assert f", 2026-11-29 to 2026-12-01: torch {HERE['torch']}, Python {HERE['python']}, CPU inst" in origin(days)


def test_software_is_named_where_a_row_used_it() -> None:
    assert "compiler" not in origin(rates({}))
    text = origin(rates({"driver": "535.1", "compiler": "c++ 12"}, {"compiler": "c++ 13"}, {"cudnn": "91900"}))
    assert ", compiler c++ 12 and c++ 13, driver 535.1, cuDNN 91900, commit" in text
    assert text.count("Made on") == 1


def test_some_rows_may_be_stale() -> None:
    right = verified("batched")
    assert "Stale" not in origin({"verify": pd.DataFrame([right])} | rates({}))
    others = [right | {"implementation": name, "sources": "x"} for name in ("naive", "jax")]
    some = origin({"verify": pd.DataFrame([right, *others])} | rates({"sources": "x"}))
    assert some.endswith("\n**Stale**: 3 of 4 rows (of naive, jax) depend on code that has changed since.")
    one = origin({"verify": pd.DataFrame([right])} | rates({"sources": "x"}))
    assert one.endswith("\n**Stale**: 1 of 2 rows depend on code that has changed since.")
