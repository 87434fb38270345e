"""Implementations with a hand-written gradient behave as torch operators."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.nn.utils.rnn import pack_padded_sequence

from impls import deferred
from impls.definition import Inputs, LayerParams, LayerState
from impls.gradient.chunks import bounds, limited, limits
from impls.registry import IMPLS, find
from suite.candidates import submission
from suite.checks.implementations import skip_unless_checked
from suite.checks.module.runs import STATED, model_and_input
from suite.shared.marks import impl_params
from suite.shared.usage import Called

HAND_WRITTEN = [impl.name for impl in IMPLS if impl.hand_written]
OURS = [name for name in HAND_WRITTEN if name not in submission.files()]


@pytest.fixture(params=impl_params(HAND_WRITTEN))
def name(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Every implementation with a hand-written gradient that runs here in float32."""
    skip_unless_checked(request.param, device)
    return str(request.param)


@pytest.fixture
def operators(name: str) -> list[OpOverload]:
    """Its operators, of the layer and of the gradient."""
    run = find(name).run
    calls = getattr(getattr(run, "args", [run])[0], "__self__", None)  # of a file, behind a check of its results
    assert calls is not None, "with a hand-written gradient, run should be a result of as_operator"
    return [calls.operator._opoverload, calls.gradient_operator._opoverload]


@pytest.mark.parametrize(
    ("sizes", "tokens", "limits", "expected"),
    [
        ((), 8, (), [0, 3, 6, 10]),  # bytes of eight tokens, which are four steps of two rows
        ((), 100, (), [0, 10]),
        ((), 1, (), [*range(11)]),
        ((), 100, (4,), [0, 2, 4, 6, 8, 10]),
        ((3, 2, 2, 1, 1, 1), 4, (), [0, 1, 3, 6]),
        ((3, 2, 2, 1, 1, 1), 100, (), [0, 6]),
        ((3, 2, 2, 1, 1, 1), 100, (5,), [0, 2, 6]),
    ],
)
def test_chunks_are_few_and_equal(
    sizes: tuple[int, ...], tokens: int, limits: tuple[int, ...], expected: list[int]
) -> None:
    p = LayerParams(*(torch.empty(4, 3, device="meta") for _ in LayerParams._fields))
    x = torch.empty((sum(sizes), 1) if sizes else (10, 2, 1), device="meta")
    assert bounds(tokens * 7 * 3 * 4, 7, p, Inputs(x, LayerState(x, x, x, x), None, sizes), *limits) == expected


@pytest.mark.address_sanitizer
@pytest.mark.parametrize("name", impl_params(OURS), indirect=True)
def test_packed_sequences_take_one_call_of_each_operator(
    name: str, operators: list[OpOverload], device: torch.device
) -> None:
    """Segment by segment is right too, but slow."""
    model, x, state = model_and_input(name, device)
    with Called() as seen:
        out, _ = model(pack_padded_sequence(x, [6, 4, 1]), state)
        out.data.sum().backward()
    assert [seen.names.count(operator._schema.name) for operator in operators] == [STATED.L, STATED.L]


def test_a_second_backward_raises_what_torch_says(name: str, device: torch.device) -> None:
    model, x, state = model_and_input(name, device)
    out, _ = model(x, state)
    out.sum().backward()
    with pytest.raises(RuntimeError, match=r"^Trying to backward through the graph a second time"):
        out.sum().backward()


@pytest.mark.parametrize("mode", [nullcontext, Called], ids=["eager", "operator"])
def test_a_tangent_of_a_gradient_is_refused(
    mode: Callable[[], AbstractContextManager[object]], name: str, device: torch.device
) -> None:
    """Where no forward pass refuses it; C++ and kernels would lose it."""
    model, x, _ = model_and_input(name, device)
    refused = pytest.raises(NotImplementedError, match=f"^{name} .*: naive")
    with mode():
        out, _ = model(x)
        with forward_ad.dual_level(), refused:
            out.backward(forward_ad.make_dual(torch.zeros_like(out), torch.ones_like(out)))


def by_dual_numbers(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        tangent: Tensor = forward_ad.unpack_dual(call(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
    return tangent


TRANSFORMS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]] = {
    "grad": lambda call, x: torch.func.grad(lambda y: call(y).sum())(x),
    "vmap": lambda call, x: torch.func.vmap(call)(torch.stack([x, 2 * x])),
    "jvp": lambda call, x: torch.func.jvp(call, (x,), (torch.ones_like(x),))[1],
    "dual": by_dual_numbers,
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_auto_is_batched_inside_a_transform(
    transform: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor], device: torch.device
) -> None:
    model, x, _ = model_and_input("batched", device)
    expected = transform(lambda y: model(y)[0], x)
    model.impl = "auto"
    assert torch.equal(transform(lambda y: model(y)[0], x), expected)


@pytest.mark.parametrize("mask", [False, True], ids=["plain", "dropout"])
@pytest.mark.parametrize("save", ["none", "states", "states_and_residuals"])
def test_operator_is_registered_as_torch_wants_it(
    name: str, operators: list[OpOverload], device: torch.device, save: str, mask: bool
) -> None:
    model, x, state = model_and_input(name, device)
    requires_grad = save != "none"
    most = limits(device)._replace(residuals=save == "states_and_residuals")
    numbers = [int(n) for n in most] if requires_grad else []
    params = [p.detach().clone().requires_grad_(requires_grad) for p in model.layers[0].parameters()]
    start = [part[0].clone().requires_grad_(requires_grad) for part in state]
    keep = torch.rand(*x.shape[:2], STATED.H, device=device) > 0.5 if mask else None
    x = x.mT.contiguous().mT.requires_grad_(requires_grad)
    layer: tuple[Any, ...] = (x, start, params, keep, 2.0, [])
    operator, gradient = operators
    torch.library.opcheck(operator, (*layer, numbers))
    if requires_grad:
        out, last, states, residuals = operator(*layer, numbers)
        needs = [True] * (1 + len(start) + len(params))
        with torch.no_grad():
            arguments = (*layer, [out, *states], residuals[0] if residuals else None, numbers, out, last, needs)
            torch.library.opcheck(gradient, arguments, test_utils="test_faketensor")


def test_limits_of_two_threads_that_overlap() -> None:
    """One thread closes its context while that of the other is open."""
    cpu = torch.device("cpu")
    default, of_other = limits(cpu), limited("cpu", rows=2)
    with ThreadPoolExecutor(1) as other:
        with limited("cpu", rows=1):
            other.submit(of_other.__enter__).result()
            assert limits(cpu) == default._replace(rows=1)
        assert limits(cpu) == default
        assert other.submit(limits, cpu).result() == default._replace(rows=2)
        other.submit(of_other.__exit__, None, None, None).result()
        assert other.submit(limits, cpu).result() == default


@pytest.mark.parametrize("mode", [nullcontext, Called], ids=["eager", "operator"])
def test_a_backward_pass_in_another_thread_has_the_limits_of_its_forward_pass(
    mode: Callable[[], AbstractContextManager[object]], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, autograd runs every backward pass in another thread."""
    skip_unless_checked("deferred", device)
    model, x, state = model_and_input("deferred", device)
    cut = mock.Mock(wraps=bounds)
    monkeypatch.setattr(deferred, "bounds", cut)
    with limited(device.type, backward=8, rows=4), mode():
        out, _ = model(x, state)
    cut.reset_mock()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(out.sum().backward).result()
    assert [(call.args[0], call.args[-1]) for call in cut.mock_calls] == [(8, 4)] * STATED.L


def test_out_changed_in_place_before_backward_raises(name: str, device: torch.device) -> None:
    """A backward pass reads out as the states of all steps; torch.nn.LSTM takes the edit, since it saves a copy."""
    model, x, _ = model_and_input(name, device)
    out, _ = model(x)
    out.mul_(2)
    with pytest.raises(RuntimeError, match=rf"^{name}: .*`out = out \* 2`"):
        out.sum().backward()


def test_autocast_around_the_backward_pass_alone_changes_nothing(name: str, device: torch.device) -> None:
    model, x, state = model_and_input(name, device)
    leaves = [*(value.requires_grad_() for value in (x, *state)), *model.parameters()]

    def loss() -> Tensor:
        out, last = model(x, state)
        total: Tensor = out.sum() + sum(part.sin().sum() for part in last)
        return total

    expected, again = torch.autograd.grad(loss(), leaves), loss()
    with torch.autocast(device.type, torch.bfloat16):
        assert all(map(torch.equal, torch.autograd.grad(again, leaves), expected))


def test_a_derivative_by_the_incoming_gradient_is_refused(name: str, device: torch.device) -> None:
    """As one by a parameter is: without an error it would be missing."""
    model, x, _ = model_and_input(name, device)
    out = model(x)[0]
    arriving = torch.randn_like(out, requires_grad=True)
    (gradient,) = torch.autograd.grad(out, model.get_parameter("layers.0.bias"), arriving, create_graph=True)
    with pytest.raises(NotImplementedError, match=f"^{name} .*: naive"):
        torch.autograd.grad(gradient.sum(), arriving)
