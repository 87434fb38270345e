"""What `batched_cuda` does with CUDA graphs, checked on simulated ones: see `simulated.py`.

Run as `python -m suite.checks.kernels.simulated_graphs FILE.csv` with TRITON_INTERPRET=1, in a process of its own, or
by pytest with the variable set. A result is compared with that of plain launches to the bit.
"""

import gc
import math
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

from impls import HyperLSTM, batched_cuda
from impls.batched_cuda import graphs, launching, passes
from impls.chunks import limited
from suite.checks.kernels import simulated
from suite.checks.kernels.interpreter import patch_language_once
from suite.checks.kernels.simulated import Card
from suite.shared.children import leave

I, H, S, Z = 3, 7, 5, 2
patch_language_once()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Free nothing by chance: a tensor that only garbage collection frees looks in use, in each run or in none."""
    before = gc.get_threshold()
    gc.set_threshold(0)  # not gc.disable(), so that checks see what a capture does with that
    yield
    gc.set_threshold(*before)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, no_collection: None) -> Iterator[Card]:
    """Return a new card, and check afterwards what holds for every graph that was made."""
    card = simulated.install(monkeypatch)
    monkeypatch.setattr(graphs, "LATE", 1)
    owned: list[Tensor] = []
    init = graphs.Graph.__init__

    def noted(self: graphs.Graph, *args: Any, **options: Any) -> None:
        try:
            init(self, *args, **options)
            owned.extend(tree_leaves(self.made))
        finally:
            owned.extend(self.given)

    monkeypatch.setattr(graphs.Graph, "__init__", noted)
    yield card
    assert not any(q.is_inference() or torch._C._functorch.is_functorch_wrapped_tensor(q) for q in owned)
    owns = {q.untyped_storage().data_ptr() for q in owned}
    assert not [name for name, q in card.seen.read if q.untyped_storage().data_ptr() not in owns]
    assert all(len(streams) == 1 for streams in card.seen.streams.values())
    assert card.stream is card.default
    assert gc.isenabled()


def model(layer_norm: bool = False, layers: int = 1) -> HyperLSTM:
    torch.manual_seed(0)
    model = HyperLSTM(I, H, S, Z, layers, impl="batched_cuda", layer_norm=layer_norm)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def draw(T: int = 1, B: int = 3) -> Tensor:
    return torch.randn(T, B, I)


def train(model: HyperLSTM, x: Tensor) -> list[Tensor]:
    """Return the output, the last state and all gradients of a training step."""
    x = x.detach().requires_grad_()
    out, last = model(x)
    loss = out.square().sum() + sum(part.sin().sum() for part in last)
    grads = torch.autograd.grad(loss, [x, *model.parameters()])
    return [q.detach() for q in (out, *last, *grads)]


def infer(model: HyperLSTM, x: Tensor) -> list[Tensor]:
    """Return the output and the last state."""
    with torch.no_grad():
        out, last = model(x)
    return [out, *last]


to_the_bit = partial(assert_close, rtol=0, atol=0)


def modes(call: Callable[..., list[Tensor]], *args: Any, same: Callable[..., None] = to_the_bit) -> set[str]:
    """Return how a call's passes were started, after a check that the same by plain launches gives the same bits."""
    launching._last.clear()
    found = call(*args)
    started = {one.mode for one in batched_cuda.launches().values()}
    with batched_cuda.plain_launches():
        expected = call(*args)
    for one, other in zip(found, expected, strict=True):
        same(one, other)
    return started


def lengths() -> Callable[[int], None]:
    """Return a stand-in for a forward pass of some steps, which no kernel makes slow."""
    run = passes.Passes(lambda x, params, start, keep: (x * 2, [x[0] + 1], [], []), pytest.fail).forward

    def call(T: int) -> None:
        x = torch.randn(T, 2, 2)
        assert torch.equal(run(x, [], [], False)[0], x * 2)

    return call


def settle(net: HyperLSTM, x: Tensor) -> None:
    """Train until these sizes have their graphs: the forward pass late, the backward pass when it first reads it."""
    for _ in range(graphs.LATE + 1):
        train(net, x)


@contextmanager
def chunks_of(steps: int, B: int = 3) -> Iterator[None]:
    """Cut sequences into chunks of so many steps."""
    size = steps * 40 * B * H * 4
    with limited("cpu", forward=size, backward=size):
        yield


def test_a_size_is_captured_when_it_has_come_often_and_gives_the_same_bits(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "LATE", 2)
    net = model()
    found = [modes(train, net, draw(T=2)) for _ in range(5)]
    assert found == [{"interpreted"}] * 2 + [{"graph", "interpreted"}] + [{"graph"}] * 2
    assert card.seen.captures == 2


def test_layer_norm(card: Card) -> None:
    net = model(layer_norm=True)
    settle(net, draw(T=2))
    assert modes(train, net, draw(T=2)) == {"graph"}


def test_a_replay_starts_nothing_from_python(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    started = len(card.seen.launched)
    card.launch = None  # type: ignore[method-assign, assignment]
    with pytest.raises(TypeError):
        train(net, x)
    assert len(card.seen.launched) == started


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


def test_sizes_in_turn_where_one_graph_is_kept(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes._graphs, "count", 1)
    net = model()
    for _ in range(2 * graphs.LATE + 1):
        for B in (3, 2):
            modes(infer, net, draw(B=B))


def test_random_lengths_are_not_captured_again_and_again(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes._graphs, "count", 8)
    monkeypatch.setattr(graphs, "LATE", 3)
    run, calls, order = lengths(), 2000, random.Random(0)
    captured = []
    for _ in range(calls):
        run(order.randrange(1, 25))
        captured.append(card.seen.captures)
    assert card.seen.replays > calls / 8
    # 24 lengths, each of which takes twice as many calls each time.
    assert captured[-1] <= 24 * math.log2(calls / 24 / graphs.LATE)
    assert captured[-1] - captured[calls // 2] <= 24


def test_two_streams_share_no_memory(card: Card) -> None:
    net, x, side = model(), draw(), simulated.Stream()
    for _ in range(graphs.LATE + 1):
        for stream in (card.default, side):
            with card.on(stream):
                found = modes(infer, net, x)
    assert found == {"graph"}
    assert len(card.seen.streams) == 2


def test_streams_that_take_the_only_graph_from_each_other(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes._graphs, "count", 1)
    run, side = lengths(), simulated.Stream()
    for _ in range(4):
        for stream in (card.default, side):
            with card.on(stream):
                run(3)
    assert card.seen.captures > 2


def test_another_arithmetic_has_graphs_of_its_own(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        # After this torch.get_float32_matmul_precision() raises.
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert modes(train, net, x) == {"interpreted"}
        assert {options["PRECISION"] for _, options in card.seen.launched[-2:]} == {"tf32"}
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert modes(train, net, x) == {"graph"}


def test_threads(card: Card) -> None:
    net, x = model(), [draw() for _ in range(4)]
    with batched_cuda.plain_launches():
        expected = [train(net, one) for one in x]
    found: dict[int, list[list[Tensor]]] = {}

    def work(k: int) -> None:
        found[k] = [train(net, x[k]) for _ in range(graphs.LATE)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert card.seen.replays > 0
    assert all(map(torch.equal, one, expected[k]) for k in found for one in found[k])
    assert [len(found[k]) for k in range(4)] == [graphs.LATE] * 4


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
    assert card.seen.captures == 2  # both models' sizes are the same


def test_layers_of_the_same_sizes_each_take_a_pass(card: Card) -> None:
    net = HyperLSTM(H, H, S, Z, 2, impl="batched_cuda")
    x = torch.randn(1, 3, H)
    for _ in range(3):
        train(net, x)
    before = card.seen.replays
    assert modes(train, net, x) == {"graph"}
    assert (card.seen.captures, card.seen.replays - before) == (4, 4)


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
    before = card.seen.replays
    assert modes(both, draw(), draw()) == {"graph"}
    assert (card.seen.captures, card.seen.replays - before) == (4, 4)


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
    assert card.seen.captures == 4


def test_a_capture_of_the_caller_gets_plain_launches(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad():
        expected, given = net(x)[0], torch.zeros_like(x)
        captures = card.seen.captures
        graph.capture_begin()
        out = net(given)[0]
        graph.capture_end()
    assert card.seen.captures == captures + 1
    given.copy_(x)
    graph.replay()
    assert torch.equal(out, expected)
    card.seen.read.clear()  # the caller's graph may read what it likes


def test_out_of_memory_in_a_capture(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    assert batched_cuda.graph_bytes() > 0
    card.fails = torch.OutOfMemoryError("CUDA out of memory.")
    for _ in range(graphs.LATE):
        assert modes(infer, net, draw(B=2)) == {"interpreted"}
    assert batched_cuda.graph_bytes() == 0
    card.fails = None
    captures = card.seen.captures
    for _ in range(graphs.LATE):
        infer(net, draw(B=2))
    assert card.seen.captures == captures
    settle(net, x)
    assert modes(train, net, x) == {"graph"}


def test_out_of_memory_in_a_plain_run_gives_the_graphs_memory_to_it(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = model(), draw()
    settle(net, x)
    run, full = launching.sweep, [True]

    def once(*args: Any) -> None:
        if full:
            full.clear()
            raise torch.OutOfMemoryError("CUDA out of memory.")
        run(*args)

    monkeypatch.setattr(launching, "sweep", once)
    monkeypatch.setattr(graphs, "LATE", 9)
    infer(net, draw(B=2))
    assert (card.seen.cleared, batched_cuda.graph_bytes()) == (1, 0)
    full.append(True)
    with pytest.raises(torch.OutOfMemoryError):
        infer(net, draw(B=2))


def test_another_error_in_a_capture_is_raised(card: Card) -> None:
    net, x = model(), draw()
    card.fails = ValueError("planted")
    with pytest.raises(ValueError, match="planted"):
        settle(net, x)
    card.fails = None
    settle(net, x)
    assert modes(train, net, x) == {"graph"}


def test_no_garbage_is_collected_in_a_capture(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    kernel = simulated.Recorder.kernel

    def noted(self: simulated.Recorder, *args: Any) -> None:
        asked.append(gc.isenabled())
        kernel(self, *args)

    monkeypatch.setattr(simulated.Recorder, "kernel", noted)
    settle(model(), draw())
    assert asked
    assert not any(asked)


def test_clear_gives_memory_back(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    assert batched_cuda.graph_bytes() > 0
    gone = [weakref.ref(one) for one in passes._graphs]
    batched_cuda.clear()
    gc.collect()
    assert batched_cuda.graph_bytes() == 0
    assert card.seen.cleared == 1
    assert not any(one() for one in gone)
    settle(net, x)
    assert modes(train, net, x) == {"graph"}


class Rows:
    """A plugin of pytest that writes down how each test ended."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the call, or what kept it from being made."""
        if report.when == "call" or report.outcome != "passed":
            test = report.nodeid.split("::")[-1]
            leave(Path(sys.argv[1]), {"test": test, "outcome": report.outcome, "said": report.longreprtext})


if __name__ == "__main__":
    pytest.main(["-q", __file__, "-p", "no:cacheprovider"], plugins=[Rows()])
