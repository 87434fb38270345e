"""Properties of every HyperLSTM at any sizes: rewritten calls equal the oracle, and rows of a batch are independent."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from impls.definition import dtype_name
from impls.registry import IMPLS, find
from suite.checks.equality.comparisons import small, wide
from suite.checks.equality.properties import REWRITES, Rewrite, in_chunks, rewritten, with_z_scaled
from suite.checks.equality.uses import plain
from suite.conftest import skip_reason
from suite.shared.cases import VERIFY_COMPILING, Case
from suite.shared.compare import (
    DRAWS,
    FLOOR,
    STATE_NAMES,
    Build,
    Draw,
    Results,
    assert_bitwise_equal,
    compare,
    draw,
    implementation,
)
from suite.shared.wide import ROWS


def implementations(*dtypes: torch.dtype) -> pytest.MarkDecorator:
    """Parametrisation by implementation and by those of the dtypes that it supports."""
    pairs = [(impl.name, dtype) for impl in IMPLS for dtype in impl.dtypes if dtype in dtypes]
    return pytest.mark.parametrize(
        ("name", "dtype"), pairs, ids=[f"{name}-{dtype_name(dtype)}" for name, dtype in pairs]
    )


def fixed(examples: int) -> settings:
    """Settings with which every run draws the same examples, without shrinking: sizes are small."""
    return settings(
        max_examples=examples,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def cases(name: str, dtype: torch.dtype) -> st.SearchStrategy[Case]:
    """Sizes that the tolerance rule is for (`suite/shared/cases.py`), T and B maybe 0; few where each is compiled."""
    if find(name).compiles_each_size:
        return st.sampled_from(VERIFY_COMPILING)

    def case(layer_norm: bool) -> st.SearchStrategy[Case]:
        # With fewer bits rounding decides, which takes many draws, each of them small.
        wide = dtype == torch.float64
        least = {False: 1, True: 3}[layer_norm] if wide else 5
        units, layers = st.integers(least, 9), st.integers(1, 3 if wide else 2)
        sizes = {"I": st.integers(1, 9), "H": units, "S": units, "Z": st.integers(1, 9), "L": layers}
        T, B = st.integers(0, 6 if wide else 4), st.integers(0, 4)
        states, strided = st.sampled_from(["none", "plain", "stacked"]), st.booleans()
        drawn = st.builds(Case, T=T, B=B, **sizes, layer_norm=st.just(layer_norm), state=states, strided=strided)
        # No steps from no state are constants, which have no gradient to compare.
        return drawn.filter(lambda case: case.T > 0 or case.state != "none")

    return st.booleans().flatmap(case)


def skip_unless_available(name: str, device: torch.device, dtype: torch.dtype) -> None:
    reason = skip_reason(name, device, dtype, VERIFY_COMPILING[0])
    if reason:
        pytest.skip(reason)


# Rewritten calls


every_rewrite = pytest.mark.parametrize(
    "rewrite",
    [REWRITES[0], *(pytest.param(r, marks=pytest.mark.thorough("other rewritten calls")) for r in REWRITES[1:])],
    ids=[rewrite.__name__ for rewrite in REWRITES],
)


def check(
    rewrite: Rewrite, name: str, dtype: torch.dtype, device: torch.device, data: st.DataObject, draws: int
) -> None:
    skip_unless_available(name, device, dtype)
    case = data.draw(cases(name, dtype))
    build = rewritten(implementation(name), rewrite, data.draw(st.integers(0, 2**32 - 1)))
    worst = compare(build, case, dtype, device, draws=draws)[0]
    assert worst.ratio <= 1, str(worst)


@implementations(torch.float64)
@every_rewrite
@fixed(examples=4)
@given(data=st.data())
def test_a_rewritten_call_equals_the_oracle(
    rewrite: Rewrite, name: str, dtype: torch.dtype, device: torch.device, data: st.DataObject
) -> None:
    """Output, states and every gradient, by the tolerance rule; T and B may be 0."""
    check(rewrite, name, dtype, device, data, draws=1)


def in_fewer_bits() -> pytest.MarkDecorator:
    """Parametrisation: chunks, which round states, in every such dtype; other rewrites in that with the fewest bits."""
    narrow = {impl.name: [dtype for dtype in impl.dtypes if dtype != torch.float64] for impl in IMPLS}
    rows = [
        (rewrite, name, dtype)
        for rewrite in REWRITES
        for name, dtypes in narrow.items()
        for dtype in (dtypes if rewrite is in_chunks else dtypes[-1:])
    ]
    ids = [f"{rewrite.__name__}-{name}-{dtype_name(dtype)}" for rewrite, name, dtype in rows]
    return pytest.mark.parametrize(("rewrite", "name", "dtype"), rows, ids=ids)


@pytest.mark.thorough("rewritten calls in fewer bits")
@in_fewer_bits()
@fixed(examples=2)
@given(data=st.data())
def test_a_rewritten_call_in_fewer_bits_passes(
    rewrite: Rewrite, name: str, dtype: torch.dtype, device: torch.device, data: st.DataObject
) -> None:
    """Rounding matters here, so it takes the rule's own number of draws."""
    check(rewrite, name, dtype, device, data, draws=DRAWS)


# Bit for bit, at sizes that are compared by value too


def bits(*dtypes: torch.dtype) -> pytest.MarkDecorator:
    """Parametrisation by implementation, by those of the dtypes that it supports, and by case."""
    rows = [
        (impl.name, dtype, case)
        for impl in IMPLS
        for dtype in impl.dtypes
        for case in ((VERIFY_COMPILING[1],) if impl.compiles_each_size else CASES)
        if dtype in dtypes
    ]
    return pytest.mark.parametrize(
        ("name", "dtype", "case"), rows, ids=[f"{name}-{dtype_name(dtype)}-H{case.H}" for name, dtype, case in rows]
    )


#: Rows, units and embeddings enough for several tiles, threads and panels, with edges; and a small case.
CASES = (ROWS, VERIFY_COMPILING[1])
every_implementation = bits(*FLOOR)


def everything(name: str, case: Case, given: Draw, build: Build | None = None) -> Results:
    """Output, final states and every gradient of one call."""
    dtype, device = given.x.dtype, given.x.device
    model = (build or implementation(name))(case, dtype, device)
    model.load_state_dict(given.params)
    return plain(model, case, given)


def of_row(results: Results, row: int) -> Results:
    """Results of one row of the batch, without the gradients of parameters."""
    return {n: value.select(-2, row) for n, value in results.items() if not n.startswith("grad layers")}


def numbers(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> Draw:
    """Random numbers of a case; skips an implementation that does not run here."""
    skip_unless_available(name, device, dtype)
    return draw(case, 1, dtype, device)


def with_other_rows(given: Draw, row: int, others: Callable[[Tensor], Tensor]) -> Draw:
    """The numbers with all rows but one changed."""

    def changed(value: Tensor) -> Tensor:
        result = others(value)
        result.select(-2, row).copy_(value.select(-2, row))
        return result

    state = None if given.state is None else tuple(map(changed, given.state))
    return Draw(given.params, changed(given.x), state, tuple(map(changed, given.cotangents)))


def test_each_case_of_bits_is_compared_by_value() -> None:
    """A check of bits compares an implementation with itself, so it proves nothing alone."""
    for impl in IMPLS:
        by_value = {(each.case, each.dtype) for each in (*small(impl.name), *wide(impl.name)) if each.default}
        of_bits = {(case, dtype) for name, dtype, case in every_implementation.args[1] if name == impl.name}
        assert impl.literal or of_bits <= by_value, impl.name


@every_implementation
def test_two_runs_give_the_same_bits(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    given = numbers(name, dtype, case, device)
    assert_bitwise_equal(everything(name, case, given), everything(name, case, given))


@pytest.mark.thorough("other claims about bits")
@every_implementation
def test_a_state_of_zeros_equals_no_state(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    given = numbers(name, dtype, case, device)
    shapes = (case.L, case.B, case.H), (case.L, case.B, case.S)
    zeros = tuple(given.x.new_zeros(shapes[part > 1]) for part in range(4))
    absent, present = (everything(name, case, given._replace(state=s)) for s in (None, zeros))
    assert_bitwise_equal({n: value for n, value in present.items() if not n.startswith("grad state")}, absent)


@pytest.mark.thorough("other claims about bits")
# Not in float16, whose smallest numbers are too near for halving to be exact.
@bits(torch.float64, torch.float32)
def test_scaling_z_by_two_changes_no_bit(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    given, build = numbers(name, dtype, case, device), implementation(name)
    scaled = everything(name, case, given, rewritten(build, with_z_scaled))
    assert_bitwise_equal(scaled, everything(name, case, given))


@pytest.mark.thorough("other claims about bits")
@every_implementation
def test_other_rows_change_no_bit_of_a_row(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> None:
    """In output, states, and the gradients of input and states; sums over rows change, of course."""
    given, row = numbers(name, dtype, case, device), case.B - 2
    other = with_other_rows(given, row, lambda value: value.flip(-2) * 3)
    changed, expected = (everything(name, case, each) for each in (other, given))
    assert_bitwise_equal(of_row(changed, row), of_row(expected, row))


#: Numbers that a product with AMX takes of a row at a time, in bfloat16.
AMX_NUMBERS = 32


@cache
def keeps_rows_apart(dtype: torch.dtype, device: torch.device) -> bool:
    """True if a NaN in a row of torch's own product stays in it, whatever the inner size.

    With AMX, oneDNN's product of bfloat16 reads past a row's end into the next, whose numbers it multiplies by zero,
    where the inner size is not a multiple of 32 (oneDNN's issue 5717).
    """
    apart = True
    for inner in (AMX_NUMBERS - 7, 2 * AMX_NUMBERS + 16):  # versions differ in where they read on
        rows = torch.ones(75, inner, dtype=dtype, device=device)
        rows[1] = torch.nan
        product = rows @ rows.new_ones(inner, ROWS.H)
        apart &= bool(product[0].isfinite().all() and product[2:].isfinite().all())
    return apart


def whole(case: Case, dtype: torch.dtype, device: torch.device) -> Case:
    """The case, with sizes at which torch's own product keeps rows apart."""
    if keeps_rows_apart(dtype, device):
        return case
    return replace(case, **{n: -(-getattr(case, n) // AMX_NUMBERS) * AMX_NUMBERS for n in "IHSZ"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@every_implementation
def test_nan_and_inf_stay_in_their_row(
    name: str, dtype: torch.dtype, case: Case, value: float, device: torch.device
) -> None:
    """And a NaN fills its row from its step on."""
    case = whole(case, dtype, device)
    given, row, step = numbers(name, dtype, case, device), case.B // 2, case.T // 2
    x = given.x.clone()
    x[step, row, case.I // 2] = value
    changed, expected = (everything(name, case, given._replace(x=each)) for each in (x, given.x))
    for other in set(range(case.B)) - {row}:
        assert_bitwise_equal(of_row(changed, other), of_row(expected, other))
    before = {"out": changed["out"][:step, row]}, {"out": expected["out"][:step, row]}
    assert_bitwise_equal(*before)
    if value != value:
        after = changed["out"][step:, row], *(changed[part][:, row] for part in STATE_NAMES)
        assert all(bool(part.isnan().all()) for part in after)
