"""Rows of results that tests keep, and that xdist carries to the process which writes them."""

from collections.abc import Callable
from enum import StrEnum
from itertools import chain
from operator import itemgetter

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

#: The name, among a test's user properties, of a row with its table and the test's number in the run.
ROW = "row"
#: Of a test, its number in the run.
NUMBER = pytest.StashKey[int]()
#: Keeps a row of a table of results, see `suite/results/columns.py`, with a test.
Keep = Callable[[str, Row], None]


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Keep:
    """Keeps rows with the test."""
    test = request.node

    def keep_row(table: str, row: Row) -> None:
        # xdist carries no enumerations.
        cells = {column: str(value) if isinstance(value, StrEnum) else value for column, value in row.items()}
        test.user_properties.append((ROW, (test.stash.get(NUMBER, 0), table, cells)))

    return keep_row


def verify_row(
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
) -> Row:
    """A row of the verification table.

    ended: the worst judgement of the comparison, or how it ended without one. reason: why it has none. oracle,
    interpreted: Triton's interpreter ran the kernels. forward_only: no gradients were compared. case: whose sizes the
    row has, if it is of one.
    """
    row: Row = {
        "implementation": implementation,
        "dtype": dtype_name(arithmetic) if isinstance(arithmetic, torch.dtype) else arithmetic,
        "case": comparison,
        "oracle": oracle,
        "interpreted": interpreted,
        "forward_only": forward_only,
        "reason": reason,
    }
    if case is not None:
        row |= case.sizes
    if isinstance(ended, Judgement):
        return row | ended.columns | {"verdict": Verdict.FAIL if ended.wrong else Verdict.PASS}
    return row | {"verdict": ended}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Number the tests of a run, by which rows are in one order whichever process ends first."""
    for number, item in enumerate(session.items):
        item.stash[NUMBER] = number


def rows_of_tests(reporter: pytest.TerminalReporter) -> dict[str, pd.DataFrame]:
    """Rows that tests of all processes kept, by table, in the order of the tests.

    Tests may compare the same in two ways, of which the results have that which decides; and a test may have run again.
    """
    every = []
    for outcome in chain.from_iterable(reporter.stats.values()):
        if getattr(outcome, "when", None) == "teardown":
            every += [value for name, value in outcome.user_properties if name == ROW]
    by_table: dict[str, list[Row]] = {}
    for _, table, row in sorted(every, key=itemgetter(0)):
        by_table.setdefault(table, []).append(row)
    tables = {table: frame(table, rows) for table, rows in by_table.items()}
    if "verify" in tables:
        decide = deciding(tables["verify"], KEYS["verify"]).sort_index()
        ranks = {name: rank for rank, name in enumerate(names())}
        tables["verify"] = decide.sort_values("implementation", key=lambda column: column.map(ranks), kind="stable")
    return tables
