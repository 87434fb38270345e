"""Programs of a launch as processes that wait for one another, in Triton's interpreter.

The interpreter runs programs one after the other, so one that waits for another would hang. Here each is a process over
shared memory. That shows a group barrier that is missing, early or late, and a read of what is not written yet, but not
a GPU's caches or memory order.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import context
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from triton.runtime import interpreter

from impls.batched_cuda.split import Card, Sizes, Split, Step
from suite.checks.triton.traced import Program, programs_traced, wrong_accesses

#: Seconds after which programs that still wait are taken for ones that wait for ever.
LIMIT = 120.0


@contextmanager
def together(members: int, *, package: str = "impls", rows: int = 16) -> Iterator[Counter[tuple[str, str]]]:
    """Run launches with group barriers, one process per member, while this is open, and count their `wrong_accesses`.

    rows: of a group. package: another one than the project's. The error of the first program that fails is raised here.
    """
    launching = import_module(f"{package}.batched_cuda.launching")
    cuts = import_module(f"{package}.batched_cuda.split")
    wrong = Counter[tuple[str, str]]()

    def start(kernel: Any, programs: int, values: Mapping[str, Any], device: torch.device, **options: Any) -> None:
        cooperative = options["launch_cooperative_grid"]
        assert cooperative == (members > 1) or kernel.__name__ == "rebuild"
        group = members if cooperative else 1
        arguments = {name: values[name] for name in kernel.arg_names}
        ended = _run(kernel, programs, group, arguments)
        wrong.update(wrong_accesses(kernel.__name__, ended, group, arguments))

    def fastest(sizes: Sizes, card: Card, step: Step) -> Split:
        """By the model, with these members and rows."""
        card = card._replace(multiprocessors=-(-sizes.B // rows) * members)
        splits = []
        for candidate in cuts.candidates(sizes, card, step is cuts.forward_step):
            if candidate.members == members and candidate.rows == rows:
                splits.append(step(sizes, card, candidate))
        return min(splits, key=cuts.cost)

    with mock.patch.object(launching, "start", start), mock.patch.object(cuts, "_split", fastest):
        yield wrong


#: The kernel that programs run, the members of a group and the arguments: of a process that was forked for it.
_launch: list[Any] = []


def _run(kernel: Any, programs: int, members: int, arguments: Mapping[str, Any]) -> list[Program]:
    """Run each program in its own process; return what they did. TimeoutError after `LIMIT` seconds."""
    for q in arguments.values():
        if isinstance(q, Tensor):
            q.share_memory_()
    _launch[:] = kernel, members, arguments
    done: dict[int, Program] = {}
    end = time.monotonic() + LIMIT
    with context.ForkContext().Pool(programs) as pool:
        ended = pool.imap_unordered(_program, range(programs))
        try:
            for _ in range(programs):
                done.update([ended.next(end - time.monotonic())])
        except context.TimeoutError:
            waiting = f"{programs - len(done)} of {programs} programs still wait"
            raise TimeoutError(f"{kernel.__name__}: {waiting} after {LIMIT:.0f} s") from None
    return [done[program] for program in range(programs)]


def _program(program: int) -> tuple[int, Program]:
    """Run one program in this process, and return its number and what it did. At each barrier another arrives late."""
    kernel, members, arguments = _launch
    builder = interpreter.interpreter_builder
    builder.set_grid_idx = lambda *_: setattr(builder, "grid_idx", (program, 0, 0))
    with programs_traced(0.002, lambda sync: sync % members == program % members) as programs:
        kernel[(1,)](**arguments)
    return program, programs[program, 0, 0]
