"""What CUDA graphs of `batched_cuda` are fed with anew at each step, checked on simulated ones: see `simulated.py`."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from impls import HyperLSTM
from impls.batched_cuda import passes
from suite.checks.kernels.simulated import Card
from suite.checks.kernels.simulated_steps import chunks_of, draw, infer, model, modes, settle, train

#: Steps of training: one launched, one with a replay of its forward pass alone, the others replayed.
STEPS = 4


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
    assert card.seen.captures == 2
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
