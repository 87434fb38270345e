"""How the kernels of a sweep are started: one by one from Python, or all at once from a CUDA graph.

A sweep is started plainly the first time its sizes are seen and captured the second time, since many lengths never come
again. A graph owns every tensor that it reads or writes; each call copies its arguments in and its results out, weights
included, so that nothing in it can be stale.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from .forward_kernels import main_gates
from .target import Target
from .tiles import Card

K = TypeVar("K")
V = TypeVar("V")

#: Whether the kernels were made for Triton's interpreter, which is settled when their modules are first imported.
INTERPRETED = isinstance(main_gates, InterpretedFunction)

#: Graphs kept, the bytes of all arrays that they own, and sizes remembered: the least recently used go first.
GRAPHS, GRAPH_BYTES, SIZES = 16, 1 << 30, 1024

#: A sweep over a chunk: (target, tensors to read, the first of them [K, B, *], tensors to write).
Steps = Callable[[Target, Sequence[Any], Sequence[Tensor]], None]


class Launches(NamedTuple):
    """How the last sweep over a chunk was started."""

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


class Graph:
    """One captured sweep with the tensors that it reads and writes."""

    def __init__(self, steps: Steps, given: Sequence[Tensor | None], out: Sequence[Tensor]) -> None:
        self.given = [None if q is None else q.clone() for q in given]
        self.out = [torch.empty_like(q) for q in out]

        def work() -> None:
            self.count = Counter()
            steps(target(self.out[0], self.count), self.given, self.out)

        self.work = capture(work, out[0].device)
        self.bytes = sum(q.nbytes for q in (*self.given, *self.out) if q is not None)

    def replay(self, given: Sequence[Tensor | None], out: Sequence[Tensor]) -> None:
        """Run on other tensors of the same sizes."""
        for to, q in zip(self.given, given, strict=True):
            if to is not None and q is not None:
                to.copy_(q)
        self.work()
        for q, made in zip(out, self.out, strict=True):
            q.copy_(made)


def capture(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return what replays work from a CUDA graph with a memory pool of its own."""
    here, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    # Once outside: a capture must not compile or load a kernel.
    side.wait_stream(here)
    with torch.cuda.stream(side):
        work()
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # What other threads do meanwhile, loading data for one, is not this capture's concern.
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        work()
    return graph.replay


class Recent(Generic[K, V]):
    """What was used of late: at most so many values, of so many bytes together, and the newest whatever its size."""

    def __init__(self, count: int, total: float = math.inf, bytes_of: Callable[[V], int] = lambda _: 0) -> None:
        self.count, self.total, self.bytes_of = count, total, bytes_of
        self.values: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self.values

    def get(self, key: K) -> V | None:
        """Return the value, which is now the newest, or None."""
        if key in self.values:
            self.values.move_to_end(key)
        return self.values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value as the newest, and let the oldest go where it is too many or too much."""
        self.values[key] = value
        self.values.move_to_end(key)
        while len(self.values) > 1 and (len(self.values) > self.count or self._bytes() > self.total):
            self.values.popitem(last=False)

    def _bytes(self) -> int:
        return sum(map(self.bytes_of, self.values.values()))


#: What this process remembers. Copying in, replaying and copying out belong together, whichever thread asks.
_lock = threading.Lock()
_seen: Recent[Any, bool] = Recent(SIZES)
_graphs: Recent[Any, Graph] = Recent(GRAPHS, GRAPH_BYTES, lambda graph: graph.bytes)
_last: dict[str, Launches] = {}
_plain_only = False


def run(steps: Steps, given: Sequence[Tensor | None], out: Sequence[Tensor]) -> None:
    """Run a sweep over a chunk by the fastest way there is for it; an error in a capture is raised, not hidden.

    given: tensors to read, None where the layer has none; out: tensors to write. A caller's own capture is fed plain
    launches, which become part of it.
    """
    if out[0].numel() == 0:
        return
    if INTERPRETED:
        _run_plain(steps, given, out)
        return
    with torch.cuda.device(out[0].device):
        if _plain_only or torch.cuda.is_current_stream_capturing():
            _run_plain(steps, given, out)
        else:
            # Two streams must not share one graph's tensors.
            _run_again(steps, given, out, torch.cuda.current_stream().cuda_stream)


def _run_again(steps: Steps, given: Sequence[Tensor | None], out: Sequence[Tensor], stream: int) -> None:
    """Run plainly what is seen for the first time, from a graph what has been seen before."""
    # All that a graph depends on, but for the numbers: these are copied in.
    sizes = tuple(None if q is None else (q.dtype, q.shape, q.stride()) for q in (*given, *out))
    key = steps.__module__, out[0].device, stream, torch.get_float32_matmul_precision(), sizes
    with _lock:
        graph = _graphs.get(key)
        if graph is None and key not in _seen:
            _seen.put(key, True)
            _run_plain(steps, given, out)
            return
        if graph is None:
            graph = Graph(steps, given, out)
            _graphs.put(key, graph)
        graph.replay(given, out)
        _note(steps, "graph", graph.count, out)


def launches() -> dict[str, Launches]:
    """Return how the last forward and the last backward sweep over a chunk were started, by those names."""
    return dict(_last)


@contextmanager
def plain_launches() -> Iterator[None]:
    """Start every kernel from Python while this is open, in all threads, as autograd has its own."""
    global _plain_only
    before, _plain_only = _plain_only, True
    try:
        yield
    finally:
        _plain_only = before


def target(like: Tensor, launch: Counter) -> Target:
    """Return what kernels for such tensors are cut for; float32 follows torch.get_float32_matmul_precision()."""
    precision = "ieee"
    if like.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        precision = "tf32"
    if like.dtype == torch.bfloat16 and INTERPRETED:
        precision = "wide"
    return Target(Card.of(like.device), precision, launch)


def _run_plain(steps: Steps, given: Sequence[Tensor | None], out: Sequence[Tensor]) -> None:
    count = Counter()
    steps(target(out[0], count), given, out)
    _note(steps, "interpreted" if INTERPRETED else "plain", count, out)


def _note(steps: Steps, mode: str, count: Counter, out: Sequence[Tensor]) -> None:
    _last[steps.__module__.rsplit(".", 1)[1]] = Launches(mode, count.kernels, len(out[0]))
