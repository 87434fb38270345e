"""CUDA graphs of calls: captured once a size, fed by copies, kept while they are of use.

A graph owns every tensor that it reads or writes, so that nothing in it can be stale. Many sizes never come again: a
size is captured when it has come `LATE` times, and one whose graph had to make room for others takes twice as many
calls each time.
"""

import gc
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

#: A call: (tensors to read, None where there is none) -> tensors that it made.
Body = Callable[[Sequence[Tensor | None]], Sequence[Tensor]]

#: The call of a size after which it is captured.
LATE = 3
#: Graphs kept, sizes remembered, and the share of the card's memory that what graphs read and write may take.
COUNT, SIZES, SHARE = 64, 1024, 1 / 8


class Pool:
    """The memory that the graphs of one stream share, and the side stream on which they are captured.

    They run one after another, so that one may use what another's temporary arrays leave.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0
        self.handle, self.side = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)


class Graph:
    """A call captured with the tensors that it reads and makes."""

    def __init__(self, body: Body, given: Sequence[Tensor | None], pool: Pool) -> None:
        # A tensor made in inference mode could not be written to outside of it.
        with torch.inference_mode(False), torch.no_grad():
            self.given = [None if q is None else torch.empty_like(q).copy_(q) for q in given]
            self._graph, self.made = _capture(lambda: body(self.given), pool)
        self.kernels = 0  # of Triton's that a replay runs; who captures counts them
        self.bytes = sum(q.nbytes for q in (*self.given, *self.made) if q is not None)

    def replay(self, given: Sequence[Tensor | None]) -> None:
        """Make the tensors again from others of the same sizes."""
        pairs = [(to, q) for to, q in zip(self.given, given, strict=True) if to is not None and q is not None]
        torch._foreach_copy_([to for to, _ in pairs], [q for _, q in pairs])
        self._graph.replay()


def _capture(work: Callable[[], Sequence[Tensor]], pool: Pool) -> tuple[torch.cuda.CUDAGraph, Sequence[Tensor]]:
    """Return a graph of the work with the tensors that it makes; on an error, the stream is what it was.

    The work has run before at the same sizes: a capture must not compile or load a kernel.
    """
    here, graph = torch.cuda.current_stream(pool.device), torch.cuda.CUDAGraph()
    pool.side.wait_stream(here)
    with torch.cuda.stream(pool.side), _no_garbage_collection():
        torch.cuda.current_blas_handle()  # nor may it make the handle for products, or their workspace on this stream
        reserved = torch.cuda.memory_reserved(pool.device)
        # What other threads do meanwhile, loading data for one, is not this capture's concern.
        graph.capture_begin(pool.handle, capture_error_mode="thread_local")
        try:
            made = work()
        except BaseException:
            with suppress(RuntimeError):  # that something failed is known
                graph.capture_end()
            raise
        graph.capture_end()
        pool.bytes += torch.cuda.memory_reserved(pool.device) - reserved
    here.wait_stream(pool.side)
    return graph, made


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Let Python free no cycle in here: one that holds a graph or an event would end the capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Size:
    """What is remembered of a size: calls since it had no graph, and how many of them a graph takes."""

    def __init__(self) -> None:
        self.calls, self.takes = 0, float(LATE)


class Graphs:
    """The graphs that are kept, the least recently used of which make room, and the sizes that have been seen."""

    def __init__(self, count: int, total: Callable[[torch.device], float], sizes: int = SIZES) -> None:
        self._count, self._total, self._sizes = count, total, sizes
        self._kept: OrderedDict[Hashable, Graph] = OrderedDict()
        self._seen: OrderedDict[Hashable, Size] = OrderedDict()
        self._pools: dict[Hashable, Pool] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """What graphs hold: copies of what they read, and their pools."""
        read = (q.nbytes for graph in self._kept.values() for q in graph.given if q is not None)
        return sum(read) + sum(pool.bytes for pool in self._pools.values())

    def find(self, key: Hashable) -> Graph | None:
        """Return the graph of a size, which is now the most recently used, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def due(self, key: Hashable) -> bool:
        """Count a call of a size that has no graph, and return whether it is worth one now."""
        size = self._size(key)
        size.calls += 1
        return size.calls >= size.takes

    def never(self, key: Hashable) -> None:
        """Remember a size as one whose graph there is no memory for."""
        self._size(key).takes = math.inf

    def pool(self, device: torch.device, stream: int) -> Pool:
        """Return the pool of a stream's graphs."""
        return self._pools.setdefault((device, stream), Pool(device))

    def keep(self, key: Hashable, graph: Graph, device: torch.device) -> None:
        """Keep a graph, and let the least recently used go where they are too many or too large."""
        self._kept[key] = graph
        total = self._total(device)
        while len(self._kept) > 1 and (
            len(self._kept) > self._count or sum(one.bytes for one in self._kept.values()) > total
        ):
            gone, _ = self._kept.popitem(last=False)
            size = self._size(gone)
            size.calls, size.takes = 0, 2 * size.takes

    def clear(self) -> None:
        """Let all graphs go and their memory with them."""
        self._kept.clear()
        self._pools.clear()
        torch.cuda.empty_cache()

    def _size(self, key: Hashable) -> Size:
        size = self._seen.setdefault(key, Size())
        self._seen.move_to_end(key)
        if len(self._seen) > self._sizes:
            self._seen.popitem(last=False)
        return size
