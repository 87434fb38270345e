"""Rows of results that tests keep, and that xdist carries to the process which writes them."""

from enum import StrEnum
from itertools import chain
from typing import Any

import pandas as pd
import pytest
import torch

from impls.definition import dtype_name
from suite.cases.case import Case
from suite.comparison.tolerance import Judgement
from suite.results.names import TableName
from suite.results.outcomes import CaseOutcome, deciding
from suite.results.tables import TABLES
from suite.results.use_modules import UseModule
from suite.shared.arithmetic import Arithmetic

#: The name among a test's user properties of a row: its table, the file and name of the test's function, and its cells.
ROW = "row"
#: A value of a column.
Cell = str | int | float | bool


class Keep:
    """Keeps one row of a table of results, see `suite/results/tables.toml`, with a test."""

    def __init__(self, test: pytest.Function) -> None:
        self.test = test

    def __call__(self, table: TableName, /, **row: Cell) -> None:
        # xdist carries no enumerations.
        for column, value in row.items():
            if isinstance(value, StrEnum):
                row[column] = str(value)
        function = str(self.test.path), self.test.originalname
        self.test.user_properties.append((ROW, (str(table), function, row)))


class Record:
    """Keeps one row of the verification table.

    ended: the worst judgement of the comparison, or how it ended without one. reason: why it has none. oracle,
    interpreted, forward_only, asked_for, defined: see `suite/results/tables.toml`. case: whose sizes the row has, if it
    is of one.
    """

    def __init__(self, keep: Keep) -> None:
        self.keep = keep

    def __call__(
        self,
        implementation: str,
        arithmetic: Arithmetic | torch.dtype,
        comparison: str,
        ended: Judgement | CaseOutcome,
        *,
        oracle: str,
        reason: str = "",
        interpreted: bool = False,
        forward_only: bool = False,
        asked_for: bool = False,
        defined: UseModule | None = None,
        case: Case | None = None,
    ) -> None:
        dtype = dtype_name(arithmetic) if isinstance(arithmetic, torch.dtype) else str(arithmetic)
        about: dict[str, Cell] = {"implementation": implementation, "dtype": dtype, "case": comparison}
        about |= {"oracle": oracle, "interpreted": interpreted, "forward_only": forward_only}
        about |= {"asked_for": asked_for, "reason": reason, "defined": defined or ""}
        if case is not None:
            about |= case.sizes
        if isinstance(ended, Judgement):
            self.keep(TableName.VERIFY, **about, **ended.columns, verdict=CaseOutcome.of(wrong=ended.wrong))
        else:
            self.keep(TableName.VERIFY, **about, verdict=ended)


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Keep:
    """Keeps rows of any table with the test."""
    return Keep(request.node)


@pytest.fixture
def record(keep: Keep) -> Record:
    """Keeps rows of the verification table with the test."""
    return Record(keep)


def rows_of_tests(reporter: pytest.TerminalReporter) -> dict[TableName, pd.DataFrame]:
    """Rows that tests of all processes kept, by table.

    ValueError names two tests that are cases of one function and kept rows of one key. Tests of two functions may
    compare the same in two ways, of which the results have that which decides; and a test may have run again.
    """
    rows: dict[TableName, list[dict[str, Any]]] = {}
    kept: dict[tuple[Any, ...], str] = {}
    for outcome in chain.from_iterable(reporter.stats.values()):
        if getattr(outcome, "when", None) != "teardown":
            continue
        for key, value in outcome.user_properties:
            if key == ROW:
                name, function, row = value
                table = TableName(name)
                identity = (*function, name, *TABLES[table].key_of(row))
                before = kept.setdefault(identity, outcome.nodeid)
                if before != outcome.nodeid:
                    raise ValueError(f"{outcome.nodeid}: expected a row of a key of its own, got that of {before}")
                rows.setdefault(table, []).append(row)
    tables = {name: TABLES[name].filled(pd.DataFrame(lines)) for name, lines in rows.items()}
    if TableName.VERIFY in tables:
        tables[TableName.VERIFY] = deciding(tables[TableName.VERIFY], TABLES[TableName.VERIFY].key)
    return tables
