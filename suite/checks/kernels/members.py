"""Programs of a launch as processes that wait for one another, in Triton's interpreter.

The interpreter runs programs one after the other, so one that waits for another would hang. Here each is a process over
shared memory. That shows a group barrier that is missing, early or late, and a read of what is not written yet, but not
a GPU's caches or memory order: `compiled.py` reads those from the instructions around each barrier.
"""

import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from triton.runtime import interpreter

from impls.batched_cuda import split
from impls.batched_cuda.split import Card, Sizes, Split, Step
from suite.checks.kernels.traced import Accesses, Trace, between_programs, tensors_of, tracing

#: Seconds after which programs that still wait are taken for ones that wait for ever.
LIMIT = 120.0


class HangError(RuntimeError):
    """Programs that wait for one another for longer than a limit."""


@contextmanager
def together(members: int, *, package: str = "impls", rows: int = 16, limit: float = LIMIT) -> Iterator[Trace]:
    """Run and trace launches with group barriers, one process per member, while this is open.

    rows: of a group. package: another one than the project's. limit: seconds, then HangError. RuntimeError has the
    traceback of the first program that fails.
    """
    launching, cuts = import_module(f"{package}.batched_cuda.launching"), import_module(f"{package}.batched_cuda.split")
    trace = Trace()

    def start(kernel: Any, programs: int, values: Mapping[str, Any], device: torch.device, **options: Any) -> None:
        cooperative = options["launch_cooperative_grid"]
        assert cooperative == (members > 1) or kernel.__name__ == "rebuild"
        group, arguments = members if cooperative else 1, {name: values[name] for name in kernel.arg_names}
        accesses = _run(kernel, programs, group, arguments, limit)
        trace.add(kernel.__name__, accesses, between_programs(accesses, group), tensors_of(arguments))

    def forced(step: Step) -> Callable[[Sizes, Card], Split]:
        return lambda sizes, card: _forced(sizes, members, rows, step)

    with (
        mock.patch.object(launching, "start", start),
        mock.patch.object(cuts, "forward", forced(split.forward_step)),
        mock.patch.object(cuts, "backward", forced(split.backward_step)),
    ):
        yield trace


def _forced(sizes: Sizes, members: int, rows: int, step: Step) -> Split:
    """Fastest split with these members and rows, by the model."""
    groups = -(-sizes.B // rows)
    card = split.H100._replace(multiprocessors=groups * members)
    found = split.candidates(sizes, card, step is split.forward_step)
    return min((step(sizes, card, one) for one in found if (one.members, one.rows) == (members, rows)), key=split.cost)


def _run(kernel: Any, programs: int, members: int, arguments: Mapping[str, Any], limit: float) -> list[Accesses]:
    """Run each program in its own process; return their accesses. At each barrier another member arrives late."""
    for q in arguments.values():
        if isinstance(q, Tensor):
            q.share_memory_()
            if q.dtype == torch.int32 and q.count_nonzero():
                raise ValueError(f"{kernel.__name__}: expected counters of arrivals at 0, got {q.max()}")
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"{program}.npz" for program in range(programs)]
        running = {_forked(kernel, n, members, arguments, log): log for n, log in enumerate(logs)}
        try:
            _wait(kernel.__name__, running, limit)
        finally:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        return [_read(log) for log in logs]


def _forked(kernel: Any, program: int, members: int, arguments: Mapping[str, Any], log: Path) -> int:
    """Start one program and return its process; the log gets its accesses, or a file next to it an error."""
    if pid := os.fork():
        return pid
    try:
        builder = interpreter.interpreter_builder
        builder.set_grid_idx = lambda *_: setattr(builder, "grid_idx", (program, 0, 0))
        with tracing(0.002, lambda sync: sync % members == program % members) as launch:
            kernel[(1,)](**arguments)
        np.savez(log, **launch.accesses(program)._asdict())
        os._exit(0)
    except BaseException:
        log.with_suffix(".txt").write_text(traceback.format_exc())
        os._exit(1)


def _read(log: Path) -> Accesses:
    with np.load(log) as found:
        return Accesses(**found)._replace(misaligned=int(found["misaligned"]), unordered=int(found["unordered"]))


def _wait(name: str, running: dict[int, Path], limit: float) -> None:
    """Wait until all have ended, and remove each from `running`; raise if one fails or they take too long."""
    count, end = len(running), time.monotonic() + limit
    while running:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                said = running.pop(pid).with_suffix(".txt")
                if status:
                    raise RuntimeError(f"{name}: a program failed:\n{said.read_text() if said.exists() else status}")
        if time.monotonic() > end:
            raise HangError(f"{name}: {len(running)} of {count} programs still wait after {limit:.0f} s")
        time.sleep(0.01)
