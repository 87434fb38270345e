"""What `batched_cuda` computes with CUDA graphs, checked on simulated ones: see `test_interpreter.py`.

A result is compared with that of plain launches to the bit.
"""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from impls import HyperLSTM, batched_cuda
from impls.batched_cuda import graphs, passes
from suite.checks.kernels.simulated import Card
from suite.checks.kernels.simulated_steps import H, S, Z, chunks_of, draw, infer, model, modes, settle, train


def test_a_size_is_captured_when_it_has_come_often_and_gives_the_same_bits(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "LATE", 2)
    net = model()
    found = [modes(train, net, draw(T=2)) for _ in range(5)]
    assert found == [{"interpreted"}] * 2 + [{"graph", "interpreted"}] + [{"graph"}] * 2
    assert card.captures == 2


def test_layer_norm(card: Card) -> None:
    net = model(layer_norm=True)
    settle(net, draw(T=2))
    assert modes(train, net, draw(T=2)) == {"graph"}


def test_a_replay_starts_nothing_from_python(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    started = len(card.launched)
    card.launch = None  # type: ignore[method-assign, assignment]
    with pytest.raises(TypeError):
        train(net, x)
    assert len(card.launched) == started


def test_inference_mode_then_training(card: Card) -> None:
    net, x = model(), draw()
    for _ in range(graphs.LATE + 1):
        with torch.inference_mode():
            found = modes(infer, net, x)
    assert found == {"graph"}
    settle(net, x)
    assert modes(train, net, x) == {"graph"}


def test_chunks_of_two_lengths(card: Card) -> None:
    net = model()
    with chunks_of(4):  # 1, 2 in a graph
        settle(net, draw(T=3))
        assert modes(train, net, draw(T=3), same=assert_close) == {"graph"}  # whose chunks are shorter


def test_another_arithmetic_has_graphs_of_its_own(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        # After this torch.get_float32_matmul_precision() raises.
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert modes(train, net, x) == {"interpreted"}
        assert {options["PRECISION"] for _, options in card.launched[-2:]} == {"tf32"}
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert modes(train, net, x) == {"graph"}


def test_vmap(card: Card) -> None:
    net, x = model(), torch.stack([draw(), draw()])

    def outputs() -> list[Tensor]:
        return [torch.vmap(lambda one: net(one)[0])(x)]

    with torch.no_grad():
        for _ in range(graphs.LATE):
            found = modes(outputs)
    assert found == {"graph"}


def test_parameters_updated_in_place_and_replaced(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.9)
    assert modes(train, net, x) == {"graph"}
    for p in net.parameters():
        p.data = p.data * 0.9
    assert modes(train, net, x) == {"graph"}
    net.load_state_dict({key: value * 0.9 for key, value in net.state_dict().items()}, assign=True)
    assert modes(train, net, x) == {"graph"}


def test_two_models_in_turn(card: Card) -> None:
    nets = [model(), model()]
    with torch.no_grad():
        for p in nets[1].parameters():
            p.mul_(-0.5)
    for net in nets:
        settle(net, draw())
    for net in nets:
        assert modes(train, net, draw()) == {"graph"}
    assert card.captures == 2  # both models' sizes are the same


def test_layers_of_the_same_sizes_each_take_a_pass(card: Card) -> None:
    net = HyperLSTM(H, H, S, Z, 2, impl="batched_cuda")
    x = torch.randn(1, 3, H)
    for _ in range(3):
        train(net, x)
    before = card.replays
    assert modes(train, net, x) == {"graph"}
    assert (card.captures, card.replays - before) == (4, 4)


def test_two_forward_passes_before_their_backward_passes(card: Card) -> None:
    net = model()

    def both(x: Tensor, y: Tensor) -> list[Tensor]:
        first, second = net(x)[0].sum(), net(y)[0].square().sum()
        return [
            *torch.autograd.grad(first, list(net.parameters())),
            *torch.autograd.grad(second, list(net.parameters())),
        ]

    for _ in range(3):
        both(draw(), draw())
    before = card.replays
    assert modes(both, draw(), draw()) == {"graph"}
    assert (card.captures, card.replays - before) == (4, 4)


def test_a_backward_pass_may_be_asked_for_twice_and_late(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    params = list(net.parameters())
    with batched_cuda.plain_launches():
        expected = torch.autograd.grad(net(x)[0].square().sum(), params)
    loss = net(x)[0].square().sum()
    for _ in range(2):
        modes(train, net, draw())  # in between, at the same sizes
        assert all(map(torch.equal, torch.autograd.grad(loss, params, retain_graph=True), expected))
    batched_cuda.clear()
    assert all(map(torch.equal, torch.autograd.grad(loss, params), expected))


def test_what_is_saved_for_the_backward_pass_may_be_moved_away(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    params = list(net.parameters())

    def moved() -> list[Tensor]:
        with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda q: q):
            loss = net(x)[0].square().sum()
        return list(torch.autograd.grad(loss, params))

    assert modes(moved) == {"graph", "interpreted"}
    assert modes(train, net, x) == {"graph"}


def test_a_sequence_longer_than_a_graph_is_several(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "STEPS", 2)
    net = model()
    for _ in range(2):
        found = modes(train, net, draw(T=5), same=assert_close)  # parts of 1, 2, 2 steps are summed in another order
    assert found == {"graph"}
    assert card.captures == 4


def test_a_capture_of_the_caller_gets_plain_launches(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        expected, given = net(x)[0], torch.zeros_like(x)
        captures = card.captures
        graph.capture_begin()
        out = net(given)[0]
        graph.capture_end()
    assert card.captures == captures + 1
    given.copy_(x)
    graph.replay()
    assert torch.equal(out, expected)
    card.read.clear()  # the caller's graph may read what it likes
