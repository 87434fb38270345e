"""A page says where, when and with which code its rows were made."""

from typing import Any

import pandas as pd

from suite.pages.origin import origin
from suite.results.examples import HERE, verified
from suite.results.format import dates
from suite.results.names import TableName
from suite.results.tables import TABLES


def rates(*changes: dict[str, Any]) -> dict[TableName, pd.DataFrame]:
    """Return rows of the table `hardware`, which depend on no implementation, with changes."""
    return {TableName.HARDWARE: TABLES[TableName.HARDWARE].filled(pd.DataFrame([HERE | change for change in changes]))}


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
    assert (dates(days[TableName.HARDWARE][:1]), dates(days[TableName.HARDWARE])) == (
        "2026-11-30",
        "2026-11-29 to 2026-12-01",
    )
    assert f", 2026-11-29 to 2026-12-01: torch {HERE['torch']}, Python {HERE['python']}, CPU inst" in origin(days)


def test_software_is_named_where_a_row_used_it() -> None:
    assert "compiler" not in origin(rates({}))
    text = origin(rates({"driver": "535.1", "compiler": "c++ 12"}, {"compiler": "c++ 13"}, {"cudnn": "91900"}))
    assert ", compiler c++ 12 and c++ 13, driver 535.1, cuDNN 91900, commit" in text
    assert text.count("Made on") == 1


def test_names_of_machines_and_software_are_plain() -> None:
    text = origin(rates({"processor": "Xeon *E5* <v4>", "device": "cuda", "compiler": "_c++_ 12"}))
    assert text.startswith(r"Made on Xeon \*E5\* \<v4>, ")
    assert r", compiler \_c++\_ 12, " in text


def test_some_rows_may_be_stale() -> None:
    right = verified("batched")
    assert "Stale" not in origin({TableName.VERIFY: pd.DataFrame([right])} | rates({}))
    others = [right | {"implementation": name, "sources": "x"} for name in ("naive", "jax")]
    some = origin({TableName.VERIFY: pd.DataFrame([right, *others])} | rates({"sources": "x"}))
    assert some.endswith("\n**Stale**: 3 of 4 rows (of naive, jax) depend on code that has changed since.")
    one = origin({TableName.VERIFY: pd.DataFrame([right])} | rates({"sources": "x"}))
    assert one.endswith("\n**Stale**: 1 of 2 rows depend on code that has changed since.")
