"""Rows of results that tests keep, and that xdist carries to the process which writes them."""

from enum import StrEnum
from itertools import chain
from operator import itemgetter
from typing import Any

import pandas as pd
import pytest
import torch

from impls import names
from impls.definition import dtype_name
from suite.cases.case import Case
from suite.comparison.tolerance import Judgement
from suite.results.columns import KEYS, Row
from suite.results.outcomes import CaseOutcome, deciding
from suite.results.run import frame
from suite.shared.arithmetic import Arithmetic

#: The name among a test's user properties of a row: its table, the file and name of the test's function, and its cells.
ROW = "row"
#: Of a test, its number in the run.
NUMBER = pytest.StashKey[int]()
#: A value of a column.
Cell = str | int | float | bool


class Keep:
    """Keeps one row of a table of results, see `suite/results/columns.py`, with a test."""

    def __init__(self, test: pytest.Function) -> None:
        self.test = test

    def __call__(self, table: str, /, **row: Cell) -> None:
        # xdist carries no enumerations.
        for column, value in row.items():
            if isinstance(value, StrEnum):
                row[column] = str(value)
        function = str(self.test.path), self.test.originalname
        number = self.test.stash.get(NUMBER, 0)
        self.test.user_properties.append((ROW, (table, function, number, row)))


class Record:
    """Keeps one row of the verification table.

    ended: the worst judgement of the comparison, or how it ended without one. reason: why it has none. oracle,
    interpreted: Triton's interpreter ran the kernels. forward_only: no gradients were compared. case: whose sizes the
    row has, if it is of one.
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
        case: Case | None = None,
    ) -> None:
        dtype = dtype_name(arithmetic) if isinstance(arithmetic, torch.dtype) else str(arithmetic)
        about: dict[str, Cell] = {"implementation": implementation, "dtype": dtype, "case": comparison}
        about |= {"oracle": oracle, "interpreted": interpreted, "forward_only": forward_only}
        about |= {"reason": reason}
        if case is not None:
            about |= case.sizes
        if isinstance(ended, Judgement):
            self.keep("verify", **about, **ended.columns, verdict=CaseOutcome.of(wrong=ended.wrong))
        else:
            self.keep("verify", **about, verdict=ended)


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Keep:
    """Keeps rows of any table with the test."""
    return Keep(request.node)


@pytest.fixture
def record(keep: Keep) -> Record:
    """Keeps rows of the verification table with the test."""
    return Record(keep)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Number the tests of a run, by which rows are in one order whichever process ends first."""
    for number, item in enumerate(session.items):
        item.stash[NUMBER] = number


def rows_of_tests(reporter: pytest.TerminalReporter) -> dict[str, pd.DataFrame]:
    """Rows that tests of all processes kept, by table, in the order of the tests.

    ValueError names two tests that are cases of one function and kept rows of one key. Tests of two functions may
    compare the same in two ways, of which the results have that which decides; and a test may have run again.
    """
    numbered: dict[str, list[tuple[int, Row]]] = {}
    kept: dict[tuple[Any, ...], str] = {}
    for outcome in chain.from_iterable(reporter.stats.values()):
        if getattr(outcome, "when", None) != "teardown":
            continue
        for key, value in outcome.user_properties:
            if key == ROW:
                table, function, number, row = value
                identity = (*function, table, *(row.get(column) for column in KEYS[table]))
                before = kept.setdefault(identity, outcome.nodeid)
                if before != outcome.nodeid:
                    raise ValueError(f"{outcome.nodeid}: expected a row of a key of its own, got that of {before}")
                numbered.setdefault(table, []).append((number, row))
    tables = dict[str, pd.DataFrame]()
    for table, rows in numbered.items():
        tables[table] = frame(table, [row for _, row in sorted(rows, key=itemgetter(0))])
    if "verify" in tables:
        decide = deciding(tables["verify"], KEYS["verify"]).sort_index()
        ranks = {name: rank for rank, name in enumerate(names())}
        tables["verify"] = decide.sort_values("implementation", key=lambda column: column.map(ranks), kind="stable")
    return tables
