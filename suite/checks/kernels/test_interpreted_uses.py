"""Uses of `batched_cuda`, interpreted: those of every implementation, and passes between passes."""

from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.testing import assert_close
from triton.runtime.interpreter import InterpreterBuilder

from impls import HyperLSTM
from impls.gradient.chunks import limited
from impls.registry import find
from suite.checks.equality.comparisons import SMALL, Comparison
from suite.checks.equality.uses import USES
from suite.checks.kernels.interpreted import NAME
from suite.checks.kernels.traced import traced
from suite.shared.cases import RAGGED, VERIFY, Case
from suite.shared.compare import compare, evaluate, implementation, judge, reference

CPU = torch.device("cpu")
I, H, S, Z = 3, 7, 5, 2


def model(layers: int = 1, layer_norm: bool = False) -> HyperLSTM:
    torch.manual_seed(0)
    net = HyperLSTM(I, H, S, Z, layers, layer_norm=layer_norm, impl=NAME)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net


def draw(T: int = 3, B: int = 3) -> Tensor:
    return torch.randn(T, B, I)


def loss(net: HyperLSTM, x: Tensor) -> Tensor:
    out, last = net(x)
    ends: Tensor = torch.stack([part.sin().sum() for part in last]).sum()
    total: Tensor = ends + out.square().sum()
    return total


def gradients(net: HyperLSTM, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss(net, x), list(net.parameters())))


def to_the_bit(results: list[Tensor], expected: list[Tensor]) -> None:
    assert_close(results, expected, rtol=0, atol=0)


@pytest.mark.parametrize("use", USES)
def test_uses_equal_the_oracle(use: str) -> None:
    worst = Comparison(SMALL, torch.float32, use, wide=True).worst(implementation(NAME), CPU)
    assert worst.ratio <= 1, worst


def test_passes_share_nothing() -> None:
    net, x, y = model(2, layer_norm=True), draw(), draw()
    expected = gradients(net, x), gradients(net, y)
    first, second = loss(net, x), loss(net, y)
    for B in (3, 2, 5):
        gradients(net, draw(B=B))
        with torch.no_grad():
            net(draw(T=4, B=B))
    to_the_bit(list(torch.autograd.grad(second, list(net.parameters()))), expected[1])
    to_the_bit(list(torch.autograd.grad(first, list(net.parameters()))), expected[0])


def test_saved_tensors_may_be_moved_away() -> None:
    net, x = model(), draw()
    expected = gradients(net, x)
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda q: q):
        total = loss(net, x)
    to_the_bit(list(torch.autograd.grad(total, list(net.parameters()))), expected)


def test_parameters_at_new_addresses_and_not_aligned() -> None:
    """As where whole parameters are gathered for each step, or are views of one flat tensor."""
    net, x = model(layer_norm=True), draw()
    expected = gradients(net, x)
    flat = {
        name: torch.cat([torch.zeros(1), p.detach().flatten()])[1:].view(p.shape) for name, p in net.named_parameters()
    }
    assert any(q.data_ptr() % 16 for q in flat.values())
    leaves = {name: q.requires_grad_() for name, q in flat.items()}
    out, last = functional_call(net, leaves, (x,))
    loss = out.square().sum() + torch.stack([part.sin().sum() for part in last]).sum()
    to_the_bit(list(torch.autograd.grad(loss, list(leaves.values()))), expected)


@pytest.mark.parametrize("case", [VERIFY[-1], RAGGED[0]], ids=lambda case: case.id)
def test_without_residuals(case: Case) -> None:
    """What the forward pass does not save is recomputed."""
    with limited("cpu", residuals=False):
        worst = compare(implementation(NAME), case, torch.float32, CPU, draws=2)[0]
    assert worst.ratio <= 1, worst


@pytest.mark.parametrize("layer_norm", [False, True], ids=["off", "on"])
def test_tf32_is_as_right_as_float16(layer_norm: bool) -> None:
    """TF32 keeps as many bits of a factor as float16 does."""
    case = Case(T=4, B=3, I=5, H=16, S=8, Z=4, state="plain", layer_norm=layer_norm)
    before, multiply = torch.backends.cuda.matmul.fp32_precision, InterpreterBuilder.create_dot
    operands = list[npt.NDArray[np.float32]]()

    def noted(self: Any, a: Any, b: Any, *others: Any) -> Any:
        operands.extend((a.data, b.data))
        return multiply(self, a, b, *others)

    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"  # after which torch.get_float32_matmul_precision() raises
        with mock.patch.object(InterpreterBuilder, "create_dot", noted):
            results = evaluate(implementation(NAME), case, torch.float32, CPU, rounded=torch.float32, draws=4)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert operands, "no product was noted"
    assert not any((q.view(np.int32) & 0x1FFF).any() for q in operands), "an operand has bits that TF32 drops"
    exact = evaluate(implementation(NAME), case, torch.float32, CPU, rounded=torch.float32, draws=4)
    assert not torch.equal(results["out"], exact["out"])
    oracle, naive = (reference("naive", case, t, CPU, torch.float32, 4) for t in (torch.float64, torch.float16))
    worst = judge(results, oracle, naive, torch.float16)[0]
    assert worst.ratio <= 1, worst


def test_packed_rows_end_with_their_lengths() -> None:
    """Steps that no row of a group has are not computed, and the end of one row changes no other row."""
    assert find(NAME).packed
    net, x = model(), draw(T=6, B=18)
    with traced() as long, torch.no_grad():
        net(x)
    lengths = torch.tensor([6, 5] + [1] * 16)
    with traced() as short, torch.no_grad():
        out, _ = net(torch.nn.utils.rnn.pack_padded_sequence(x, lengths))
        alone, _ = net(x[:, :1])
    assert short.addresses < long.addresses
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(out)
    to_the_bit([padded[:, 0]], [alone[:, 0]])
