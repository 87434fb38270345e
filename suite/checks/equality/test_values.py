"""What the tolerance rule cannot show, since it allows twice the error of the naive form.

In bfloat16 the naive form itself rounds cells and sums at every step, and it shares its layer norm with others.
"""

from dataclasses import replace

import pytest
import torch

from impls.definition import Role, norm
from impls.registry import IMPLS
from suite.checks.equality.catalogue import GROUPS
from suite.checks.equality.comparisons import BF16, F32, F64, WIDE_ORACLE
from suite.checks.equality.values import CASE, WIDER, error_of_cells_far_from_0, results_and_expected
from suite.checks.implementations import sample_or_skip, skip_unless_checked
from suite.comparison.draws import Draw
from suite.comparison.tensors import CELLS, OF_SEQUENCES, Gradient, Result, role
from suite.comparison.tolerance import reference, relative_error
from suite.shared.marks import impl_params

#: Added to 1 in bfloat16 it is lost.
LOST = 2.0**-9

NAMES = [impl.name for impl in IMPLS if impl.hand_written and BF16 in impl.dtypes]


@pytest.mark.parametrize("name", impl_params(NAMES))
def test_cells_and_their_gradients_gather_small_numbers(name: str, device: torch.device) -> None:
    """The gates are open, the cells start at 1, as do the gradients of the last cells, and each step adds a little."""
    sample = sample_or_skip(name, BF16, CASE, device)
    params = {key: torch.zeros_like(value) for key, value in sample.params.items()}
    for key, value in params.items():
        if role(key) is Role.GATE_BIAS:
            value += torch.tensor([20, 20, LOST, 20], device=device)[:, None]
    params["layers.0.z_weight"][2, 2], params["layers.0.d_weight"][2, 2] = 1, LOST / CASE.H
    h, c, h_hat, c_hat = sample.state or ()
    state = (torch.zeros_like(h), torch.ones_like(c), torch.zeros_like(h_hat), torch.ones_like(c_hat))
    out = torch.full_like(sample.cotangents[0], LOST)
    of_ones = Draw(params, sample.x, state, (out, *state))
    results, expected = results_and_expected(name, CASE, of_ones, 2000)  # a few steps
    gathering: tuple[Result, ...] = ("c", "c_hat", *map(Gradient, CELLS))
    for part in gathering:
        assert relative_error(results[part], expected[part]) < 0.02, part
        assert relative_error(torch.ones_like(expected[part]), expected[part]) > 0.05, part  # what is lost


@pytest.mark.parametrize("layer_norm", [False, True], ids=["", "norm"])
@pytest.mark.parametrize("name", impl_params(NAMES))
def test_gradients_of_parameters_gather_equal_numbers(name: str, layer_norm: bool, device: torch.device) -> None:
    """Each step, which is a chunk, adds as much: in bfloat16 a sum stays where it is after 256 of them."""
    case = replace(WIDER, layer_norm=layer_norm)
    sample = sample_or_skip(name, BF16, case, device)
    x = sample.x[:1].expand_as(sample.x)
    cotangents = tuple(value[:1].expand_as(value) for value in sample.cotangents)
    results, expected = results_and_expected(name, case, sample._replace(x=x, cotangents=cotangents), 1)
    for part, value in expected.items():
        if part not in OF_SEQUENCES:
            assert relative_error(results[part], value) < 0.05, part


@pytest.mark.parametrize("name", impl_params(NAMES))
def test_cells_far_from_0_keep_their_digits_before_a_norm(name: str, device: torch.device) -> None:
    skip_unless_checked(name, device, BF16)
    assert error_of_cells_far_from_0(name, device) < 0.05


@pytest.mark.parametrize("dtype", [BF16, torch.float16], ids=str)
def test_moments_of_a_norm_are_not_in_half_precision(dtype: torch.dtype, device: torch.device) -> None:
    """Of numbers whose mean needs more digits, and of some whose variance overflows in float16."""
    numbers = torch.randn(64, generator=torch.Generator().manual_seed(0))
    y = torch.stack([100 + numbers, 1000 * numbers]).to(device, dtype)
    one, zero = torch.ones(64, device=device), torch.zeros(64, device=device)
    normalised, exact = (norm(one.to(q.dtype), zero.to(q.dtype))(q) for q in (y, y.double()))
    assert relative_error(normalised, exact) < 4 * torch.finfo(dtype).eps


def test_a_norm_of_a_mean_far_from_0_loses_few_digits(device: torch.device) -> None:
    """In row_scaled, which the others are compared with; a variance from the mean square loses twice as many."""
    (use,), (case,) = GROUPS["means far from 0"]
    in_float32 = reference(WIDE_ORACLE, case, F32, device, F32, 1, use.change_draw)
    exact = reference(WIDE_ORACLE, case, F64, device, F32, 1, use.change_draw)
    for part, value in exact.items():
        assert relative_error(in_float32[part], value) < 1e-4, part
