"""To the bit: runs repeat, and rows of a batch are independent, even if numbers of one are not finite."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from impls.definition import dtype_name
from impls.registry import IMPLS, ORACLE, find
from suite.cases.case import Case
from suite.cases.verification import ROWS, VERIFY_FIRST
from suite.checks.equality.conftest import numbers
from suite.checks.equality.values import everything
from suite.comparison.draws import Draw, changed, draw, inputs
from suite.comparison.tensors import OF_SEQUENCES, STATE_NAMES, Argument, Results, X
from suite.comparison.tolerance import assert_bitwise_equal
from suite.shared.marks import impl_param

#: Rows, units and embeddings enough for several tiles, threads and panels, with edges; and a small case. Both are
#: compared by value, too, since a check of bits compares an implementation with itself; literal ones are not at ROWS.
CASES = (ROWS, VERIFY_FIRST[0])
every_implementation = pytest.mark.parametrize(
    ("name", "dtype", "case"),
    [
        impl_param(impl.name, dtype, case, id=f"{impl.name}-{dtype_name(dtype)}-H{case.H}")
        for impl in IMPLS
        for dtype in impl.dtypes
        for case in CASES
        if not (impl.literal and case is ROWS)
    ],
)


@every_implementation
def test_two_runs_give_the_same_bits(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    sample = numbers(name, dtype, case, device)
    assert_bitwise_equal(everything(name, case, sample), everything(name, case, sample))


#: Numbers that a product with AMX takes of a row at a time, in bfloat16.
AMX_NUMBERS = 32


def whole(case: Case, dtype: torch.dtype) -> Case:
    """The case, in bfloat16 with sizes at which torch's own product keeps rows apart.

    With AMX, oneDNN's product of bfloat16 reads past a row's end into the next, whose numbers it multiplies by zero,
    where the inner size is not a multiple of 32 (oneDNN's issue 5717).
    """
    if dtype != torch.bfloat16:
        return case
    return replace(case, **{n: -(-getattr(case, n) // AMX_NUMBERS) * AMX_NUMBERS for n in "IHSZ"})


def of_rows(results: Results, rows: Tensor) -> Results:
    """Results of some rows of the batch, without the gradients of parameters."""
    return {name: value.index_select(-2, rows) for name, value in results.items() if name in OF_SEQUENCES}


def with_number(sample: Draw, place: Argument, step: int, row: int, number: float) -> Draw:
    """Numbers with another one in a row of x, at a step, or of a given state."""

    def change(argument: Argument, value: Tensor) -> Tensor:
        if argument == place:
            value = value.clone()
            value[(step, row, 1) if place == X else (..., row, 1)] = number
        return value

    return changed(sample, change)


@cache
def finite_in_the_oracle(
    dtype: torch.dtype, case: Case, device: torch.device, place: Argument, number: float
) -> Results:
    """Where the naive form's results are finite, of the row that has the number."""
    row, sample = case.B // 2, draw(case, 1, dtype, device)
    results = everything(ORACLE, case, with_number(sample, place, case.T // 2, row, number))
    return {key: value.isfinite() for key, value in of_rows(results, torch.tensor([row], device=device)).items()}


@every_implementation
def test_numbers_that_are_not_finite_stay_in_their_row(
    name: str, dtype: torch.dtype, case: Case, device: torch.device
) -> None:
    """Nor does a number leave it whose square is not finite. In its row as much is finite as in the naive form."""
    small, case = case is CASES[1], whole(case, dtype)
    sample, row, step = numbers(name, dtype, case, device), case.B // 2, case.T // 2
    own, *others = (torch.tensor(rows, device=device) for rows in ([row], [r for r in range(case.B) if r != row]))
    clean, huge = everything(name, case, sample), torch.finfo(dtype).max ** 0.8
    for number in (torch.nan, torch.inf, huge):
        for place in inputs(sample) if small else [X]:
            results = everything(name, case, with_number(sample, place, step, row, number))
            assert_bitwise_equal(of_rows(results, *others), of_rows(clean, *others))
            begin = step if place == X else 0
            assert_bitwise_equal(*({"out": each["out"][:begin, row]} for each in (results, clean)))
            if small and dtype == find(name).dtypes[0]:
                expected = finite_in_the_oracle(dtype, case, device, place, number)
                for key, finite in ((key, value.isfinite()) for key, value in of_rows(results, own).items()):
                    # Of a variance that overflows torch's own layer norm is NaN at some widths, and 0 at others.
                    assert bool((finite <= expected[key]).all()), key
                    assert number == huge or finite.equal(expected[key]), key
            if number != number:
                after = results["out"][begin:, row], *(results[part][:, row] for part in STATE_NAMES)
                assert all(bool(part.isnan().all()) for part in after)
