"""What is computed with torch's operators multiplies as often as its equations do, and calls no more operators.

A slip that computes something twice changes no result, so only a count can find it.
"""

import re
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from impls import batched_cpu
from impls.definition import Inputs
from impls.gradient import operator
from impls.gradient.chunks import bounds, limited
from impls.registry import find
from suite.cases.case import Case, Start
from suite.checks.cost.counted import CASES, OF_TORCH, Operators
from suite.checks.implementations import skip_unless_checked
from suite.checks.triton.launched import recorded
from suite.comparison.draws import model_and_draw
from suite.comparison.runs import arguments, outputs, plain
from suite.shared.marks import impl_param, impl_params
from suite.shared.usage import Called

CPU = torch.device("cpu")


def literally(case: Case) -> int:
    """Multiply-adds where weights are built: of the main LSTM's, Z to build each, and one to multiply with it."""
    H, S, Z = case.H, case.S, case.Z
    steps = [4 * H * (H + I) * (Z + 1) + 4 * S * (H + I + S) + 12 * Z * S + 4 * H * Z for I in case.inputs]
    return case.tokens * sum(steps)


def recomputed(case: Case, residuals: bool) -> int:
    """Multiply-adds that a hand-written backward pass recomputes, and with h too if no residuals are saved.

    They are the products with x, z, d, and the hyper LSTM's product with h_hat.
    """
    H, S, Z = case.H, case.S, case.Z
    steps = [4 * (H + S) * I + 12 * Z * (H + S) + 4 * S * S for I in case.inputs]
    return case.tokens * (sum(steps) + (0 if residuals else case.L * 4 * (H + S) * H))


def operators(name: str, case: Case, dtype: torch.dtype = torch.float64) -> tuple[Operators, Operators]:
    """Those of a forward pass without gradient, and of a training step in which everything has a gradient."""
    model, sample = model_and_draw(name, case, dtype, CPU)
    leaves = arguments(model, sample)
    with torch.no_grad(), Operators() as forward:
        outputs(model, case, leaves)
    with Operators() as train:
        plain(model, case, sample)
    return forward, train


@pytest.mark.parametrize(
    ("name", "case"),
    # The reference forms are slow.
    [impl_param(name, case) for name in OF_TORCH for case in (CASES[::4] if find(name).literal else CASES)],
    ids=lambda value: value.id if isinstance(value, Case) else value,
)
def test_each_product_of_the_equations_is_computed_once(name: str, case: Case) -> None:
    """And twice as many backward, whatever the chunks."""
    once = literally(case) if find(name).builds_weights else case.multiply_adds()
    if not find(name).hand_written:
        forward, train = operators(name, case)
        assert (forward.multiply_adds, train.multiply_adds) == (once, 3 * once)
        return
    for residuals, rows in ((True, 1 << 62), (False, 4)):
        with limited("cpu", residuals=residuals, rows=rows):
            forward, train = operators(name, case)
        assert (forward.multiply_adds, train.multiply_adds) == (once, 3 * once + recomputed(case, residuals))


class Counts(NamedTuple):
    """What one pass calls, without views."""

    products: int
    operators: int
    written: int  # elements


#: By implementation and form, the most of a forward pass and of a training step. Where a number falls, lower it here.
MOST = {
    ("row_scaled", "plain"): (Counts(704, 1637, 772096), Counts(2112, 6990, 3582064)),
    ("batched", "plain"): (Counts(66, 463, 817184), Counts(198, 1344, 2142088)),
    ("batched", "all"): (Counts(66, 625, 1031200), Counts(198, 2106, 2720840)),
    ("batched", "packed"): (Counts(67, 487, 456856), Counts(201, 1436, 1342384)),
    ("deferred", "plain"): (Counts(65, 376, 794112), Counts(175, 897, 2431408)),
    ("deferred", "all"): (Counts(65, 538, 1008128), Counts(175, 1295, 3558384)),
    ("deferred", "packed"): (Counts(65, 381, 397864), Counts(175, 963, 1395342)),
    # Around its C++, which computes the products.
    ("batched_cpu", "plain"): (Counts(0, 9, 16384), Counts(0, 32, 115856)),
    ("batched_cpu", "all"): (Counts(0, 11, 31744), Counts(0, 42, 131536)),
    ("batched_cpu", "packed"): (Counts(0, 15, 31048), Counts(0, 73, 208688)),
}
#: By this factor versions of torch may differ, in all but the products.
VERSIONS = 1.02
#: More rows than one product sums over, so that the lengths of chunks count.
LONG = Case(T=16, B=32, I=8, H=24, S=8, Z=2, state=Start.STACKED)
FORMS = {
    "plain": LONG,
    "all": replace(LONG, layer_norm=True, recurrent_dropout=0.5),
    "packed": replace(LONG, lengths=(16, *[11] * 15, *[5] * 16)),
}


@pytest.mark.parametrize(("name", "form"), [impl_param(name, form) for name, form in MOST])
def test_a_pass_calls_no_more_operators(name: str, form: str) -> None:
    skip_unless_checked(name, CPU)  # which imports it: that may call operators
    for counted, most in zip(operators(name, FORMS[form], torch.float32), MOST[name, form], strict=True):
        counts = Counts(counted.products, counted.number, counted.written)
        assert counts.products == most.products
        assert counts.operators <= VERSIONS * most.operators
        assert counts.written <= VERSIONS * most.written


class Dtypes(TorchDispatchMode):
    """The dtypes of all numbers that torch's operators give."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = set[torch.dtype]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen |= {q.dtype for q in tree_leaves(result) if isinstance(q, Tensor) and q.is_floating_point()}
        return result


@pytest.mark.parametrize("name", impl_params(OF_TORCH))
def test_a_pass_computes_in_its_dtype_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums in float64 would be more exact and take twice as long."""
    skip_unless_checked(name, CPU)
    monkeypatch.setattr(operator, "_observed", lambda *_: False)  # else no mode sees below an operator
    model, sample = model_and_draw(name, FORMS["all"], torch.float32, CPU)
    with Dtypes() as dtypes:
        plain(model, FORMS["all"], sample)
    assert dtypes.seen == {torch.float32}


def test_gradients_are_not_zeroed_before_they_are_written() -> None:
    """With large weights and few tokens that would take as long as the step."""
    skip_unless_checked("batched_cpu", CPU)
    model, sample = model_and_draw("batched_cpu", FORMS["plain"], torch.float32, CPU)
    with mock.patch.object(operator, "_observed", return_value=False), Called() as called:
        plain(model, FORMS["plain"], sample)
    assert {"aten::zeros", "aten::zeros_like", "aten::zero_", "aten::fill_"}.isdisjoint(called.names)


@pytest.mark.parametrize("name", impl_params(OF_TORCH))
def test_masks_are_split_once_a_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step they would take time that grows with the square of T."""
    masks = vars(Inputs)["masks"].fget
    split = mock.Mock(wraps=masks)
    monkeypatch.setattr(Inputs, "masks", property(lambda inputs: split(inputs)))
    operators(name, FORMS["all"], torch.float32)
    assert split.call_count == 2, "one for each of two forward passes"


@pytest.mark.parametrize(("residuals", "numbers"), [(True, 10), (False, 20)], ids=["saved", "recomputed"])
def test_a_chunk_of_batched_cpu_is_as_long_as_its_limit_allows(
    residuals: bool, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arrays have so many elements for each of out; short chunks make short products and many."""
    skip_unless_checked("batched_cpu", CPU)
    cut = mock.Mock(wraps=bounds)
    monkeypatch.setattr(batched_cpu, "bounds", cut)
    row = numbers * LONG.H * torch.float32.itemsize
    with limited("cpu", backward=4 * LONG.B * row, residuals=residuals):
        operators("batched_cpu", LONG, torch.float32)
    assert [bounds(*call.args) for call in cut.mock_calls] == [[0, 4, 8, 12, 16]]


def test_batched_cpu_saves_products_with_many_features() -> None:
    """From 96 on, to read 4H numbers is faster than to multiply so many features again."""
    saved = {I: find("batched_cpu").run.__self__.of.residuals(I, 24, 8) for I in (95, 96, 1000)}  # type: ignore[attr-defined]
    assert saved == {95: 4 * (24 + 8), 96: 4 * (24 + 8) + 4 * 24, 1000: 4 * (24 + 8) + 4 * 24}


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
@pytest.mark.parametrize("form", FORMS)
def test_batched_cuda_recomputes_products_with_h_only_where_they_were_not_saved(form: str) -> None:
    """At any length of a chunk: those with x forward and back, and five weights' gradients."""
    from impls.batched_cuda.split import H100

    for residuals, products in ((True, 8), (False, 10)):
        _, called = recorded(FORMS[form], H100, "bfloat16", residuals=residuals)
        assert len([name for name in called if re.fullmatch(r"aten::(b|add|baddb)?mm_?", name)]) == products
