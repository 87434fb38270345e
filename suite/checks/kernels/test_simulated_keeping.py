"""Which CUDA graphs `batched_cuda` keeps, for whom and how long, on simulated ones: see `test_interpreter.py`."""

import gc
import math
import random
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from impls import batched_cuda
from impls.batched_cuda import graphs, launching, passes
from suite.checks.kernels import simulated
from suite.checks.kernels.simulated import Card
from suite.checks.kernels.simulated_steps import draw, infer, lengths, model, modes, settle, train


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
        captured.append(card.captures)
    assert card.replays > calls / 8
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
    assert len(card.streams) == 2


def test_streams_that_take_the_only_graph_from_each_other(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes._graphs, "count", 1)
    run, side = lengths(), simulated.Stream()
    for _ in range(4):
        for stream in (card.default, side):
            with card.on(stream):
                run(3)
    assert card.captures > 2


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
    assert card.replays > 0
    assert all(map(torch.equal, one, expected[k]) for k in found for one in found[k])
    assert [len(found[k]) for k in range(4)] == [graphs.LATE] * 4


def test_out_of_memory_in_a_capture(card: Card) -> None:
    net, x = model(), draw()
    settle(net, x)
    assert batched_cuda.graph_bytes() > 0
    card.fails = torch.OutOfMemoryError("CUDA out of memory.")
    for _ in range(graphs.LATE):
        assert modes(infer, net, draw(B=2)) == {"interpreted"}
    assert batched_cuda.graph_bytes() == 0
    card.fails = None
    captures = card.captures
    for _ in range(graphs.LATE):
        infer(net, draw(B=2))
    assert card.captures == captures
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
    assert (card.cleared, batched_cuda.graph_bytes()) == (1, 0)
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
    assert card.cleared == 1
    assert not any(one() for one in gone)
    settle(net, x)
    assert modes(train, net, x) == {"graph"}
