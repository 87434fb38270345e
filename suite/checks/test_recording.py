"""Rows that tests keep: none takes the place of another without a word."""

from types import SimpleNamespace
from typing import Any

import pytest

from suite.checks.recording import ROW, rows_of_tests
from suite.results.examples import verified

FUNCTION = "suite/checks/equality/test_equality.py::test_equals_the_oracle"


def kept(*rows: tuple[str, dict[str, Any]]) -> Any:
    """The reporter of a run whose tests, by id, kept rows of verify.csv."""
    reports = []
    for test, row in rows:
        reports.append(SimpleNamespace(when="teardown", nodeid=test, user_properties=[(ROW, ("verify", row))]))
    return SimpleNamespace(stats={"": reports})


def test_two_cases_of_a_test_keep_no_row_of_one_key() -> None:
    with pytest.raises(ValueError, match=r"\[b\]: expected a row of a key of its own, got that of .*\[a\]"):
        rows_of_tests(kept((f"{FUNCTION}[a]", verified(ratio=0.1)), (f"{FUNCTION}[b]", verified(ratio=0.2))))


def test_a_test_may_run_again_and_another_compare_the_same() -> None:
    """The largest error decides; rows of two dtypes are two."""
    first, elsewhere = f"{FUNCTION}[a]", "suite/checks/kernels/test_kernels.py::test_interpreted[a]"
    rows = [(first, verified(ratio=0.1)), (first, verified(ratio=0.2)), (elsewhere, verified(ratio=0.3))]
    rows.append((f"{FUNCTION}[c]", verified(ratio=0.4, dtype="float64")))
    assert sorted(rows_of_tests(kept(*rows))["verify"]["ratio"]) == [0.3, 0.4]
