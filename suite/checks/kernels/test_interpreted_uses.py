"""Uses between a forward pass and its backward pass, with `batched_cuda` interpreted.

Each result is to the bit that of the same call alone: passes share nothing.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.func import functional_call
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from impls import HyperLSTM
from impls.batched_cuda import launching
from impls.gradient.chunks import limited
from impls.registry import find
from suite.checks.kernels.interpreted import NAME
from suite.checks.kernels.traced import traced
from suite.shared.cases import RAGGED, VERIFY, Case
from suite.shared.compare import compare, evaluate, implementation, judge, reference

CPU = torch.device("cpu")
I, H, S, Z = 3, 7, 5, 2


def model(layers: int = 1, layer_norm: bool = False, recurrent_dropout: float = 0.0) -> HyperLSTM:
    torch.manual_seed(0)
    options: Any = {"layer_norm": layer_norm, "recurrent_dropout": recurrent_dropout}
    net = HyperLSTM(I, H, S, Z, layers, impl=NAME, **options)
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


def to_the_bit(found: list[Tensor], expected: list[Tensor]) -> None:
    assert_close(found, expected, rtol=0, atol=0)


def test_three_layers_of_another_width_than_x() -> None:
    case = Case(T=5, B=3, I=11, H=9, S=6, Z=2, L=3, state="stacked")
    worst = compare(implementation(NAME), case, torch.float32, CPU, draws=2)[0]
    assert worst.ratio <= 1, worst


def test_two_forward_passes_before_their_backward_passes() -> None:
    net, x, y = model(2), draw(), draw()
    expected = gradients(net, x), gradients(net, y)
    first, second = loss(net, x), loss(net, y)
    to_the_bit(list(torch.autograd.grad(second, list(net.parameters()))), expected[1])
    to_the_bit(list(torch.autograd.grad(first, list(net.parameters()))), expected[0])


def test_other_passes_between_forward_and_backward() -> None:
    net, x = model(2, layer_norm=True), draw()
    expected, total = gradients(net, x), loss(net, x)
    for B in (3, 2, 5):
        gradients(net, draw(B=B))
        with torch.no_grad():
            net(draw(T=4, B=B))
    to_the_bit(list(torch.autograd.grad(total, list(net.parameters()))), expected)


def test_a_backward_pass_twice() -> None:
    net, x = model(), draw()
    total = loss(net, x)
    first = list(torch.autograd.grad(total, list(net.parameters()), retain_graph=True))
    gradients(net, draw())
    to_the_bit(list(torch.autograd.grad(total, list(net.parameters()))), first)


def test_inference_mode_then_training() -> None:
    net, x = model(), draw()
    expected = gradients(net, x)
    with torch.inference_mode():
        net(x)
    to_the_bit(gradients(net, x), expected)


def test_checkpointing() -> None:
    net, x = model(recurrent_dropout=0.5), draw()
    torch.manual_seed(1)
    expected = gradients(net, x)
    torch.manual_seed(1)
    total = checkpoint(loss, net, x, use_reentrant=False, preserve_rng_state=True)
    to_the_bit(list(torch.autograd.grad(total, list(net.parameters()))), expected)


def test_saved_tensors_may_be_moved_away() -> None:
    net, x = model(), draw()
    expected = gradients(net, x)
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda q: q):
        total = loss(net, x)
    to_the_bit(list(torch.autograd.grad(total, list(net.parameters()))), expected)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = model(), [draw() for _ in range(4)]
    expected, results = [gradients(net, one) for one in x], dict[int, list[Tensor]]()
    start, one_at_a_time = launching.start, threading.Lock()

    def locked(*launch: Any, **options: Any) -> None:
        with one_at_a_time:  # the interpreter runs one program at a time
            start(*launch, **options)

    monkeypatch.setattr(launching, "start", locked)

    def work(k: int) -> None:
        results[k] = gradients(net, x[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        to_the_bit(results[k], expected[k])


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
    made = out.square().sum() + torch.stack([part.sin().sum() for part in last]).sum()
    to_the_bit(list(torch.autograd.grad(made, list(leaves.values()))), expected)


def test_sharded_parameters(tmp_path: Path) -> None:
    """FSDP gathers whole parameters before each pass and frees them after it; one rank alone shows that on a CPU."""

    def trained(net: HyperLSTM) -> list[Tensor]:
        optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
        torch.manual_seed(1)
        for _ in range(3):
            optimiser.zero_grad()
            loss(net, draw()).backward()
            optimiser.step()
        return [q.full_tensor() if isinstance(q, DTensor) else q.detach() for q in net.parameters()]

    expected = trained(model())
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/met", rank=0, world_size=1)
    try:
        net = model()
        fully_shard(net.layers[0], mesh=init_device_mesh("cpu", (1,)))
        to_the_bit(trained(net), expected)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("wanted", ["x", "layers.0.weight_h", "layers.0.z_bias", "layers.0.norm_c_bias"])
def test_one_gradient_alone(wanted: str) -> None:
    net, x = model(layer_norm=True), draw().requires_grad_()
    leaves = {"x": x, **dict(net.named_parameters())}
    expected = dict(zip(leaves, torch.autograd.grad(loss(net, x), list(leaves.values())), strict=True))[wanted]
    for name, leaf in leaves.items():
        leaf.requires_grad_(name == wanted)
    to_the_bit(list(torch.autograd.grad(loss(net, x), leaves[wanted])), [expected])


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
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"  # after which torch.get_float32_matmul_precision() raises
        found = evaluate(implementation(NAME), case, torch.float32, CPU, rounded=torch.float32, draws=4)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    exact = evaluate(implementation(NAME), case, torch.float32, CPU, rounded=torch.float32, draws=4)
    assert not torch.equal(found["out"], exact["out"])
    oracle, naive = (reference("naive", case, t, CPU, torch.float32, 4) for t in (torch.float64, torch.float16))
    worst = judge(found, oracle, naive, torch.float16)[0]
    assert worst.ratio <= 1, worst


def passes(run: Callable[[], object]) -> list[str]:
    """Kernels that a call starts, in order."""
    found = list[str]()
    start = launching.start

    def noted(kernel: Any, *launch: Any, **options: Any) -> None:
        found.append(kernel.__name__)
        start(kernel, *launch, **options)

    with mock.patch.object(launching, "start", noted):
        run()
    return found


@pytest.mark.parametrize("T", [1, 7])
@pytest.mark.parametrize("lengths", [(), (7, 3, 1), (7, 7, 2)], ids=["batch", "packed", "packed otherwise"])
def test_a_pass_is_one_launch_whatever_its_steps(T: int, lengths: tuple[int, ...]) -> None:
    net, x = model(), draw(T=T)
    if lengths:
        ends = torch.tensor(lengths).clamp(max=T)
        given: Any = torch.nn.utils.rnn.pack_padded_sequence(x, ends)
    else:
        given = x

    def step() -> None:
        out, _ = net(given)
        torch.autograd.grad((out.data if lengths else out).sum(), list(net.parameters()))

    assert passes(step) == ["forward_steps", "rebuild", "backward_steps"]


def test_a_chunk_is_two_launches_backward() -> None:
    net, x = model(), draw(T=7)
    with limited("cpu", backward=2 * 40 * 3 * H * 4):
        found = passes(lambda: gradients(net, x))
    assert found == ["forward_steps", *["rebuild", "backward_steps"] * 4]


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
