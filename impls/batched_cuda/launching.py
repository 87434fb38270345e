"""How kernels are started and counted: one by one from Python; what a graph replays was counted in its capture."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from .forward_kernels import main_gates
from .target import Target
from .tiles import Card

#: Whether the kernels were made for Triton's interpreter, which is settled when their modules are first imported.
INTERPRETED = isinstance(main_gates, InterpretedFunction)


class Launches(NamedTuple):
    """How the last pass was started."""

    mode: str  # "interpreted", "plain" or "graph"
    kernels: int  # Triton kernels that ran; from a graph, Python started none of them
    steps: int


class Counter:
    """Starts kernels and counts them."""

    def __init__(self) -> None:
        self.kernels = 0

    def __call__(self, kernel: Any, grid: tuple[int, ...], given: Sequence[Any], constants: dict[str, Any]) -> None:
        """Start one kernel."""
        kernel[grid](*given, **constants)
        self.kernels += 1


class _Counting(threading.local):
    counter: Counter | None = None


_counting = _Counting()
_last: dict[str, Launches] = {}


def sweep(steps: Callable[..., None], like: Tensor, *arguments: Any) -> None:
    """Start a sweep over a chunk, steps(target, *arguments), cut for tensors such as `like`, which may be empty."""
    if like.numel():
        steps(target(like, _counting.counter or Counter()), *arguments)


@contextmanager
def counted() -> Iterator[Counter]:
    """Count the kernels that sweeps of this thread start while this is open."""
    before, _counting.counter = _counting.counter, Counter()
    try:
        yield _counting.counter
    finally:
        _counting.counter = before


def note(direction: str, mode: str, kernels: int, steps: int) -> None:
    """Remember how a pass was started."""
    _last[direction] = Launches(mode, kernels, steps)


def launches() -> dict[str, Launches]:
    """Return how the last pass "forward" and the last pass "backward" were started."""
    return dict(_last)


def target(like: Tensor, launch: Counter) -> Target:
    """Return what kernels for such tensors are cut for; float32 follows torch.backends.cuda.matmul.fp32_precision."""
    precision = "ieee"
    if like.dtype == torch.float32 and float32_products() == "tf32":
        precision = "tf32"
    if like.dtype == torch.bfloat16 and INTERPRETED:
        precision = "wide"
    return Target(Card.of(like.device), precision, launch)


def float32_products() -> str:
    """Return how products of float32 are made; unlike torch.get_float32_matmul_precision() this never raises."""
    return str(torch.backends.cuda.matmul.fp32_precision)
