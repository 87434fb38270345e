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
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

#: The call of a size after which it is captured.
LATE = 3
#: Sizes whose graphs are kept, sizes remembered, and the share of the card's memory that what graphs read and write may
#: take.
COUNT, SIZES, SHARE = 64, 1024, 1 / 8


class Pool:
    """The memory that the graphs of one stream share, and the side stream on which they are captured.

    They run one after another, so that one may use what another's temporary arrays leave.
    """

    def __init__(self, device: torch.device, stream: int) -> None:
        self.device, self.stream, self.bytes = device, stream, 0
        self.handle, self.side = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)


def alike(arguments: Sequence[Any]) -> Sequence[Any]:
    """Return room for copies of arguments, each like its own."""
    return [tree_map(torch.empty_like, argument) for argument in arguments]


class Graph:
    """A call captured with the tensors that it reads and makes.

    body: takes tensors and lists of them, and returns the same; it has run before at the same sizes, since a capture
    must not compile or load a kernel.
    room: makes of the arguments tensors of their sizes, into which they are copied.
    """

    free = True  # what it makes, the caller has copied before the next call

    def __init__(
        self,
        body: Callable[..., Any],
        arguments: Sequence[Any],
        pool: Pool,
        room: Callable[[Sequence[Any]], Sequence[Any]],
    ) -> None:
        self.pool = pool
        flat = tree_leaves(list(arguments))
        # A tensor made in inference mode could not be written to outside of it.
        with torch.inference_mode(False), torch.no_grad():
            self.arguments = room(arguments)
            self.given: list[Tensor] = [to.copy_(q) for to, q in zip(tree_leaves(self.arguments), flat, strict=True)]
            self._graph, self.made = _capture(lambda: body(*self.arguments), pool)
        # In one operator each: a copy of tensors of several dtypes at once would be a launch for each tensor.
        self._by_dtype = [[k for k, q in enumerate(flat) if q.dtype == dtype] for dtype in {q.dtype: 0 for q in flat}]
        self.kernels = 0  # of Triton's that a replay runs; who captures counts them
        self.bytes = sum(q.nbytes for q in (*self.given, *tree_leaves(self.made)))

    def replay(self, arguments: Sequence[Any]) -> Any:
        """Return what the call makes of other tensors of the same sizes: the graph's own, until the next replay."""
        flat = tree_leaves(list(arguments))
        for alike in self._by_dtype:
            torch._foreach_copy_([self.given[k] for k in alike], [flat[k] for k in alike])
        self._graph.replay()
        return self.made


def _capture(work: Callable[[], Any], pool: Pool) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Return a graph of the work with what it makes; on an error, the stream is what it was."""
    here, graph = torch.cuda.current_stream(pool.device), torch.cuda.CUDAGraph()
    pool.side.wait_stream(here)
    with torch.cuda.stream(pool.side), _no_garbage_collection():
        torch.cuda.current_blas_handle()  # a capture must not make it, nor its workspace for this stream
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


class Kept(Protocol):
    """What is kept for a size."""

    @property
    def pool(self) -> Pool:
        """Where its graphs have their memory."""

    @property
    def given(self) -> Sequence[Tensor]:
        """What its graphs have copies of."""

    @property
    def bytes(self) -> int:
        """What its graphs read and make."""

    @property
    def free(self) -> bool:
        """Whether the next call may use it."""


V = TypeVar("V", bound=Kept)


class Size:
    """What is remembered of a size: calls for which it had no graph, and how many of them a graph takes."""

    def __init__(self) -> None:
        self.calls, self.takes = 0, float(LATE)


class Graphs(Generic[V]):
    """What is kept by size, the least recently used of which makes room, and the sizes that have been seen."""

    def __init__(self) -> None:
        self.count, self.values = COUNT, OrderedDict[Hashable, list[V]]()
        self._seen: OrderedDict[Hashable, Size] = OrderedDict()
        self._pools: dict[Hashable, Pool] = {}

    def __iter__(self) -> Iterator[V]:
        """Go over all that is kept."""
        return (value for values in self.values.values() for value in values)

    @property
    def bytes(self) -> int:
        """What graphs hold: copies of what they read, and their pools."""
        return sum(q.nbytes for value in self for q in value.given) + sum(pool.bytes for pool in self._pools.values())

    def find(self, key: Hashable) -> V | None:
        """Return what is free of a size, which is now the most recently used, or None."""
        if key in self.values:
            self.values.move_to_end(key)
        return next((value for value in self.values.get(key, ()) if value.free), None)

    def pool(self, device: torch.device, stream: int) -> Pool:
        """Return the pool of a stream's graphs; torch takes no more graphs into one whose graphs are all gone."""
        found = self._pools.get((device, stream))
        if found is None or not any(value.pool is found for value in self):
            found = self._pools[device, stream] = Pool(device, stream)
        return found

    def consider(self, key: Hashable, make: Callable[[Pool], V], device: torch.device, stream: int) -> None:
        """Count a call of a size for which nothing was free, and keep what is made once that happens often."""
        size = self._size(key)
        size.calls += 1
        total, mine = SHARE * torch.cuda.get_device_properties(device).total_memory, self.values.get(key, [])
        if size.calls < size.takes or (mine and self._bytes() + mine[0].bytes > total):
            return
        value = self.made(lambda: make(self.pool(device, stream)))
        if value is None:
            self.never(key)
            return
        size.calls = 0
        self.values.setdefault(key, []).append(value)
        self.values.move_to_end(key)
        self._make_room(total)

    def never(self, key: Hashable) -> None:
        """Remember a size as one for whose graphs there is no memory."""
        self._size(key).takes = math.inf

    def made(self, make: Callable[[], Any]) -> Any:
        """Return what is made, or None where there was no memory for it: then all graphs give theirs back."""
        with suppress(torch.OutOfMemoryError):
            return make()
        self.clear()
        return None

    def clear(self) -> bool:
        """Let all graphs go and their memory with them; return whether there were any."""
        found = bool(self.values)
        self.values.clear()
        self._pools.clear()
        torch.cuda.empty_cache()
        return found

    def _make_room(self, total: float) -> None:
        while len(self.values) > 1 and (len(self.values) > self.count or self._bytes() > total):
            gone, _ = self.values.popitem(last=False)
            size = self._size(gone)
            size.calls, size.takes = 0, 2 * size.takes

    def _bytes(self) -> int:
        return sum(value.bytes for value in self)

    def _size(self, key: Hashable) -> Size:
        size = self._seen.setdefault(key, Size())
        self._seen.move_to_end(key)
        if len(self._seen) > SIZES:
            self._seen.popitem(last=False)
        return size
