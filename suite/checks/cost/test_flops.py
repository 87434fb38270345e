"""torch's counter of FLOPs counts a hand-written gradient as it counts the equations that autograd differentiates."""

from collections.abc import Collection
from dataclasses import replace

import pytest
import torch
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from impls.registry import IMPLS
from suite.candidates import submission
from suite.cases.case import Case
from suite.checks.cost import CASES, OF_TORCH
from suite.checks.implementations import skip_unless_checked
from suite.comparison.draws import model_and_draw
from suite.comparison.runs import arguments, backward, outputs
from suite.comparison.tensors import Argument, X, parameter
from suite.shared import process
from suite.shared.marks import impl_params

HAND_WRITTEN = [impl.name for impl in IMPLS if impl.hand_written and impl.name not in submission.files()]
#: What a call must not import.
NOT_IMPORTED = "torch.utils.flop_counter"


@pytest.fixture(params=impl_params([*HAND_WRITTEN, "batched"]))
def name(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Every implementation with operators that runs here, and one that autograd differentiates."""
    skip_unless_checked(request.param, device)
    return str(request.param)


def flops(name: str, case: Case, device: torch.device, frozen: Collection[Argument] = ()) -> tuple[int, int]:
    """FLOPs of the forward pass and of the backward pass of a call in which all but `frozen` has a gradient."""
    model, sample = model_and_draw(name, case, torch.float32, device)
    leaves = arguments(model, sample, lambda leaf: leaf not in frozen)
    with FlopCounterMode(display=False) as forward:
        results = outputs(model, case, leaves)
    with FlopCounterMode(display=False) as back:
        backward(results, sample)
    return forward.get_total_flops(), back.get_total_flops()


@pytest.mark.parametrize("case", CASES[:1] + CASES[-1:], ids=lambda case: case.id)
def test_a_pass_has_the_flops_of_its_multiply_adds(name: str, case: Case, device: torch.device) -> None:
    """And backward twice as many."""
    assert flops(name, case, device) == (2 * case.multiply_adds(), 4 * case.multiply_adds())


def test_what_is_frozen_takes_no_flops(name: str, device: torch.device) -> None:
    case = replace(CASES[0], L=1)
    T, B, I, H, S, Z = case.T, case.B, case.I, case.H, case.S, case.Z
    _, every = flops(name, case, device)
    weights = tuple(parameter(f"layers.0.{part}") for part in ("weight_x", "hyper_weight_x"))
    products = {
        weights: 4 * (H + S) * I,
        (parameter("layers.0.hyper_weight_s"),): 4 * S * S,
        (parameter("layers.0.z_weight"),): 12 * Z * S,
        (parameter("layers.0.d_weight"),): 12 * H * Z,
        (X, *weights): 4 * (H + S) * I * 2,
    }
    spared = {frozen: every - flops(name, case, device, frozen)[1] for frozen in products}
    assert spared == {frozen: 2 * T * B * numbers for frozen, numbers in products.items()}


def test_an_open_counter_counts_an_operator_that_is_new_to_torch(
    name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call imports the operators, which may be after the counter copied torch's formulas."""
    known = {key: formula for key, formula in flop_counter.flop_registry.items() if "hyperlstm" not in str(key)}
    monkeypatch.setattr(flop_counter, "flop_registry", known)
    assert flops(name, CASES[0], device)[0] == 2 * CASES[0].multiply_adds()


def test_no_call_imports_the_counter() -> None:
    """Its import takes a tenth of a second and more, since it imports Triton."""
    process.run("suite.checks.cost.imported", *OF_TORCH[1:], "auto")
