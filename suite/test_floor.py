"""The model of a step's floor counts what the implementation starts, and what the design page counts."""

from dataclasses import replace
from importlib.util import find_spec

import pytest

from .cases import WORKLOADS
from .floor import CARDS, GAP, SIZES, floor, lstm_seconds, outside_multiply_adds

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")


@pytest.mark.parametrize(("workload", "phases"), [("char-ptb", 2), ("enwik8", 3), ("handwriting", 2)])
@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "norm"])
def test_counts_the_phases(workload: str, phases: int, layer_norm: bool) -> None:
    model = floor(replace(WORKLOADS[workload], layer_norm=layer_norm), "H100")
    assert len(model.forward) == phases + 2 * layer_norm
    assert len(model.backward) == 3 + 2 * layer_norm


@pytest.mark.parametrize("workload", SIZES)
def test_forward_multiply_adds_are_the_design_pages(workload: str) -> None:
    case = WORKLOADS[workload]
    model = floor(case, "A100")
    inside = sum(phase.multiply_adds for phase in model.forward)
    with_x = 4 * (case.H + case.S) * case.I * case.B
    whole = replace(case, T=1).multiply_adds()
    # What each tile makes of z again comes on top.
    assert whole <= inside + with_x <= 1.15 * whole


@pytest.mark.parametrize("workload", SIZES)
def test_training_multiply_adds_are_three_passes_and_what_is_rebuilt(workload: str) -> None:
    case = WORKLOADS[workload]
    whole = replace(case, T=1).multiply_adds()
    inside = sum(phase.multiply_adds for phase in floor(case, "A100").backward)
    with_x = 4 * (case.H + case.S) * case.I * case.B
    # Back through a step: all but the products with x, whose input wants no gradient.
    assert inside == whole - with_x
    assert whole < outside_multiply_adds(case) < 2.2 * whole


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("workload", SIZES)
def test_a_floor_is_no_less_than_its_gaps_and_an_lstms(workload: str, card: str) -> None:
    model = floor(WORKLOADS[workload], card)
    assert model.forward_seconds >= GAP * len(model.forward)
    assert model.forward_seconds > lstm_seconds(WORKLOADS[workload], card)
    assert model.train_seconds > 2 * model.forward_seconds
