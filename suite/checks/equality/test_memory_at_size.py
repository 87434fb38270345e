"""What `--size` compares follows from the memory that there is, which is estimated from above."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from suite.cases.case import Case
from suite.checks.equality.at_size import at_sizes
from suite.checks.equality.calls import INFERENCE
from suite.checks.equality.tasks import F32, F64, PLAIN, WIDE_ORACLE, Group
from suite.comparison.draws import model_and_draw
from suite.comparison.memory import SHARE, Shortage, bytes_needed
from suite.comparison.runs import plain
from suite.shared.marks import impl_params
from suite.shared.usage import peak_bytes

CPU = torch.device("cpu")
CASE = Case(T=12, B=8, I=50, H=64, S=32, Z=4, layer_norm=True)
ENOUGH = 1 << 40


@pytest.mark.parametrize("name", impl_params(["naive", "row_scaled", "batched"]))
def test_an_estimate_is_above_what_a_training_step_holds(name: str) -> None:
    model, sample = model_and_draw(name, CASE, F64, CPU)
    held = peak_bytes(partial(plain, model, CASE, sample), CPU)
    assert held < bytes_needed(name, CASE, F64) < 4 * held


def test_what_does_not_fit_is_said_before_it_is_made() -> None:
    def compared(memory: int) -> dict[str, tuple[Group, Shortage | None]]:
        return {task.name: (task.comparison.group, task.shortage) for task in at_sizes([CASE], [F64], memory)}

    of_oracle, of_naive = (bytes_needed(name, CASE, F64) for name in (WIDE_ORACLE, "naive"))
    assert of_oracle < of_naive
    assert {*compared(ENOUGH).values()} == {(PLAIN, None)}
    of_forward = bytes_needed("naive", CASE, F64, training=False)
    assert of_forward < of_naive
    forward = compared(int(1.8 * max(of_oracle, of_forward)))
    assert forward["naive"] == (INFERENCE, None)
    assert forward["batched"] == (PLAIN, None)
    refused = compared(int(1.6 * of_oracle))
    most = int(SHARE * int(1.6 * of_oracle))
    too_large = Shortage(WIDE_ORACLE, of_oracle, most, of_oracle=True)
    assert {*refused.values()} == {(PLAIN, too_large)}
    assert str(too_large).startswith("The oracle needs about ")


def test_sizes_are_compared_in_the_dtypes_that_are_named() -> None:
    assert {task.comparison.dtype for task in at_sizes([CASE], [F64, F32], ENOUGH)} == {F64, F32}
    every = at_sizes([CASE, replace(CASE, B=9), CASE], [], ENOUGH)
    assert torch.bfloat16 in {task.comparison.dtype for task in every}
    assert len(every) == 2 * len(at_sizes([CASE], [], ENOUGH))
