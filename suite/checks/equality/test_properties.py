"""To the bit: runs repeat, and rows of a batch are independent, even if numbers of one are not finite."""

import math
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from impls.definition import dtype_name
from impls.registry import IMPLS, ORACLE, find
from suite.cases.case import Case
from suite.cases.verification import ROWS, VERIFY_FIRST
from suite.checks.equality.values import results_of
from suite.checks.implementations import sample_or_skip
from suite.comparison.draws import Draw, draw, inputs, with_values
from suite.comparison.tensors import OF_SEQUENCES, STATES, Results
from suite.comparison.tolerance import assert_bitwise_equal
from suite.shared.marks import impl_param

#: A small case, beside ROWS, which has rows, units and embeddings enough for several tiles, threads and panels, with
#: edges. Both are compared by value, too, since a check of bits compares an implementation with itself.
SMALL = VERIFY_FIRST[0]


def params() -> list[object]:
    """Implementation, dtype and case of a test.

    Those marked `literal` are too slow at ROWS, and torch's operators are the same in every dtype: one is enough.
    """
    values = []
    for impl in IMPLS:
        for dtype in impl.dtypes[:1] if impl.literal else impl.dtypes:
            for case in (SMALL,) if impl.literal else (ROWS, SMALL):
                values.append(impl_param(impl.name, dtype, case, id=f"{impl.name}-{dtype_name(dtype)}-H{case.H}"))
    return values


every_implementation = pytest.mark.parametrize(("name", "dtype", "case"), params())


@every_implementation
def test_two_runs_give_the_same_bits(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    sample = sample_or_skip(name, dtype, case, device)
    assert_bitwise_equal(results_of(name, case, sample), results_of(name, case, sample))


#: Numbers that a product with AMX takes of a row at a time, in bfloat16.
AMX_NUMBERS = 32


def whole(case: Case, dtype: torch.dtype) -> Case:
    """The case, in bfloat16 with sizes at which torch's own product keeps rows apart.

    With AMX, oneDNN's product of bfloat16 reads past a row's end into the next, whose numbers it multiplies by zero,
    where the inner size is not a multiple of 32 (oneDNN's issue 5717).
    """
    if dtype != torch.bfloat16:
        return case
    sizes: dict[str, Any] = {}
    for size in ("I", "H", "S", "Z"):
        sizes[size] = math.ceil(case.sizes[size] / AMX_NUMBERS) * AMX_NUMBERS
    return replace(case, **sizes)


def of_rows(results: Results, rows: Tensor) -> Results:
    """Results of some rows of the batch, without the gradients of parameters."""
    return {name: value.index_select(-2, rows) for name, value in results.items() if name in OF_SEQUENCES}


def with_number(sample: Draw, place: str, step: int, row: int, number: float) -> Draw:
    """Numbers with another one in a row of x, at a step, or of a given state."""

    def change(argument: str, value: Tensor) -> Tensor:
        if argument == place:
            value = value.clone()
            value[(step, row, 1) if place == "x" else (..., row, 1)] = number
        return value

    return with_values(sample, change)


@cache
def finite_in_the_oracle(dtype: torch.dtype, case: Case, device: torch.device, place: str, number: float) -> Results:
    """Where the naive form's results are finite, of the row that has the number."""
    row, sample = case.B // 2, draw(case, 1, dtype, device)
    results = results_of(ORACLE, case, with_number(sample, place, case.T // 2, row, number))
    return {key: value.isfinite() for key, value in of_rows(results, torch.tensor([row], device=device)).items()}


def assert_as_finite(results: Results, expected: Results, *, exactly: bool) -> None:
    """Assert that no number is finite that is not in the oracle, and if `exactly`, the other way round too."""
    for key, value in results.items():
        finite = value.isfinite()
        assert bool((finite <= expected[key]).all()), key
        assert not exactly or finite.equal(expected[key]), key


@every_implementation
def test_numbers_that_are_not_finite_stay_in_their_row(
    name: str, dtype: torch.dtype, case: Case, device: torch.device
) -> None:
    """Nor does a number leave it whose square is not finite. In its row as much is finite as in the naive form."""
    small, case = case is SMALL, whole(case, dtype)
    sample = sample_or_skip(name, dtype, case, device)
    row, step = case.B // 2, case.T // 2
    own = torch.tensor([row], device=device)
    others = torch.tensor([other for other in range(case.B) if other != row], device=device)
    clean = results_of(name, case, sample)
    huge = torch.finfo(dtype).max ** 0.8
    for number, place in product((torch.nan, torch.inf, huge), inputs(sample) if small else ["x"]):
        results = results_of(name, case, with_number(sample, place, step, row, number))
        assert_bitwise_equal(of_rows(results, others), of_rows(clean, others))
        begin = step if place == "x" else 0
        assert_bitwise_equal({"out": results["out"][:begin, row]}, {"out": clean["out"][:begin, row]})
        if small and dtype == find(name).dtypes[0]:
            expected = finite_in_the_oracle(dtype, case, device, place, number)
            # Of a variance that overflows torch's own layer norm is NaN at some widths, and 0 at others.
            assert_as_finite(of_rows(results, own), expected, exactly=number != huge)
        if math.isnan(number):
            assert bool(results["out"][begin:, row].isnan().all())
            for output in STATES:
                assert bool(results[output][:, row].isnan().all()), output
