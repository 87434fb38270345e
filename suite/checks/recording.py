"""Rows of results that tests keep, and that xdist carries to the process which writes them."""

from enum import StrEnum
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch

from impls import names
from impls.definition import dtype_name
from suite.cases.case import Case
from suite.comparison.tolerance import Judgement
from suite.results.columns import KEYS, Row
from suite.results.outcomes import Verdict, deciding
from suite.results.run import frame
from suite.shared.arithmetic import Arithmetic

#: The name among a test's user properties of the fields of a `KeptRow`.
ROW = "row"
#: Of a test, its number in the run.
NUMBER = pytest.StashKey[int]()
#: A value of a column.
Cell = str | int | float | bool


class KeptRow(NamedTuple):
    """A row of a table, the file and name of the function of its test, and the test's number in the run."""

    table: str
    function: tuple[str, str]
    number: int
    cells: Row


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
        kept = KeptRow(table, function, self.test.stash.get(NUMBER, 0), row)
        self.test.user_properties.append((ROW, tuple(kept)))  # xdist carries no other tuples


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
        ended: Judgement | Verdict,
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
            self.keep("verify", **about, **ended.columns, verdict=Verdict.FAIL if ended.wrong else Verdict.PASS)
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


def rows_of_tests(reporter: pytest.TerminalReporter) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Rows that tests of all processes kept, by table, in the order of the tests; and what is wrong with these tests.

    Tests of two functions may compare the same in two ways, of which the results have that which decides; and a test
    may have run again. But two cases of one function have a key each.
    """
    every = list[KeptRow]()
    tests: dict[tuple[Any, ...], str] = {}
    wrong = list[str]()
    for outcome in chain.from_iterable(reporter.stats.values()):
        if getattr(outcome, "when", None) != "teardown":
            continue
        for name, value in outcome.user_properties:
            if name == ROW:
                row = KeptRow(*value)
                every.append(row)
                identity = (row.table, *row.function, *(row.cells.get(column) for column in KEYS[row.table]))
                before = tests.setdefault(identity, outcome.nodeid)
                if before != outcome.nodeid:
                    wrong.append(f"{outcome.nodeid}: expected a row of a key of its own, got that of {before}")
    tables = dict[str, pd.DataFrame]()
    every.sort(key=attrgetter("number"))
    for table in dict.fromkeys(row.table for row in every):
        tables[table] = frame(table, [row.cells for row in every if row.table == table])
    if "verify" in tables:
        decide = deciding(tables["verify"], KEYS["verify"]).sort_index()
        ranks = {name: rank for rank, name in enumerate(names())}
        tables["verify"] = decide.sort_values("implementation", key=lambda column: column.map(ranks), kind="stable")
    return tables, wrong
