"""At the sizes that `--size` names, every implementation that runs here equals row_scaled in float64."""

from functools import partial

import pytest
import torch

from suite.cases.case import Case
from suite.checks.equality.comparisons import F64, Comparison
from suite.checks.equality.parametrised import Check
from suite.comparison.draws import model_and_draw
from suite.comparison.memory import bytes_needed
from suite.comparison.runs import plain
from suite.shared.marks import impl_params
from suite.shared.usage import peak_bytes

CASE = Case(T=12, B=8, I=50, H=64, S=32, Z=4, layer_norm=True)


@pytest.mark.at_size
def test_equals_the_oracle(name: str, sized: Comparison, check: Check) -> None:
    check(name, sized)


@pytest.mark.parametrize("name", impl_params(["naive", "row_scaled", "batched"]))
def test_an_estimate_is_above_what_a_training_step_holds(name: str) -> None:
    cpu = torch.device("cpu")
    model, sample = model_and_draw(name, CASE, F64, cpu)
    held = peak_bytes(partial(plain, model, CASE, sample), cpu)
    assert held < bytes_needed(name, CASE, F64) < 4 * held
