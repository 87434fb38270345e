"""What a training step of `batched_cuda` asks of the host, and what it moves, by workload: see `counted.py`."""

from importlib.util import find_spec

import pandas as pd
import pytest

from suite.conftest import Keep
from suite.shared.cases import OF_ONE_LENGTH
from suite.shared.children import rows_of

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed."),
    pytest.mark.thorough("what a training step of batched_cuda asks of the host, counted at full size"),
]
#: The most that a replayed training step asks of the host, whatever its sizes, its gradients and its dropout.
OPERATORS = 40
#: The most that it copies at char-ptb in bfloat16: x, the parameters, out, the states and the gradients, each once.
MOVED = 0.15e9

#: What graphs may hold as a multiple of what a step of plain launches has in memory.
HELD = 1.1


@pytest.fixture(scope="module")
def counted() -> pd.DataFrame:
    """Return a row for each workload and dtype."""
    return rows_of("suite.checks.kernels.counted", TRITON_INTERPRET="1")


@pytest.mark.parametrize("workload", OF_ONE_LENGTH)
def test_a_replayed_step_asks_little_of_the_host(counted: pd.DataFrame, workload: str, keep: Keep) -> None:
    rows = counted[counted["workload"] == workload].drop(columns="parts")
    for row in rows.to_dict("records"):
        keep("graphs", **row)
    assert len(rows) >= 2
    assert (rows["operators"] <= rows["most_operators"]).all()
    assert (rows["most_operators"] <= OPERATORS).all()
    assert (rows["operators"] < rows["plain_operators"]).all()


def test_a_replayed_step_copies_what_must_move(counted: pd.DataFrame) -> None:
    rows = counted[(counted["workload"] == "char-ptb") & (counted["dtype"] == "bfloat16")]
    assert set(rows["layer_norm"]) == {"off", "on"}
    assert (rows["moved_bytes"] <= MOVED).all()


def test_graphs_hold_little_more_than_launches_allocate(counted: pd.DataFrame) -> None:
    assert len(counted) > 2
    assert (counted["held_bytes"] <= HELD * counted["plain_bytes"]).all()


def test_a_long_sequence_asks_as_much_for_each_of_its_parts(counted: pd.DataFrame) -> None:
    (row,) = counted[counted["workload"] == "long"].to_dict("records")
    assert row["parts"] > 1
    assert row["most_operators"] <= OPERATORS * row["parts"]
