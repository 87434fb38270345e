"""Rows that tests keep: none takes the place of another without a word."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from suite.checks.recording import NUMBER, ROW, Keep, rows_of_tests
from suite.results.examples import verified

#: Functions of two tests, by file and name.
EQUALITY = "suite/checks/equality/test_equality.py", "test_equals_the_oracle"
INTERPRETED = "suite/checks/triton/test_kernels.py", "test_interpreted"
#: A row, and the function and the parameter of the test that kept it.
Kept = tuple[tuple[str, str], str, dict[str, Any]]


def kept(*rows: Kept) -> Any:
    """The reporter of a run whose tests kept rows of verify.csv."""
    reports = []
    for function, parameter, row in rows:
        test = f"{'::'.join(function)}[{parameter}]"
        properties = [(ROW, ("verify", function, 0, row))]
        reports.append(SimpleNamespace(when="teardown", nodeid=test, user_properties=properties))
    return SimpleNamespace(stats={"": reports})


def test_two_cases_of_a_test_keep_no_row_of_one_key() -> None:
    tables, (wrong,) = rows_of_tests(kept((EQUALITY, "a", verified(ratio=0.1)), (EQUALITY, "b", verified(ratio=0.2))))
    assert re.search(r"\[b\]: expected a row of a key of its own, got that of .*\[a\]", wrong)
    assert [*tables["verify"]["ratio"]] == [0.2]


def test_a_test_may_run_again_and_another_compare_the_same() -> None:
    """The largest error decides; rows of two dtypes are two."""
    rows = [(EQUALITY, "a", verified(ratio=0.1)), (EQUALITY, "a", verified(ratio=0.2))]
    rows.append((INTERPRETED, "a", verified(ratio=0.3)))
    rows.append((EQUALITY, "c", verified(ratio=0.4, dtype="float64")))
    assert sorted(rows_of_tests(kept(*rows))[0]["verify"]["ratio"]) == [0.3, 0.4]


@pytest.mark.parametrize("parameter", ["a[0]"])
def test_a_row_is_kept_with_the_function_of_its_test(parameter: str, request: pytest.FixtureRequest) -> None:
    """Which has no parameter in its name."""
    test = request.node
    Keep(test)("verify", case=parameter)
    ((name, value),) = test.user_properties
    test.user_properties.clear()  # no row of this run
    function = __file__, "test_a_row_is_kept_with_the_function_of_its_test"
    assert (name, value) == (ROW, ("verify", function, test.stash[NUMBER], {"case": parameter}))
