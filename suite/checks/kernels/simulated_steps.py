"""A card to test on, and training steps of `batched_cuda` on it: see `simulated.py`."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

from impls import HyperLSTM, batched_cuda
from impls.batched_cuda import graphs, launching, passes
from impls.chunks import limited
from impls.definition import shapes
from suite.checks.kernels import simulated
from suite.checks.kernels.interpreted import patch_language_once
from suite.checks.kernels.simulated import Card

I, H, S, Z = 3, 7, 5, 2
patch_language_once()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """Return a new card, and check afterwards what holds for every graph that was made."""
    # Nothing is freed by chance: what only garbage collection frees looks in use, in each run or in none.
    before = gc.get_threshold()
    gc.set_threshold(0)  # not gc.disable(), so that checks see what a capture does with that
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
    gc.set_threshold(*before)
    assert not any(q.is_inference() or torch._C._functorch.is_functorch_wrapped_tensor(q) for q in owned)
    owns = set(map(simulated.storage, owned))
    assert not [name for name, q in card.read if simulated.storage(q) not in owns]
    assert all(len(streams) == 1 for streams in card.streams.values())
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
    params = [torch.zeros(shape) for shape in shapes(2, 2, 2, 2, layer_norm=False).values()]
    run = passes.Passes(lambda x, params, start, keep, mask: (x * 2, [x[0] + 1], [], []), pytest.fail).forward

    def call(T: int) -> None:
        x = torch.randn(T, 2, 2)
        assert torch.equal(run(x, params, [], False)[0], x * 2)

    return call


def settle(net: HyperLSTM, x: Tensor) -> None:
    """Train until these sizes have their graphs: the forward pass late, the backward pass when it first reads it."""
    for _ in range(graphs.LATE + 1):
        train(net, x)


@contextmanager
def chunks_of(steps: int) -> Iterator[None]:
    """Cut the sequences of `draw` into chunks of so many steps."""
    size = steps * 40 * 3 * H * 4
    with limited("cpu", forward=size, backward=size):
        yield
