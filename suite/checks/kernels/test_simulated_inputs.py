"""What CUDA graphs of `batched_cuda` are fed with anew at each step, on simulated ones: see `test_interpreter.py`."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.func import functional_call
from torch.testing import assert_close

from impls import HyperLSTM, batched_cuda
from impls.batched_cuda import passes
from suite.checks.kernels.simulated import Card
from suite.checks.kernels.simulated_steps import chunks_of, draw, infer, model, modes, settle, to_the_bit, train

#: Steps of training: one launched, one with a replay of its forward pass alone, the others replayed.
STEPS = 4


def trained(net: HyperLSTM) -> list[Tensor]:
    """Return the parameters after some steps of an optimiser, which writes them in place."""
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    torch.manual_seed(1)
    for _ in range(STEPS):
        optimiser.zero_grad()
        net(draw(T=2))[0].square().sum().backward()
        optimiser.step()
    return [q.full_tensor() if isinstance(q, DTensor) else q.detach() for q in net.parameters()]


def trained_plainly() -> list[Tensor]:
    """Return the parameters of a model after the same steps by plain launches."""
    with batched_cuda.plain_launches():
        return trained(model())


@pytest.mark.parametrize("steps", [2, 512], ids=["in parts", "whole"])
def test_frozen_parameters(card: Card, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(passes, "STEPS", steps)
    net = model().requires_grad_(False)

    def of_x(x: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(net(x)[0].square().sum(), x))

    for _ in range(3):
        found = modes(of_x, draw(T=4).requires_grad_(), same=assert_close)
    assert found == {"graph"}


def test_an_optimiser_steps_between_replays(card: Card) -> None:
    expected = trained_plainly()
    to_the_bit(trained(model()), expected)
    assert (card.captures, card.replays) == (2, 2 * STEPS - 3)


def test_parameters_at_new_addresses_at_every_step(card: Card) -> None:
    """As where whole parameters are gathered for each step: nothing is captured again."""
    net, kept = model(), list[dict[str, Tensor]]()

    def step(x: Tensor) -> list[Tensor]:
        params = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
        kept.append(params)  # so that no address comes again
        out, _ = functional_call(net, params, (x,))
        return [out.detach(), *torch.autograd.grad(out.square().sum(), list(params.values()))]

    found = [modes(step, draw()) for _ in range(STEPS)]
    assert found[-1] == {"graph"}
    assert card.captures == 2
    assert len({params["layers.0.bias"].data_ptr() for params in kept}) == 2 * STEPS


def test_sharded_parameters(card: Card, tmp_path: Path) -> None:
    """FSDP gathers whole parameters before each pass and frees them after it; one rank alone shows that on a CPU."""
    expected = trained_plainly()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/met", rank=0, world_size=1)
    try:
        net = model()
        fully_shard(net.layers[0], mesh=init_device_mesh("cpu", (1,)))
        to_the_bit(trained(net), expected)
    finally:
        dist.destroy_process_group()
    assert (card.captures, card.replays) == (2, 2 * STEPS - 3)


def dropping(p: float = 0.5, layer_norm: bool = False) -> HyperLSTM:
    """Return a model with recurrent dropout."""
    net = model(layer_norm)
    net.recurrent_dropout = p
    return net


def seeded(net: HyperLSTM, x: Tensor, seed: int) -> list[Tensor]:
    """Train under the masks of a seed."""
    torch.manual_seed(seed)
    return train(net, x)


@pytest.mark.parametrize("layer_norm", [False, True], ids=["off", "on"])
def test_a_mask_is_one_more_input(card: Card, layer_norm: bool) -> None:
    net, x = dropping(layer_norm=layer_norm), draw(T=2)
    found = [modes(seeded, net, x, seed) for seed in range(STEPS)]
    assert found[-1] == {"graph"}
    assert card.captures == 2
    one, other = seeded(net, x, 0), seeded(net, x, 1)
    assert not torch.equal(one[0], other[0])


def test_another_probability_has_graphs_of_its_own(card: Card) -> None:
    net, x = dropping(), draw()
    settle(net, x)
    net.recurrent_dropout = 0.25
    assert modes(seeded, net, x, 0) == {"interpreted"}
    settle(net, x)
    assert modes(seeded, net, x, 0) == {"graph"}
    assert modes(infer, net.eval(), x) == {"interpreted"}


def test_a_mask_in_chunks_and_in_parts(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "STEPS", 3)
    net = dropping()
    with chunks_of(4):  # in a graph 2
        for seed in range(3):
            found = modes(seeded, net, draw(T=5), seed, same=assert_close)
    assert found == {"graph"}
