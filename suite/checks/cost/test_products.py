"""What is computed with torch's operators multiplies as often as its equations do, and copies no weight."""

from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from impls import deferred
from impls.gradient import operator
from impls.gradient.chunks import bounds, limited
from impls.registry import find
from suite.cases.case import Case
from suite.checks.cost import CASES, OF_TORCH
from suite.checks.implementations import skip_unless_checked
from suite.comparison.draws import model_and_draw
from suite.comparison.runs import arguments, outputs, plain
from suite.shared.marks import impl_param, impl_params

CPU = torch.device("cpu")


class Operators(TorchDispatchMode):
    """Torch's operators that are called, views left out, also below the operators of this project.

    multiply_adds: of products of matrices. sizes: elements of each result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = 0
        self.sizes = list[int]()
        # Under a mode a hand-written gradient would be called as an operator, below which no mode sees anything.
        self._eager = mock.patch.object(operator, "_observed", return_value=False)

    def __enter__(self) -> "Operators":
        self._eager.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._eager.stop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        formula = flop_registry.get(func.overloadpacket)
        if formula:
            self.multiply_adds += formula(*args, **options, out_val=result) // 2
        if not func.is_view:
            self.sizes += [q.numel() for q in tree_leaves(result) if isinstance(q, Tensor)]
        return result


def of_built_weights(case: Case) -> int:
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


@pytest.mark.parametrize(
    ("name", "case"),
    # The reference forms are slow.
    [impl_param(name, case) for name in OF_TORCH for case in (CASES[::4] if find(name).literal else CASES)],
    ids=lambda value: value.id if isinstance(value, Case) else value,
)
def test_each_product_of_the_equations_is_computed_once(name: str, case: Case) -> None:
    """And twice as many backward, whatever the chunks."""
    model, sample = model_and_draw(name, case, torch.float64, CPU)
    once = of_built_weights(case) if find(name).builds_weights else case.multiply_adds()
    chunks = ((True, 1 << 62), (False, 4)) if find(name).hand_written else ((True, 1 << 62),)
    for residuals, rows in chunks:
        with limited("cpu", residuals=residuals, rows=rows):
            with torch.no_grad(), Operators() as forward:
                outputs(model, case, arguments(model, sample))
            with Operators() as train:
                plain(model, case, sample)
        again = recomputed(case, residuals) if find(name).hand_written else 0
        assert (forward.multiply_adds, train.multiply_adds) == (once, 3 * once + again)


@pytest.mark.parametrize("name", impl_params(["batched", "deferred", "batched_cpu"]))
def test_a_step_copies_no_large_weight(name: str) -> None:
    """At most a call does, once for all steps."""
    skip_unless_checked(name, CPU)  # which imports it: that may call operators

    def copies(T: int) -> int:
        case = Case(T=T, B=1, I=8, H=64, S=8, Z=2)
        model, sample = model_and_draw(name, case, torch.float32, CPU)
        weight = dict(model.named_parameters())["layers.0.weight_h"]
        with torch.no_grad(), Operators() as forward:
            outputs(model, case, arguments(model, sample))
        return len([size for size in forward.sizes if size >= weight.numel()])

    assert copies(5) == copies(1)


def test_a_chunk_of_a_packed_batch_keeps_the_limit_on_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients that are sums over more rows lose digits. The last step of a chunk may exceed the limit."""
    case, limit = Case(T=12, B=8, I=4, H=5, S=3, Z=2, lengths=(12, 12, 8, 6, 5, 5, 2, 1)), 16
    model, sample = model_and_draw("deferred", case, torch.float32, CPU)
    cut = mock.Mock(wraps=bounds)
    monkeypatch.setattr(deferred, "bounds", cut)
    with limited("cpu", rows=limit):
        plain(model, case, sample)
    (backward,) = [call.args for call in cut.mock_calls if call.args[-1] == limit]
    for begin, end in pairwise(bounds(*backward)):
        assert sum(case.batch_sizes[begin : end - 1]) <= limit
