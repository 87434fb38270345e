"""Races, bounds and alignment: every address that the programs of a launch access, as Triton's interpreter computes it.

On a GPU the programs of a launch are ordered by syncs of their group alone, and the threads of a program by barriers
alone. The interpreter runs all in one order, so results cannot show a race, but addresses can. An *epoch* is what a
program does between two syncs. Not detected: an overrun into another tensor of the same launch, and, in a program
without barriers, a thread that overwrites what another thread has yet to read.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor
from torch.utils._pytree import tree_leaves
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

#: What is noted of each access: its address, the bytes of an element, whether it writes, how many barriers the program
#: has passed, and how many syncs of its group.
COLUMNS = ("address", "size", "writes", "barriers", "epoch")
#: Seconds by which a program is late.
LATE = 0.01


@dataclass
class Program:
    """What one program of a launch did so far; if it waits for others, it is in a process of its own."""

    accessed: list[npt.NDArray[np.int64]] = field(default_factory=lambda: [np.empty((len(COLUMNS), 0), np.int64)])
    barriers: int = 0
    written: int = -1  # barriers that it had passed at its last write
    misaligned: int = 0  # starts of runs of neighbours that are less aligned than promised
    unordered: int = 0  # arrivals at a sync after a write, with no barrier of the program in between
    arrived: list[float] = field(default_factory=list)  # at each sync, and when it went on, in seconds
    passed: list[float] = field(default_factory=list)

    @cached_property
    def accesses(self) -> pd.DataFrame:
        """All accesses in their order, one row per element, when the program has ended."""
        accesses = pd.DataFrame(np.concatenate(self.accessed, axis=1).T, columns=COLUMNS)
        return accesses.astype({"writes": bool})

    def note(self, pointers: Any, mask: Any, writes: bool) -> None:
        at, live = np.broadcast_arrays(pointers.data, np.asarray(mask.data, dtype=bool))
        if writes:
            self.written = self.barriers
        about = at[live].astype(np.int64), _size(pointers), writes, self.barriers, len(self.arrived)
        self.accessed.append(np.array(np.broadcast_arrays(*about)))

    def promise(self, pointers: Any, values: Any) -> None:
        """Note where the first of each run of neighbours is less aligned than promised."""
        at = np.ravel(pointers.data).astype(np.int64)
        first = np.diff(at, prepend=at[0]) != _size(pointers)
        self.misaligned += int(np.count_nonzero(at[first] % int(np.ravel(values)[-1])))

    def barrier(self) -> None:
        """Note a barrier; the first one after the program arrived at a sync is where it goes on."""
        self.barriers += 1
        if len(self.passed) < len(self.arrived):
            self.passed.append(time.monotonic())

    def atomic(self, value: Any, patience: float, late: Callable[[int], bool]) -> None:
        """Note that the program arrives at a sync, or only polls it, after which it sleeps."""
        if np.any(value.data):
            if late(len(self.arrived)):
                time.sleep(LATE)
            self.unordered += self.written == self.barriers
            self.arrived.append(time.monotonic())
        else:
            time.sleep(patience)


def _size(pointers: Any) -> int:
    return int(pointers.get_element_ty().primitive_bitwidth) // 8


def wrong_accesses(kernel: str, programs: Sequence[Program], members: int, arguments: Any) -> Counter[tuple[str, str]]:
    """Number of accesses of a launch that are wrong, by its kernel and what is wrong.

    members: of a group. arguments: of the kernel.
    """
    tensors = [q for q in tree_leaves(arguments) if isinstance(q, Tensor) and q.numel()]
    faults = Counter(_between_programs(programs, members))
    for program in programs:
        faults.update(_within_program(program, tensors))
    return Counter({(kernel, fault): count for fault, count in faults.items() if count})


def _between_programs(programs: Sequence[Program], members: int) -> dict[str, int]:
    """Number of accesses that race: one program writes what another accesses, without a sync in between.

    Programs of one group sync between epochs, those of different groups never do.
    """
    of_programs = []
    for n, program in enumerate(programs):
        of_programs.append(program.accesses.assign(program=n, group=n // members))
    every = pd.concat(of_programs, ignore_index=True)
    by_program = _by_another(every, "program", ["address", "epoch"])
    by_group = _by_another(every, "group", ["address"])
    raced = by_program | by_group
    groups = [programs[n : n + members] for n in range(0, len(programs), members)]
    return {
        "written by two programs": int((raced & every["writes"]).sum()),
        "read, and written by another program": int((raced & ~every["writes"]).sum()),
        "went on before all had arrived": sum(_early(group) for group in groups),
    }


def _by_another(accesses: pd.DataFrame, who: str, place: list[str]) -> pd.Series:
    """Mask of the accesses at a place that another program, or group, writes."""
    actors = accesses[who]
    writers = actors.where(accesses["writes"]).groupby([accesses[column] for column in place])
    raced: pd.Series = (writers.transform("min") < actors) | (writers.transform("max") > actors)
    return raced


def _early(group: Sequence[Program]) -> int:
    """Number of times that a member left a sync before all had arrived."""
    last_arrival = np.max([program.arrived for program in group], axis=0)
    passed = np.array([program.passed for program in group])
    return int(np.count_nonzero(passed < last_arrival))


def _within_program(program: Program, tensors: list[Tensor]) -> dict[str, int]:
    """Number of wrong accesses within one program, by fault."""
    accesses = program.accesses
    first = accesses["address"]
    last = first + accesses["size"]
    inside = np.zeros(len(first), dtype=bool)
    for q in tensors:
        numbers = 1 + sum((size - 1) * stride for size, stride in zip(q.shape, q.stride(), strict=True))
        begin = q.data_ptr()
        end = begin + numbers * q.itemsize
        inside |= (first >= begin) & (last <= end)
    return {
        "less aligned than promised": program.misaligned,
        "arrived without a barrier after a write": program.unordered,
        "outside the tensors of the launch": int(np.count_nonzero(~inside)),
        "read back without a barrier": _without_a_barrier(accesses, False),
        "overwritten without a barrier": _without_a_barrier(accesses, True) if program.barriers else 0,
    }


def _without_a_barrier(accesses: pd.DataFrame, writes: bool) -> int:
    """Number of reads (writes) after a write (read) of the same address with no barrier in between."""
    number = pd.Series(range(len(accesses)))
    of_kind = accesses["writes"] == writes
    others = number.mask(of_kind).groupby([accesses["address"], accesses["barriers"]])
    first_other = others.transform("min")
    return int((of_kind & (first_other < number)).sum())


def _before(owner: type, method: str, note: Callable[..., object]) -> AbstractContextManager[object]:
    """Call `note` before each call of a method."""
    call = getattr(owner, method)

    def noted(self: Any, *args: Any, **options: Any) -> Any:
        note(self, *args)
        return call(self, *args, **options)

    return mock.patch.object(owner, method, noted)


@contextmanager
def programs_traced(
    patience: float = 0.0, late: Callable[[int], bool] = lambda sync: False
) -> Iterator[dict[Any, Program]]:
    """Note what programs do, by their index in the grid, while this is open.

    patience: seconds between two polls of a sync. late: whether a program arrives late at the sync of a number.
    """
    programs = defaultdict[Any, Program](Program)

    def now() -> Program:
        return programs[tuple(interpreter.interpreter_builder.grid_idx)]

    def load(_: Any, pointers: Any, mask: Any, *rest: Any) -> None:
        now().note(pointers, mask, writes=False)

    def store(_: Any, pointers: Any, values: Any, mask: Any, *rest: Any) -> None:
        now().note(pointers, mask, writes=True)

    def barrier(_: Any) -> None:
        now().barrier()

    def atomic(_: Any, operation: Any, pointers: Any, value: Any, *rest: Any) -> None:
        now().atomic(value, patience, late)

    def promise(handle: Any, name: str, values: Any) -> None:
        if name == "tt.divisibility":
            now().promise(handle, values)

    with (
        _before(InterpreterBuilder, "create_masked_load", load),
        _before(InterpreterBuilder, "create_masked_store", store),
        _before(InterpreterBuilder, "create_barrier", barrier),
        _before(InterpreterBuilder, "create_atomic_rmw", atomic),
        _before(TensorHandle, "set_attr", promise),
    ):
        yield programs


@contextmanager
def launches_traced() -> Iterator[Counter[tuple[str, str]]]:
    """Trace every launch of programs that do not sync, while this is open, and count their `wrong_accesses`."""
    wrong = Counter[tuple[str, str]]()
    start = GridExecutor.__call__

    def noted_start(self: Any, *args: Any, **constants: Any) -> Any:
        with programs_traced() as programs:
            result = start(self, *args, **constants)
        wrong.update(wrong_accesses(self.fn.__name__, list(programs.values()), 1, (args, constants)))
        return result

    with mock.patch.object(GridExecutor, "__call__", noted_start):
        yield wrong
