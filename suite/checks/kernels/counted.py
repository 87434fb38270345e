"""What a training step of `batched_cuda` asks of the host and moves, counted at full size on a machine without a GPU.

Run as `python -m suite.checks.kernels.counted FILE` with TRITON_INTERPRET=1, in a process of its own. Streams and
graphs are those of `simulated.py`, and nothing computes: an operator gives what `torch.empty` gives, a kernel writes
nothing.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from triton.runtime.interpreter import InterpretedFunction

from impls import batched_cuda, chunks
from impls.batched_cuda import graphs, passes
from impls.definition import LayerParams, LayerState, shapes
from impls.dropout import Mask
from impls.registry import dtype_name, find
from suite.checks.kernels import simulated
from suite.checks.kernels.simulated import storage, tensors
from suite.shared.cases import OF_ONE_LENGTH, WORKLOADS, Case
from suite.shared.children import leave

#: The card's memory, on which the length of a chunk depends.
MEMORY = 80 << 30
CASES = [
    (case, dtype)
    for case in (*OF_ONE_LENGTH.values(), replace(WORKLOADS["char-ptb"], layer_norm=True))
    for dtype in (torch.float32, torch.bfloat16)
]
#: A sequence that is more than one graph.
LONG = replace(WORKLOADS["small"], name="long", T=1100)


def _meta(values: Any) -> Any:
    return tree_map_only(Tensor, lambda q: q.to("meta") if q.device.type != "meta" else q, values)


class Counting(TorchDispatchMode):
    """Computes nothing, and counts what it is asked for, what that would move, and the most that stands in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.moved = self.most = 0
        self.passing = 0  # the most that a capture made and let go again, at one time
        self._made: list[tuple[StorageWeakRef, int]] = []

    def live(self) -> int:
        """Return the bytes that stand in memory of what was made in here."""
        self._made = [(ref, size) for ref, size in self._made if not ref.expired()]
        return sum(size for _, size in self._made)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return empty tensors of the right sizes, or what func would have written to."""
        kwargs, given = kwargs or {}, tensors((args, kwargs))
        if func.namespace == "impls":  # what it does in there is counted one by one
            return func(*args, **kwargs)
        self.operators += 1
        if func._schema.is_mutable:
            self.moved += sum(q.nbytes for q in given)
            return args[0] if len(func._schema.returns) == 1 else None
        if any(value.alias_info is not None for value in func._schema.returns) or "_unsafe_view" in str(func):
            result = func(*args, **kwargs)
            if not {storage(q) for q in given}.isdisjoint(map(storage, tensors(result))):
                return result
        device = {"device": "meta"} if "device" in kwargs else {}
        sizes = func(*_meta(args), **{**_meta(kwargs), **device})
        made = tree_map_only(Tensor, lambda q: torch.empty_strided(q.shape, q.stride(), dtype=q.dtype), sizes)
        self._made += [(StorageWeakRef(q.untyped_storage()), q.nbytes) for q in tensors(made)]
        self.most = max(self.most, self.live())
        if "empty" not in str(func):  # which moves nothing
            self.moved += sum(q.nbytes for q in (*given, *tensors(made)))
        return made


class CUDAGraph:
    """A graph of nothing."""

    def capture_begin(self, *_: Any, **__: Any) -> None:
        """Note what stands in memory."""
        COUNTING.most = COUNTING.live()

    def capture_end(self) -> None:
        """Note what stood in memory for a time."""
        COUNTING.passing = max(COUNTING.passing, COUNTING.most - COUNTING.live())

    def replay(self) -> None:
        """Count as one operator."""
        COUNTING.operators += 1


COUNTING = Counting()


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing computed, and a pass captured after its first call."""
    simulated.install(monkeypatch)
    on = passes._on

    @contextmanager
    def counting(x: Tensor) -> Iterator[int | None]:
        with on(x) as stream, COUNTING:
            yield stream

    monkeypatch.setattr(InterpretedFunction, "run", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", CUDAGraph)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=MEMORY))
    monkeypatch.setattr(passes, "_on", counting)
    monkeypatch.setattr(graphs, "LATE", 1)
    monkeypatch.setitem(chunks._LIMITS, "cpu", chunks.limits(torch.device("cuda")))


class Asked(NamedTuple):
    """What a training step of one layer asked for."""

    operators: int
    moved: int
    most: int


def _step(p: LayerParams, case: Case, dtype: torch.dtype, everything: bool = False) -> Asked:
    x, d_out = (torch.empty(case.T, case.B, F, dtype=dtype) for F in (case.I, case.H))
    s = LayerState(*(torch.empty(case.B, F, dtype=dtype) for F in (case.H, case.H, case.S, case.S)))
    leaves, mask = p.present(), Mask(torch.empty(case.T, case.B, case.H, dtype=torch.bool), 2.0)
    if everything:
        leaves += [q.requires_grad_() for q in (x, *s)]
    COUNTING.operators = COUNTING.moved = 0
    before = COUNTING.most = COUNTING.live()
    with COUNTING:
        out, _ = find("batched_cuda").run(p, x, s, mask if everything else None)
        grads = torch.autograd.grad(out, leaves, d_out)
    assert [grad.shape for grad in grads] == [q.shape for q in leaves]
    return Asked(COUNTING.operators, COUNTING.moved, COUNTING.most - before)


def _replayed(*arguments: Any) -> tuple[Asked, int]:
    """Have both passes of a step captured; return what a step asks then, and the bytes that the graphs hold."""
    COUNTING.passing = 0
    for _ in range(graphs.LATE + 1):
        _step(*arguments)
    held = COUNTING.live() + COUNTING.passing
    found = _step(*arguments)
    assert {one.mode for one in batched_cuda.launches().values()} == {"graph"}
    return found, held


def counts(case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """Return the row of a layer's training step: by plain launches, and once both passes are replayed."""
    sizes = shapes(case.I, case.H, case.S, case.Z, layer_norm=case.layer_norm)
    p = LayerParams(**{name: torch.empty(shape, dtype=dtype).requires_grad_() for name, shape in sizes.items()})
    with batched_cuda.plain_launches():
        plain = _step(p, case, dtype)
    replayed, held = _replayed(p, case, dtype)
    started = batched_cuda.launches()
    batched_cuda.clear()
    of_everything, _ = _replayed(p, case, dtype, True)
    batched_cuda.clear()
    return {
        "workload": case.name,
        "layer_norm": "on" if case.layer_norm else "off",
        "dtype": dtype_name(dtype),
        **{name: getattr(case, name) for name in "TBIHSZ"},
        "plain_operators": plain.operators,
        "operators": replayed.operators,
        "most_operators": of_everything.operators,
        "moved_bytes": replayed.moved,
        "forward_kernels": started["forward"].kernels,
        "backward_kernels": started["backward"].kernels,
        "plain_bytes": plain.most,
        "held_bytes": held,
    }


if __name__ == "__main__":
    install(pytest.MonkeyPatch())
    for case, dtype in CASES:
        leave(Path(sys.argv[1]), counts(case, dtype))
    leave(Path(sys.argv[1]), counts(LONG, torch.float32) | {"parts": len(passes._parts(LONG.T))})
