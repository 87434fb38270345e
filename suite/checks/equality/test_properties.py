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
from suite.checks.equality.properties import REWRITES, Rewrite, in_chunks, rewritten, with_z_scaled
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


def implementations(*dtypes: torch.dtype) -> pytest.MarkDecorator:
    """Parametrisation by implementation and by those of the dtypes that it supports."""
    pairs = [(impl.name, dtype) for impl in IMPLS for dtype in impl.dtypes if dtype in dtypes]
    return pytest.mark.parametrize(
        ("name", "dtype"), pairs, ids=[f"{name}-{dtype_name(dtype)}" for name, dtype in pairs]
    )


every_implementation = implementations(*FLOOR)
#: Per claim about bits; the first is the wide one.
EXAMPLES = 2
#: Rows, units and embeddings enough for several tiles, threads and panels, with edges.
WIDE = Case(T=2, B=37, I=6, H=40, S=20, Z=5, L=2, layer_norm=True, state="stacked")


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


def cases(name: str, dtype: torch.dtype, *, empty: bool = False, least_rows: int = 1) -> st.SearchStrategy[Case]:
    """Sizes that the tolerance rule is for (`suite/shared/cases.py`); one case where each is compiled."""
    if find(name).compiles_each_size:
        return st.sampled_from([case for case in VERIFY_COMPILING if least_rows <= case.B])

    def case(layer_norm: bool) -> st.SearchStrategy[Case]:
        # With fewer bits rounding decides, which takes many draws, each of them small.
        wide = dtype == torch.float64
        least = {False: 1, True: 3}[layer_norm] if wide else 5
        units, layers = st.integers(least, 9), st.integers(1, 3 if wide else 2)
        sizes = {"I": st.integers(1, 9), "H": units, "S": units, "Z": st.integers(1, 9), "L": layers}
        T, B = st.integers(0 if empty else 1, 6 if wide else 4), st.integers(0 if empty else least_rows, 4)
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
    case = data.draw(cases(name, dtype, empty=True))
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
def test_a_rewritten_call_in_fewer_bits_errs_as_the_rule_allows(
    rewrite: Rewrite, name: str, dtype: torch.dtype, device: torch.device, data: st.DataObject
) -> None:
    """Rounding matters here, so it takes the rule's own number of draws."""
    check(rewrite, name, dtype, device, data, draws=DRAWS)


# Bit for bit


def everything(build: Build, case: Case, given: Draw) -> Results:
    """Output, final states and every gradient of one call on given numbers."""
    dtype, device = given.x.dtype, given.x.device
    model = build(case, dtype, device)
    model.load_state_dict(given.params)
    x = given.x.detach().requires_grad_()
    state = None if given.state is None else tuple(part.detach().requires_grad_() for part in given.state)
    out, last = model(x, state)
    torch.autograd.backward((out, *last), given.cotangents)
    leaves = {"x": x, **{f"state {n}": part for n, part in zip(STATE_NAMES, state or (), strict=False)}}
    gradients = {f"grad {n}": leaf.grad for n, leaf in [*leaves.items(), *model.named_parameters()]}
    results = {"out": out, **dict(zip(STATE_NAMES, last, strict=True))} | gradients
    return {n: value.detach().clone() for n, value in results.items() if value is not None}


def of_row(results: Results, row: int) -> Results:
    """Results of one row of the batch, without the gradients of parameters."""
    return {n: value.select(-2, row) for n, value in results.items() if not n.startswith("grad layers")}


def case_and_draw(
    data: st.DataObject, name: str, dtype: torch.dtype, device: torch.device, *, least_rows: int = 1
) -> tuple[Case, Draw]:
    """Draw a case, the wide one first, and its numbers."""
    skip_unless_available(name, device, dtype)
    drawn = cases(name, dtype, least_rows=least_rows)
    case = data.draw(drawn if find(name).compiles_each_size else st.one_of(st.just(WIDE), drawn))
    return case, draw(case, data.draw(st.integers(0, 2**32 - 1)), dtype, device)


def with_other_rows(given: Draw, row: int, others: Callable[[Tensor], Tensor]) -> Draw:
    """The numbers with all rows but one changed."""

    def changed(value: Tensor) -> Tensor:
        result = others(value)
        result.select(-2, row).copy_(value.select(-2, row))
        return result

    state = None if given.state is None else tuple(map(changed, given.state))
    return Draw(given.params, changed(given.x), state, tuple(map(changed, given.cotangents)))


@every_implementation
@fixed(examples=EXAMPLES)
@given(data=st.data())
def test_two_runs_give_the_same_bits(name: str, dtype: torch.dtype, device: torch.device, data: st.DataObject) -> None:
    case, given = case_and_draw(data, name, dtype, device)
    build = implementation(name)
    assert_bitwise_equal(everything(build, case, given), everything(build, case, given))


@pytest.mark.thorough("other claims about bits")
@every_implementation
@fixed(examples=EXAMPLES)
@given(data=st.data())
def test_a_state_of_zeros_equals_no_state(
    name: str, dtype: torch.dtype, device: torch.device, data: st.DataObject
) -> None:
    case, given = case_and_draw(data, name, dtype, device)
    shapes = (case.L, case.B, case.H), (case.L, case.B, case.S)
    zeros = tuple(given.x.new_zeros(shapes[part > 1]) for part in range(4))
    absent, present = (everything(implementation(name), case, given._replace(state=s)) for s in (None, zeros))
    assert_bitwise_equal({n: value for n, value in present.items() if not n.startswith("grad state")}, absent)


@pytest.mark.thorough("other claims about bits")
# Not in float16, whose smallest numbers are too near for halving to be exact.
@implementations(torch.float64, torch.float32)
@fixed(examples=EXAMPLES)
@given(data=st.data())
def test_z_scaled_by_a_power_of_two_changes_no_bit(
    name: str, dtype: torch.dtype, device: torch.device, data: st.DataObject
) -> None:
    case, given = case_and_draw(data, name, dtype, device)
    scaled = rewritten(implementation(name), with_z_scaled, data.draw(st.integers(0, 2**32 - 1)))
    assert_bitwise_equal(everything(scaled, case, given), everything(implementation(name), case, given))


@pytest.mark.thorough("other claims about bits")
@every_implementation
@fixed(examples=EXAMPLES)
@given(data=st.data())
def test_a_row_keeps_its_bits_whatever_the_other_rows(
    name: str, dtype: torch.dtype, device: torch.device, data: st.DataObject
) -> None:
    """In output, states, and the gradients of input and states; sums over rows change, of course."""
    case, given = case_and_draw(data, name, dtype, device, least_rows=2)
    row = data.draw(st.integers(0, case.B - 1))
    other = with_other_rows(given, row, lambda value: value.flip(-2) * 3)
    found, expected = (everything(implementation(name), case, numbers) for numbers in (other, given))
    assert_bitwise_equal(of_row(found, row), of_row(expected, row))


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
        product = rows @ rows.new_ones(inner, WIDE.H)
        apart &= bool(product[0].isfinite().all() and product[2:].isfinite().all())
    return apart


def case_and_draw_of_rows(
    data: st.DataObject, name: str, dtype: torch.dtype, device: torch.device
) -> tuple[Case, Draw]:
    """Draw a case of at least two rows that torch's own product keeps apart, and its numbers."""
    case, given = case_and_draw(data, name, dtype, device, least_rows=2)
    if keeps_rows_apart(dtype, device):
        return case, given
    whole = replace(case, **{n: -(-getattr(case, n) // AMX_NUMBERS) * AMX_NUMBERS for n in "IHSZ"})
    return whole, draw(whole, 0, dtype, device)


@every_implementation
@fixed(examples=EXAMPLES)
@given(data=st.data())
def test_a_nan_or_inf_stays_in_its_row_and_a_nan_fills_it_from_its_step_on(
    name: str, dtype: torch.dtype, device: torch.device, data: st.DataObject
) -> None:
    case, given = case_and_draw_of_rows(data, name, dtype, device)
    row, step = data.draw(st.integers(0, case.B - 1)), data.draw(st.integers(0, case.T - 1))
    value = data.draw(st.sampled_from([float("nan"), float("inf"), float("-inf")]))
    x = given.x.clone()
    x[step, row, data.draw(st.integers(0, case.I - 1))] = value
    found, expected = (everything(implementation(name), case, given._replace(x=each)) for each in (x, given.x))
    for other in set(range(case.B)) - {row}:
        assert_bitwise_equal(of_row(found, other), of_row(expected, other))
    before = {"out": found["out"][:step, row]}, {"out": expected["out"][:step, row]}
    assert_bitwise_equal(*before)
    if value != value:
        after = found["out"][step:, row], *(found[part][:, row] for part in STATE_NAMES)
        assert all(bool(part.isnan().all()) for part in after)
