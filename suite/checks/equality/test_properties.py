"""Properties of every HyperLSTM at any sizes: rewritten calls equal the oracle, and rows of a batch are independent."""

import random
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from impls.definition import dtype_name
from impls.registry import IMPLS, ORACLE
from suite.checks.equality.comparisons import small, wide
from suite.checks.equality.properties import REWRITES, Rewrite, in_chunks, rewritten, with_z_scaled
from suite.conftest import skip_unless_checked
from suite.shared.cases import ROWS, TWO_LAYERS, Case
from suite.shared.compare import (
    DRAWS,
    FLOOR,
    STATE_NAMES,
    Build,
    Results,
    assert_bitwise_equal,
    compare,
    draw,
    implementation,
)
from suite.shared.oracle import Draw, inputs, plain

F64 = torch.float64


# Rewritten calls


def some_case(dtype: torch.dtype, chance: random.Random) -> Case:
    """Sizes that the tolerance rule is for (`suite/shared/cases.py`), T and B maybe 0."""
    # With fewer bits rounding decides, which takes many draws, each of them small.
    exact, layer_norm, state = dtype == F64, chance.random() < 0.5, chance.choice(["none", "plain", "stacked"])
    least = 5 if not exact else 3 if layer_norm else 1
    return Case(
        # No steps from no state are constants, which have no gradient to compare.
        T=chance.randint(int(state == "none"), 6 if exact else 4),
        B=chance.randint(0, 4),
        I=chance.randint(1, 9),
        H=chance.randint(least, 9),
        S=chance.randint(least, 9),
        Z=chance.randint(1, 9),
        L=chance.randint(1, 3 if exact else 2),
        layer_norm=layer_norm,
        state=state,
        strided=chance.random() < 0.5,
    )


#: In fewer bits chunks, which round states, in every dtype; other rewrites in that with the fewest bits.
REWRITTEN = [
    pytest.param(
        rewrite,
        impl.name,
        dtype,
        marks=[pytest.mark.thorough("other rewritten calls")] * ((rewrite, dtype) != (REWRITES[0], F64)),
        id=f"{rewrite.__name__}-{impl.name}-{dtype_name(dtype)}",
    )
    for rewrite in REWRITES
    for impl in IMPLS
    for dtype in impl.dtypes
    if rewrite is in_chunks or dtype in (F64, impl.dtypes[-1])
]


@pytest.mark.parametrize(("rewrite", "name", "dtype"), REWRITTEN)
def test_a_rewritten_call_equals_the_oracle(
    rewrite: Rewrite, name: str, dtype: torch.dtype, device: torch.device
) -> None:
    """Output, states and every gradient, by the tolerance rule, with its number of draws where rounding matters."""
    skip_unless_checked(name, device, dtype)
    chance = random.Random(f"{rewrite.__name__} {name} {dtype}")
    for _ in range(4 if dtype == F64 else 2):
        case = some_case(dtype, chance)
        build = rewritten(implementation(name), rewrite, chance.randrange(2**32))
        worst = compare(build, case, dtype, device, draws=1 if dtype == F64 else DRAWS)[0]
        assert worst.ratio <= 1, f"{case.id}, {worst}"


# Bit for bit, at sizes that are compared by value too


def bits(*dtypes: torch.dtype) -> pytest.MarkDecorator:
    """Parametrisation by implementation, by those of the dtypes that it supports, and by case."""
    rows = [(impl.name, dtype, case) for impl in IMPLS for dtype in impl.dtypes for case in CASES if dtype in dtypes]
    return pytest.mark.parametrize(
        ("name", "dtype", "case"), rows, ids=[f"{name}-{dtype_name(dtype)}-H{case.H}" for name, dtype, case in rows]
    )


#: Rows, units and embeddings enough for several tiles, threads and panels, with edges; and a small case.
CASES = (ROWS, replace(TWO_LAYERS, layer_norm=True))
every_implementation = bits(*FLOOR)


def everything(name: str, case: Case, sample: Draw, build: Build | None = None) -> Results:
    """Output, final states and every gradient of one call."""
    dtype, device = sample.x.dtype, sample.x.device
    model = (build or implementation(name))(case, dtype, device)
    model.load_state_dict(sample.params)
    return plain(model, case, sample)


def of_rows(results: Results, rows: Tensor) -> Results:
    """Results of some rows of the batch, without the gradients of parameters."""
    return {n: value.index_select(-2, rows) for n, value in results.items() if not n.startswith("grad layers")}


def of_row(results: Results, row: int) -> Results:
    """Results of one row of the batch, without the gradients of parameters."""
    return {n: value.select(-2, row) for n, value in results.items() if not n.startswith("grad layers")}


def numbers(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> Draw:
    """Random numbers of a case; skips an implementation that does not run here."""
    skip_unless_checked(name, device, dtype)
    return draw(case, 1, dtype, device)


def test_each_case_of_bits_is_compared_by_value() -> None:
    """A check of bits compares an implementation with itself, so it proves nothing alone."""
    for impl in IMPLS:
        by_value = {(each.case, each.dtype) for each in (*small(impl.name), *wide(impl.name)) if each.default}
        of_bits = {(case, dtype) for name, dtype, case in every_implementation.args[1] if name == impl.name}
        assert impl.literal or of_bits <= by_value, impl.name


@every_implementation
def test_two_runs_give_the_same_bits(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    sample = numbers(name, dtype, case, device)
    assert_bitwise_equal(everything(name, case, sample), everything(name, case, sample))


@pytest.mark.thorough("other claims about bits")
@every_implementation
def test_a_state_of_zeros_equals_no_state(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    sample = numbers(name, dtype, case, device)
    shapes = (case.L, case.B, case.H), (case.L, case.B, case.S)
    zeros = tuple(sample.x.new_zeros(shapes[part > 1]) for part in range(4))
    absent, present = (everything(name, case, sample._replace(state=s)) for s in (None, zeros))
    assert_bitwise_equal({n: value for n, value in present.items() if not n.startswith("grad state")}, absent)


@pytest.mark.thorough("other claims about bits")
# Not in float16, whose smallest numbers are too near for halving to be exact.
@bits(F64, torch.float32)
def test_scaling_z_by_two_changes_no_bit(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    sample, build = numbers(name, dtype, case, device), implementation(name)
    scaled = everything(name, case, sample, rewritten(build, with_z_scaled))
    assert_bitwise_equal(scaled, everything(name, case, sample))


@pytest.mark.thorough("other claims about bits")
@every_implementation
def test_other_rows_change_no_bit_of_a_row(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    """In output, states, and the gradients of input and states; sums over rows change, of course."""
    sample, row = numbers(name, dtype, case, device), case.B - 2

    def others(value: Tensor) -> Tensor:
        changed = value.flip(-2) * 3
        changed.select(-2, row).copy_(value.select(-2, row))
        return changed

    state, cotangents = sample.state and tuple(map(others, sample.state)), tuple(map(others, sample.cotangents))
    changed, expected = (
        everything(name, case, each) for each in (Draw(sample.params, others(sample.x), state, cotangents), sample)
    )
    assert_bitwise_equal(of_row(changed, row), of_row(expected, row))


#: Numbers that a product with AMX takes of a row at a time, in bfloat16.
AMX_NUMBERS = 32


@cache
def keeps_rows_apart(dtype: torch.dtype, device: torch.device) -> bool:
    """True if a NaN in a row of torch's own product stays in it, whatever the inner size.

    With AMX, oneDNN's product of bfloat16 reads past a row's end into the next, whose numbers it multiplies by zero,
    where the inner size is not a multiple of 32 (oneDNN's issue 5717).
    """
    for inner in (AMX_NUMBERS - 7, 2 * AMX_NUMBERS + 16):  # versions differ in where they read on
        rows = torch.ones(75, inner, dtype=dtype, device=device)
        rows[1] = torch.nan
        product = rows @ rows.new_ones(inner, ROWS.H)
        if product[[0, *range(2, 75)]].isnan().any():
            return False
    return True


def whole(case: Case, dtype: torch.dtype, device: torch.device) -> Case:
    """The case, with sizes at which torch's own product keeps rows apart."""
    if keeps_rows_apart(dtype, device):
        return case
    return replace(case, **{n: -(-getattr(case, n) // AMX_NUMBERS) * AMX_NUMBERS for n in "IHSZ"})


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, "huge"], ids=str)
@every_implementation
def test_numbers_that_are_not_finite_stay_in_their_row(
    name: str, dtype: torch.dtype, case: Case, value: float | str, device: torch.device
) -> None:
    """Nor does a number leave it whose square is not finite. In its row as much is finite as in the naive form."""
    small, number = case is CASES[1], torch.finfo(dtype).max ** 0.8 if isinstance(value, str) else value
    case = whole(case, dtype, device)
    sample, row, step = numbers(name, dtype, case, device), case.B // 2, case.T // 2
    clean = everything(name, case, sample)
    others = torch.tensor([other for other in range(case.B) if other != row], device=device)
    for place in inputs(sample) if small and value != -torch.inf else ("x",):
        tensors = {key: tensor.clone() for key, tensor in inputs(sample).items()}
        x, *state = tensors.values()
        begin, at = (step, (step, row, 1)) if place == "x" else (0, (..., row, 1))
        tensors[place][at] = number
        changed = everything(name, case, edited := sample._replace(x=x, state=tuple(state)))
        assert_bitwise_equal(of_rows(changed, others), of_rows(clean, others))
        assert_bitwise_equal(*({"out": results["out"][:begin, row]} for results in (changed, clean)))
        if small and dtype in (F64, torch.float32):
            for key, expected in of_row(everything(ORACLE, case, edited), row).items():
                finite, finite_expected = of_row(changed, row)[key].isfinite(), expected.isfinite()
                # Of a variance that overflows torch's own layer norm is NaN at some widths, and 0 at others.
                assert bool((finite <= finite_expected).all()), key
                assert value == "huge" or finite.equal(finite_expected), key
        if number != number:
            after = changed["out"][begin:, row], *(changed[part][:, row] for part in STATE_NAMES)
            assert all(bool(part.isnan().all()) for part in after)
