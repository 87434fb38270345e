"""CUDA streams and graphs simulated on CPU tensors, where Triton's interpreter stands for the card.

Needs TRITON_INTERPRET=1. A capture records kernels and aten calls with their very tensors and runs none of them; what
is made or written in it is NaN. A replay runs the record, after it has filled with NaN what the capture made, so that
nothing survives from one replay to the next. What a graph reads that is neither its own nor made in its capture, and
the order of streams and of pools, are noted for the checks.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.interpreter import GridExecutor, InterpretedFunction

#: Memory of the card.
TOTAL = 1 << 34


def storage(q: Tensor) -> int:
    """Return the address of the memory that a tensor lies in."""
    return q.untyped_storage().data_ptr()


def tensors(values: Any) -> list[Tensor]:
    """Return the tensors in a tree of values."""
    return [q for q in tree_leaves(values) if isinstance(q, Tensor)]


def _poison(written: Sequence[Tensor]) -> None:
    with torch.inference_mode():
        for q in written:
            q.fill_(torch.nan if q.is_floating_point() else -1)


@dataclass
class Stream:
    """A stream: nothing but who it is."""

    device: Any = None
    cuda_stream: int = field(default_factory=itertools.count(1).__next__)

    def wait_stream(self, other: "Stream") -> None:
        """Wait, which calls that run at once need not."""


class Recorder(TorchDispatchMode):
    """Writes down what a capture asks for."""

    def __init__(self, card: "Card") -> None:
        super().__init__()
        self.card = card
        self.calls: list[Callable[[], None]] = []
        self.made: list[Tensor] = []
        self._own: set[int] = set()

    def reads(self, name: str, given: Sequence[Tensor]) -> None:
        """Note what was not made in here."""
        self.card.read += [(name, q) for q in given if q.numel() and storage(q) not in self._own]

    def kernel(self, kernel: Any, args: Sequence[Any], options: dict[str, Any]) -> None:
        """Record a launch."""
        self.reads(kernel.__name__, tensors(args))
        self.calls.append(lambda: self.card.launch(kernel, args, options))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record an aten call; views and empty tensors are made at once, all else is NaN until a replay."""
        self.card.maybe_fail()
        kwargs, given = kwargs or {}, tensors((args, kwargs))
        empty = "empty" in str(func)  # which reads no numbers, only sizes
        if not empty:
            self.reads(str(func), given)
        if func._schema.is_mutable:
            written = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
            named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
            out = [q for name in written for q in tensors(named[name])]
            _poison(out)
            self.calls.append(lambda: func(*args, **kwargs))
            returned = len(func._schema.returns)
            return None if returned == 0 else out[0] if returned == 1 else tuple(out[:returned])
        result = func(*args, **kwargs)
        fresh = [q for q in tensors(result) if q.numel() and storage(q) not in {storage(g) for g in given}]
        self._own.update(map(storage, fresh))
        self.made += fresh
        _poison(fresh)
        if fresh and not empty:
            self.calls.append(lambda: _again(func, args, kwargs, result))
        return result


def _again(func: Any, args: Any, kwargs: Any, result: Any) -> None:
    with torch.inference_mode():
        for to, q in zip(tensors(result), tensors(func(*args, **kwargs)), strict=True):
            to.copy_(q)


class OfAThread(threading.local):
    """What each thread has to itself."""

    recorder: Recorder | None = None  # of its capture
    stream: Stream | None = None


class Card:
    """The card that stands behind `torch.cuda` while a check runs, and what happened on it."""

    def __init__(self) -> None:
        self.default, self.thread = Stream(), OfAThread()
        self.captures = self.replays = self.cleared = 0
        self.launched: list[tuple[str, dict[str, Any]]] = []
        self.read: list[tuple[str, Tensor]] = []  # in captures, made outside of them
        self.streams: dict[Any, set[int]] = {}  # that replayed a pool's graphs
        self.fails: BaseException | None = None  # what the next captures raise, part of the way through
        self._fails_at, self.failed = 0, False
        self._pools: dict[Any, WeakSet[Any]] = {}
        self._running = threading.Lock()  # the interpreter knows one program at a time

    @property
    def stream(self) -> Stream:
        """The stream of this thread."""
        return self.thread.stream or self.default

    @contextlib.contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """Use another stream."""
        before, self.thread.stream = self.thread.stream, stream
        try:
            yield
        finally:
            self.thread.stream = before

    def live_in(self, pool: Any) -> "WeakSet[Any]":
        """Return the graphs of a pool, into which none may be captured once all are gone."""
        known = pool in self._pools
        graphs = self._pools.setdefault(pool, WeakSet())
        assert graphs or not known, "a pool without graphs takes no more"
        return graphs

    def maybe_fail(self) -> None:
        """Raise what a capture is to raise, after some calls of it."""
        self._fails_at += 1
        if self.fails is not None and self._fails_at % 5 == 0:
            self.failed = True
            raise self.fails

    def launch(self, kernel: Any, args: Sequence[Any], options: dict[str, Any]) -> None:
        """Run a kernel, or record it in a capture."""
        if self.thread.recorder is not None:
            self.thread.recorder.kernel(kernel, args, options)
            return
        with self._running:
            self.launched.append((kernel.__name__, options))
            _run(kernel, *args, **options)


_run = InterpretedFunction.run


def graph_class(card: Card) -> type:
    """Return what stands for torch.cuda.CUDAGraph."""

    class CUDAGraph:
        def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
            assert card.thread.recorder is None
            card.captures += 1
            card.live_in(pool).add(self)
            self.pool, self.recorder = pool, Recorder(card)
            card.thread.recorder = self.recorder
            self.recorder.__enter__()

        def capture_end(self) -> None:
            self.recorder.__exit__(None, None, None)
            card.thread.recorder = None
            failed, card.failed = card.failed, False
            if failed:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

        def replay(self) -> None:
            assert card.thread.recorder is None
            card.replays += 1
            card.streams.setdefault(self.pool, set()).add(card.stream.cuda_stream)
            _poison(self.recorder.made)
            with torch.no_grad():
                for call in self.recorder.calls:
                    call()

    return CUDAGraph


def install(monkeypatch: pytest.MonkeyPatch) -> Card:
    """Put a card behind torch.cuda, and an empty memory behind `batched_cuda`, whose calls on the CPU are captured."""
    from impls import batched_cuda
    from impls.batched_cuda import graphs, launching, passes

    card, pools = Card(), itertools.count()

    def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        card.launch(kernel, args, {"grid": grid, "warmup": warmup, **options})

    def empty_cache() -> None:
        card.cleared += 1

    monkeypatch.setattr(InterpretedFunction, "run", run)
    # The interpreter's copies to the host, which tensors on the CPU need not, are made by functions that hold
    # themselves and every tensor given: a lent one would look in use until garbage is collected.
    monkeypatch.setattr(GridExecutor, "_init_args_hst", lambda self, args, kwargs: (args, kwargs))
    monkeypatch.setattr(GridExecutor, "_restore_args_dev", lambda self, *args: None)
    for name, value in {
        "CUDAGraph": graph_class(card),
        "Stream": Stream,
        "stream": card.on,
        "device": lambda device: contextlib.nullcontext(),
        "current_stream": lambda device=None: card.stream,
        "is_current_stream_capturing": lambda: card.thread.recorder is not None,
        "graph_pool_handle": lambda: (0, next(pools)),
        "current_blas_handle": lambda: 0,
        "memory_reserved": lambda device=None: 0,
        "empty_cache": empty_cache,
        "get_device_properties": lambda device: type("Properties", (), {"total_memory": TOTAL}),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(passes, "captures", lambda device: True)
    monkeypatch.setattr(passes, "_graphs", graphs.Graphs())
    monkeypatch.setattr(launching, "_last", {})
    monkeypatch.setattr(batched_cuda, "why_unavailable", lambda device, dtype: None)
    return card
