"""Races, bounds and alignment: every address that the programs of a launch access, as Triton's interpreter computes it.

On a GPU only a sync of its group orders the programs of a launch, and only a barrier the threads of a program. The
interpreter runs all in one order, so results cannot show a race, but addresses can. An *epoch* is what a program does
between two syncs. Not detected: an overrun into another tensor of the same launch, and, in a program without barriers,
a thread that overwrites what another thread has yet to read.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils._pytree import tree_leaves
from triton.runtime import interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

Integers = npt.NDArray[np.int64]
#: Seconds by which a program is late.
LATE = 0.01


class Accesses(NamedTuple):
    """Accesses of one program of a launch in its order, one row per element."""

    address: Integers
    size: Integers  # of an element, in bytes
    writes: npt.NDArray[np.bool_]
    barriers: Integers  # that the program has passed
    epoch: Integers  # syncs of its group that it has passed
    arrived: npt.NDArray[np.float64]  # at each sync, and when it went on, in seconds
    passed: npt.NDArray[np.float64]
    misaligned: int  # starts of runs of neighbours that are less aligned than promised
    unordered: int  # arrivals at a sync after a write, with no barrier of the program in between


@dataclass
class Trace:
    """Size of what was traced, and how many addresses were wrong, by kernel and fault."""

    launches: int = 0
    programs: int = 0
    addresses: int = 0
    syncs: int = 0  # of all programs
    wrong: Counter[str] = field(default_factory=Counter)

    def add(self, kernel: str, traces: list[Accesses], races: dict[str, int], tensors: list[Tensor]) -> None:
        """Add the accesses of the programs of one launch; races: faults between programs."""
        self.launches += 1
        self.programs += len(traces)
        self.addresses += sum(one.address.size for one in traces)
        self.syncs += sum(int(one.epoch.max(initial=0)) for one in traces)
        faults = Counter(races)
        for one in traces:
            faults.update(_within_program(one, tensors))
        self.wrong.update({f"{kernel}: {fault}": n for fault, n in faults.items() if n})


@dataclass
class Program:
    """What one program of a launch did so far; if it waits for others, it is in a process of its own."""

    accessed: list[Integers] = field(default_factory=lambda: [np.empty((5, 0), np.int64)])  # rows of `Accesses`
    barriers: int = 0
    written: int = -1  # barriers that it had passed at its last write
    misaligned: int = 0
    unordered: int = 0
    arrived: list[float] = field(default_factory=list)
    passed: list[float] = field(default_factory=list)

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

    @property
    def accesses(self) -> Accesses:
        address, size, writes, barriers, epoch = np.concatenate(self.accessed, axis=1)
        times = np.array(self.arrived), np.array(self.passed)
        return Accesses(address, size, writes.astype(bool), barriers, epoch, *times, self.misaligned, self.unordered)


def _size(pointers: Any) -> int:
    return int(pointers.get_element_ty().primitive_bitwidth) // 8


def tensors_of(tree: Any) -> list[Tensor]:
    return [q for q in tree_leaves(tree) if isinstance(q, Tensor) and q.numel()]


def between_programs(traces: Sequence[Accesses], members: int) -> dict[str, int]:
    """Number of accesses that race: one program writes what another accesses, without a sync in between.

    members: of a group. Programs of one group sync between epochs, those of different groups never do.
    """
    if not any(one.writes.any() for one in traces):
        return {}
    program = np.concatenate([np.full(one.address.size, n) for n, one in enumerate(traces)])
    every = {name: np.concatenate([getattr(one, name) for one in traces]) for name in ("address", "writes", "epoch")}
    address, writes, epoch = every.values()
    at_any_time = _numbered(address)
    in_epoch = _numbered(at_any_time * (epoch.max() + 1) + epoch)
    raced = _by_another(in_epoch, program, writes) | _by_another(at_any_time, program // members, writes)
    return {
        "written by two programs": int(np.count_nonzero(raced & writes)),
        "read, and written by another program": int(np.count_nonzero(raced & ~writes)),
        "went on before all had arrived": sum(_early(traces[n : n + members]) for n in range(0, len(traces), members)),
    }


def _early(group: Sequence[Accesses]) -> int:
    """Number of times that a member left a sync before all had arrived."""
    counts = {len(one.arrived) for one in group} | {len(one.passed) for one in group}
    if len(counts) > 1:
        return max(counts) - min(counts)
    arrived, passed = (np.stack([one[k] for one in group]) for k in map(Accesses._fields.index, ("arrived", "passed")))
    return int(np.count_nonzero(passed < arrived.max(axis=0)))


def _numbered(values: Integers) -> Integers:
    """Numbers from 0 that are equal where the values are."""
    return np.unique(values, return_inverse=True)[1].ravel().astype(np.int64)


def _by_another(place: Integers, who: Integers, writes: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mask of the accesses at a place that another writes; place: numbered from 0."""
    least, most = np.full(place.max() + 1, who.max() + 1), np.full(place.max() + 1, -1)
    np.minimum.at(least, place[writes], who[writes])
    np.maximum.at(most, place[writes], who[writes])
    by_others = (least[place] != who) | (most[place] != who)
    raced: npt.NDArray[np.bool_] = (most[place] >= 0) & by_others
    return raced


def _within_program(one: Accesses, tensors: list[Tensor]) -> dict[str, int]:
    """Number of wrong accesses within one program, by fault."""
    inside = np.zeros(one.address.shape, dtype=bool)
    for q in tensors:
        last = sum((n - 1) * s for n, s in zip(q.shape, q.stride(), strict=True))
        end = q.data_ptr() + (last + 1) * q.itemsize
        inside |= (one.address >= q.data_ptr()) & (one.address + one.size <= end)
    has_barriers = bool(one.barriers.any())
    return {
        "less aligned than promised": one.misaligned,
        "arrived without a barrier after a write": one.unordered,
        "outside the tensors given": int(np.count_nonzero(~inside)),
        "read back without a barrier": _without_a_barrier(one, False),
        "overwritten without a barrier": _without_a_barrier(one, True) if has_barriers else 0,
    }


def _without_a_barrier(one: Accesses, writes: bool) -> int:
    """Number of reads (writes) after a write (read) of the same address with no barrier in between."""
    if not one.address.size:
        return 0
    place = _numbered(_numbered(one.address) * (one.barriers.max() + 1) + one.barriers)
    first = np.full(place.max() + 1, place.size)
    other = np.flatnonzero(one.writes != writes)
    np.minimum.at(first, place[other], other)
    of_kind = np.flatnonzero(one.writes == writes)
    return int(np.count_nonzero(first[place[of_kind]] < of_kind))


def _before(owner: type, method: str, note: Callable[..., object]) -> AbstractContextManager[object]:
    """Call `note` before each call of a method."""
    call = getattr(owner, method)

    def noted(self: Any, *args: Any, **options: Any) -> Any:
        note(self, *args)
        return call(self, *args, **options)

    return mock.patch.object(owner, method, noted)


@contextmanager
def tracing(patience: float = 0.0, late: Callable[[int], bool] = lambda sync: False) -> Iterator[dict[Any, Program]]:
    """Note what programs do, by their index in the grid, while this is open.

    patience: seconds between two polls of a sync. late: whether a program arrives late at a sync, given its number.
    """
    programs = defaultdict[Any, Program](Program)

    def now() -> Program:
        return programs[tuple(interpreter.interpreter_builder.grid_idx)]

    def promise(handle: Any, name: str, values: Any) -> None:
        if name == "tt.divisibility":
            now().promise(handle, values)

    with (
        _before(InterpreterBuilder, "create_masked_load", lambda _, at, mask, *rest: now().note(at, mask, False)),
        _before(InterpreterBuilder, "create_masked_store", lambda _, at, x, mask, *rest: now().note(at, mask, True)),
        _before(InterpreterBuilder, "create_barrier", lambda _: now().barrier()),
        _before(
            InterpreterBuilder, "create_atomic_rmw", lambda _, op, at, value, *rest: now().atomic(value, patience, late)
        ),
        _before(TensorHandle, "set_attr", promise),
    ):
        yield programs


@contextmanager
def traced() -> Iterator[Trace]:
    """Trace every launch of programs that do not sync, while this is open."""
    trace, start = Trace(), GridExecutor.__call__

    def noted_start(self: Any, *args: Any, **constants: Any) -> Any:
        with tracing() as programs:
            result = start(self, *args, **constants)
        traces = [program.accesses for program in programs.values()]
        trace.add(self.fn.__name__, traces, between_programs(traces, 1), tensors_of((args, constants)))
        return result

    with mock.patch.object(GridExecutor, "__call__", noted_start):
        yield trace
