"""How the kernels of a sweep are started: one by one from Python, or all at once from a CUDA graph."""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from . import graphs
from .forward_kernels import main_gates
from .graphs import Graph, Graphs
from .target import Target
from .tiles import Card

#: Whether the kernels were made for Triton's interpreter, which is settled when their modules are first imported.
INTERPRETED = isinstance(main_gates, InterpretedFunction)
#: Bytes that an address is a multiple of: Triton compiles a kernel again for an address that is not.
_ALIGNED = 16

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


def new_graphs() -> Graphs:
    """Return an empty memory of graphs."""
    return Graphs(graphs.COUNT, lambda device: graphs.SHARE * torch.cuda.get_device_properties(device).total_memory)


#: What this process remembers. Copying in, replaying and copying out belong together, whichever thread asks.
_lock = threading.RLock()
_graphs = new_graphs()
_last: dict[str, Launches] = {}
_plain_only = False


def run(steps: Steps, given: Sequence[Tensor | None], out: Sequence[Tensor]) -> None:
    """Run a sweep over a chunk by the fastest way there is for it; an error in a capture is raised, not hidden.

    given: tensors to read, None where the layer has none; out: tensors to write. A caller's own capture is fed plain
    launches, which become part of it. Where memory runs out, all graphs give theirs back.
    """
    if out[0].numel() == 0:
        return
    if not captures(out[0].device):
        _run_plain(steps, given, out)
        return
    with torch.cuda.device(out[0].device):
        if _plain_only or torch.cuda.is_current_stream_capturing():
            _run_plain(steps, given, out)
        else:
            # Two streams must not share one graph's tensors.
            _run_again(steps, given, out, torch.cuda.current_stream().cuda_stream)


def captures(device: torch.device) -> bool:
    """Return whether calls on a device can be captured."""
    return device.type == "cuda"


def _run_again(steps: Steps, given: Sequence[Tensor | None], out: Sequence[Tensor], stream: int) -> None:
    """Run from a graph what has one, else plainly, and capture what has come often enough."""
    # All that a graph depends on, but for the numbers: these are copied in.
    sizes = tuple(None if q is None else (q.dtype, q.shape, q.stride()) for q in (*given, *out))
    device = out[0].device
    key = steps.__module__, device, stream, torch.backends.cuda.matmul.fp32_precision, sizes
    with _lock:
        graph = _graphs.find(key)
        if graph is not None:
            graph.replay(given)
            torch._foreach_copy_(list(out), list(graph.made))
            _note(steps, "graph", graph.kernels, out)
            return
    try:
        _run_plain(steps, given, out)
    except torch.OutOfMemoryError:
        if not clear():
            raise
        _run_plain(steps, given, out)
    with _lock:
        if _graphs.due(key):
            _capture(key, steps, given, out, stream)


def _capture(key: Hashable, steps: Steps, given: Sequence[Tensor | None], out: Sequence[Tensor], stream: int) -> None:
    """Keep a graph of the sweep, if there is memory for it."""
    count = Counter()

    def body(given: Sequence[Tensor | None]) -> list[Tensor]:
        made = [torch.empty_like(q) for q in out]
        steps(target(made[0], count), given, made)
        return made

    try:
        graph = Graph(body, given, _graphs.pool(out[0].device, stream))
    except torch.OutOfMemoryError:
        _graphs.never(key)
        clear()
        return
    graph.kernels = count.kernels
    _graphs.keep(key, graph, out[0].device)


def clear() -> bool:
    """Let all graphs go and give their memory back; return whether there were any."""
    with _lock:
        found = len(_graphs) > 0
        _graphs.clear()
    return found


def graph_bytes() -> int:
    """Return the bytes of device memory that graphs hold."""
    with _lock:
        return _graphs.bytes


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
    """Return what kernels for such tensors are cut for; float32 follows torch.backends.cuda.matmul.fp32_precision."""
    precision = "ieee"
    # Unlike torch.get_float32_matmul_precision() this never raises, and follows torch.set_float32_matmul_precision().
    if like.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32":
        precision = "tf32"
    if like.dtype == torch.bfloat16 and INTERPRETED:
        precision = "wide"
    return Target(Card.of(like.device), precision, launch)


def _run_plain(steps: Steps, given: Sequence[Tensor | None], out: Sequence[Tensor]) -> None:
    count, made = Counter(), [q if _is_aligned(q) else torch.empty_like(q) for q in out]
    steps(target(out[0], count), [q if q is None or _is_aligned(q) else q.clone() for q in given], made)
    for q, new in zip(out, made, strict=True):
        if q is not new:
            q.copy_(new)
    _note(steps, "interpreted" if INTERPRETED else "plain", count.kernels, out)


def _is_aligned(q: Tensor) -> bool:
    return q.data_ptr() % _ALIGNED == 0


def _note(steps: Steps, mode: str, kernels: int, out: Sequence[Tensor]) -> None:
    _last[steps.__module__.rsplit(".", 1)[1]] = Launches(mode, kernels, len(out[0]))
