"""A forward and a backward pass of a layer, each one CUDA graph of all steps: its products, its sweeps, its sums.

What a forward graph leaves for the backward pass stays where the graph wrote it, and the backward graph reads it there:
a captured pass is taken from its forward pass until nobody can ask for the backward pass any more. A call that finds
all passes of its size taken runs plainly, and has one more captured where that happens often. Copied are x, the
parameters, the start, g's mask and the gradients of the results on their way in, and results and gradients on their way
out.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import dlpack
from torch.utils._pytree import tree_leaves

from ..chunks import share
from ..dropout import Mask
from ..sweeps import Forward, Gradient, room
from . import launching
from .graphs import Graph, Graphs, Pool, alike

R = TypeVar("R")
#: The share of a chunk's memory that is left to it in a graph, which also holds copies, and to the calls before it is
#: captured, which load its kernels. More chunks cost a graph nothing: they are launched with it.
CHUNK = 1 / 2
#: The most steps of one graph, which has a few nodes a step; a longer sequence is several.
STEPS = 512


class Pass:
    """A forward pass captured, and the backward passes that read what it leaves."""

    def __init__(self, forward: Callable[..., Any], arguments: Sequence[Any], key: Hashable, pool: Pool) -> None:
        self.key, self.pool = key, pool
        self._taken: list[StorageWeakRef] = []
        self.forward = _graph(forward, arguments, pool, _room)
        self.backward: dict[tuple[bool, ...], Graph] = {}

    @property
    def free(self) -> bool:
        """Whether nobody holds what the last forward pass left."""
        return all(left.expired() for left in self._taken)

    @property
    def bytes(self) -> int:
        """What its graphs read and make, their temporary arrays left out."""
        return sum(graph.bytes for graph in (self.forward, *self.backward.values()))

    @property
    def kernels(self) -> int:
        """Triton's kernels that a replay of the forward pass runs."""
        return self.forward.kernels

    def replay(self, arguments: Sequence[Any]) -> Any:
        """Run the forward pass on other tensors of the same sizes."""
        return self.forward.replay(arguments)

    @property
    def given(self) -> list[Tensor]:
        """What its graphs have copies of."""
        return [q for graph in (self.forward, *self.backward.values()) for q in graph.given]

    def lend(self) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """Return the results, which are the caller's, and what is left for the backward pass, which is the graph's."""
        out, last, *left = self.forward.made
        trajectory, residuals = ([_lent(q) for q in group] for group in left)
        self._taken = [StorageWeakRef(q.untyped_storage()) for q in (*trajectory, *residuals)]
        return out.clone(), _copies(last, out.dtype), trajectory, residuals

    def left(self, trajectory: Sequence[Tensor]) -> bool:
        """Return whether a trajectory is what the last forward pass left."""
        mine = self.forward.made[2]
        return bool(mine) and not self.free and mine[0].data_ptr() == trajectory[1].data_ptr()

    def capture(self, gradient: Gradient, d: Sequence[Any], needs: Sequence[bool], scale: float | None) -> Graph:
        """Capture the backward pass that makes the gradients in need."""
        x, params, start, kept = self.forward.arguments
        out, _, trajectory, residuals = self.forward.made

        def body(*d: Any) -> list[Tensor]:
            grads = gradient(x, params, start, [out, *trajectory], residuals, *d, needs, _mask(kept, scale))
            return [grad.to(x.dtype) for grad in grads]

        graph = self.backward[tuple(needs)] = _graph(body, d, self.pool)
        return graph


def _graph(
    body: Callable[..., Any],
    arguments: Sequence[Any],
    pool: Pool,
    room: Callable[[Sequence[Any]], Sequence[Any]] = alike,
) -> Graph:
    with launching.counted() as counter:
        graph = Graph(body, arguments, pool, room)
    graph.kernels = counter.kernels
    return graph


def _room(arguments: Sequence[Any]) -> Sequence[Any]:
    """Return room for copies of a pass's arguments, the second of which are the parameters."""
    x, params, *rest = arguments
    return [torch.empty_like(x), room(params), *alike(rest)]


def _copies(values: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [q.to(dtype, copy=True) for q in values]


def _clones(values: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of tensors of one dtype by one operator, a product with 1; a copy of each would be one each."""
    return list(torch._foreach_mul(list(values), 1)) if values else []


def _numbers(mask: Mask | None) -> tuple[list[Tensor], float | None]:
    """Return what of a mask is copied into a graph, in a list, and what the graph has been captured with."""
    return ([], None) if mask is None else ([mask.kept], mask.scale)


def _mask(kept: Sequence[Tensor], scale: float | None) -> Mask | None:
    """Return the mask of which `_numbers` are these."""
    return None if scale is None else Mask(kept[0], scale)


def _lent(q: Tensor) -> Tensor:
    """Return a tensor on the same memory with a storage of its own, whose end can be told."""
    result: Tensor = dlpack.from_dlpack(q.__dlpack__(stream=-1))
    return result


#: What this process remembers. Copying in, replaying and copying out belong together, whichever thread asks.
_lock = threading.RLock()
_graphs: Graphs[Any] = Graphs()
_plain_only = False


class Passes:
    """Both passes of an implementation, from graphs where that can be.

    An error in a capture is raised, not hidden, but for want of memory: then all graphs give theirs back, and the pass
    runs plainly. A caller's own capture is fed plain launches, which become part of it.
    """

    def __init__(self, forward: Forward, gradient: Gradient) -> None:
        self._forward, self._gradient = forward, gradient

    def forward(
        self, x: Tensor, params: Sequence[Tensor], start: Sequence[Tensor], keep: int, mask: Mask | None = None
    ) -> Any:
        """Run forward, see `sweeps.Forward`."""
        with _on(x) as stream:
            if stream is None:
                return _plain("forward", len(x), lambda: self._forward(x, params, start, keep, mask))
            with _lock, share(CHUNK):
                if len(x) > STEPS:
                    return self._forward_by_parts(x, params, start, keep, mask, stream)
                made, source = self._ahead(x, params, start, keep, mask, stream)
                return made if source is None else source.lend()

    def gradient(
        self,
        x: Tensor,
        params: Sequence[Tensor],
        start: Sequence[Tensor],
        trajectory: Sequence[Tensor],
        residuals: Sequence[Tensor],
        d_out: Tensor,
        d_last: Sequence[Tensor],
        needs: Sequence[bool],
        mask: Mask | None = None,
    ) -> list[Tensor]:
        """Run backward, see `sweeps.Gradient`."""
        known, d = (x, params, start, trajectory, residuals), (d_out, d_last)
        with _on(x) as stream:
            if stream is None:
                return _plain("backward", len(x), lambda: self._gradient(*known, *d, needs, mask))
            with _lock, share(CHUNK):
                if len(x) > STEPS:
                    return self._gradient_by_parts(*known, *d, needs, mask, stream)
                source = next((one for one in _graphs if _left(one, trajectory, stream)), None)
                if source is not None and tuple(needs) in source.backward:
                    graph = source.backward[tuple(needs)]
                    launching.note("backward", "graph", graph.kernels, len(x))
                    return _clones(graph.replay(d))
                grads = _with_all_memory("backward", len(x), lambda: self._gradient(*known, *d, needs, mask))
                _, scale = _numbers(mask)
                if source and _graphs.made(lambda: source.capture(self._gradient, d, needs, scale)) is None:
                    _graphs.never(source.key)
                return grads

    def _ahead(
        self,
        x: Tensor,
        params: Sequence[Tensor],
        start: Sequence[Tensor],
        keep: int,
        mask: Mask | None,
        stream: int,
    ) -> tuple[Any, Pass | None]:
        """Return what a forward pass makes and whose it is, if a graph's."""
        kept, scale = _numbers(mask)
        arguments = x, params, start, kept

        def call(x: Tensor, params: Sequence[Tensor], start: Sequence[Tensor], kept: Sequence[Tensor]) -> Any:
            return self._forward(x, params, start, keep, _mask(kept, scale))

        key = "forward", keep, scale, *_key(arguments, stream)
        return _replayed(key, call, arguments, lambda pool: Pass(call, arguments, key, pool), stream)

    def _forward_by_parts(
        self,
        x: Tensor,
        params: Sequence[Tensor],
        start: Sequence[Tensor],
        keep: int,
        mask: Mask | None,
        stream: int,
    ) -> Any:
        into: list[Tensor] = []
        for steps in _parts(len(x)):
            (out, start, trajectory, residuals), _ = self._ahead(
                x[steps], params, start, keep, mask and mask.part(steps), stream
            )
            made = [out, *trajectory, *residuals]
            into = into or [q.new_empty(len(x), *q.shape[1:]) for q in made]
            torch._foreach_copy_([q[steps] for q in into], made)
        n = 1 + len(trajectory)
        return into[0], _copies(start, x.dtype), into[1:n], into[n:]

    def _gradient_by_parts(
        self,
        x: Tensor,
        params: Sequence[Tensor],
        start: Sequence[Tensor],
        trajectory: Sequence[Tensor],
        residuals: Sequence[Tensor],
        d_out: Tensor,
        d_last: Sequence[Tensor],
        needs: Sequence[bool],
        mask: Mask | None,
        stream: int,
    ) -> list[Tensor]:
        n, (kept, scale) = len(start), _numbers(mask)
        carrying = [*needs[:-n], *[True] * n]  # each part hands the gradient of its start to the one before
        d_x, totals = x.new_empty(x.shape) if needs[0] else None, list[Tensor]()
        for steps in reversed(_parts(len(x))):
            first = [q[steps.start - 1] for q in trajectory] if steps.start else start
            *over, part = ([q[steps] for q in group] for group in (trajectory, residuals, kept))
            grads = self._back((x[steps], params, first, *over, d_out[steps], d_last, part), carrying, scale, stream)
            if d_x is not None:
                d_x[steps] = grads.pop(0)
            found, d_last = grads[:-n], grads[-n:]
            if not totals:
                totals = _clones(found)
            else:
                torch._foreach_add_(totals, found)
        d_start = [q.clone() for q, need in zip(d_last, needs[-n:], strict=True) if need]
        return [*([] if d_x is None else [d_x]), *totals, *d_start]

    def _back(self, arguments: Sequence[Any], needs: Sequence[bool], scale: float | None, stream: int) -> list[Tensor]:
        """Return the gradients of a part, a graph's own if it has one."""

        def call(*q: Any) -> list[Tensor]:
            return self._gradient(*q[:-1], needs, _mask(q[-1], scale))

        key = "backward", tuple(needs), scale, *_key(arguments, stream)
        made, _ = _replayed(key, call, arguments, lambda pool: _graph(call, arguments, pool, _room), stream)
        return list(made)


def _replayed(
    key: tuple[Any, ...],
    call: Callable[..., Any],
    arguments: Sequence[Any],
    capture: Callable[[Pool], Any],
    stream: int,
) -> tuple[Any, Any]:
    """Return what a call makes, and what it was replayed from; None if it ran plainly, and was captured if it is time.

    key: of the size, the direction first.
    """
    x, direction, found = arguments[0], key[0], _graphs.find(key)
    if found is not None:
        launching.note(direction, "graph", found.kernels, len(x))
        return found.replay(arguments), found
    made = _with_all_memory(direction, len(x), lambda: call(*arguments))
    _graphs.consider(key, capture, x.device, stream)
    return made, None


@contextmanager
def _on(x: Tensor) -> Iterator[int | None]:
    """Make x's device the current one; give its stream, or None where a call cannot be captured now."""
    with torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext():
        if _plain_only or not x.numel() or not captures(x.device) or torch.cuda.is_current_stream_capturing():
            yield None
        else:
            # Two streams must not share one graph's tensors.
            yield torch.cuda.current_stream().cuda_stream


def captures(device: torch.device) -> bool:
    """Return whether calls on a device can be captured."""
    return device.type == "cuda"


def _key(arguments: Sequence[Any], stream: int) -> tuple[Hashable, ...]:
    """Return all that a graph depends on, but for the numbers: these are copied in."""
    flat = tree_leaves(list(arguments))
    sizes = tuple((q.dtype, q.shape, q.stride()) for q in flat)
    return flat[0].device, stream, launching.float32_products(), sizes


def _left(one: Any, trajectory: Sequence[Tensor], stream: int) -> bool:
    return isinstance(one, Pass) and one.pool.stream == stream and one.left(trajectory)


def _parts(T: int) -> list[slice]:
    """Return T steps in parts of nearly equal length, which are graphs of at most two sizes."""
    n = -(-T // STEPS)
    return [slice(*ends) for ends in pairwise(T * i // n for i in range(n + 1))]


def _plain(direction: str, steps: int, call: Callable[[], R]) -> R:
    """Start the kernels of a pass from Python."""
    with launching.counted() as counter:
        made = call()
    launching.note(direction, "interpreted" if launching.INTERPRETED else "plain", counter.kernels, steps)
    return made


def _with_all_memory(direction: str, steps: int, call: Callable[[], R]) -> R:
    """Run a pass plainly, if need be with the memory that graphs hold."""
    try:
        return _plain(direction, steps, call)
    except torch.OutOfMemoryError:
        if not clear():
            raise
    return _plain(direction, steps, call)  # out of the handler, which holds what the first try had made


@contextmanager
def plain_launches() -> Iterator[None]:
    """Start every kernel from Python while this is open, in all threads, as autograd has its own."""
    global _plain_only
    before, _plain_only = _plain_only, True
    try:
        yield
    finally:
        _plain_only = before


def clear() -> bool:
    """Let all graphs go and give their memory back; return whether there were any."""
    with _lock:
        return _graphs.clear()


def graph_bytes() -> int:
    """Return the bytes of device memory that graphs hold."""
    with _lock:
        return _graphs.bytes
