"""Races, bounds and alignment: every address that the programs of a launch touch, as Triton's interpreter computes it.

On a card the programs of a launch run in any order, and so do the threads of one program between two barriers. The
interpreter runs all in one order, so its results say nothing of a race; the addresses do. Not seen: an overrun into
another tensor of the same launch, and, in a program without barriers, a thread that overwrites what another thread has
still to read. There the phases put gradients in the place of what they are made of, number by number.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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


@dataclass
class Trace:
    """How much was started while it was traced, and what was wrong with it: how many addresses by kernel and fault."""

    launches: int = 0
    programs: int = 0
    addresses: int = 0
    wrong: Counter[str] = field(default_factory=Counter)


class _Access(NamedTuple):
    """What one load or store of one program touches."""

    program: int
    barriers: int  # that the program has passed
    writes: bool
    addresses: npt.NDArray[np.int64]
    size: int  # of an element, in bytes


class _Launch:
    """The accesses of one launch in their order."""

    def __init__(self) -> None:
        self.programs: dict[tuple[int, ...], int] = {}
        self.barriers: Counter[int] = Counter()
        self.accesses: list[_Access] = []
        self.misaligned = 0

    def program(self) -> int:
        """Return the number of the program that runs now."""
        return self.programs.setdefault(tuple(interpreter.interpreter_builder.grid_idx), len(self.programs))

    def note(self, pointers: Any, mask: Any, writes: bool) -> None:
        """Note a load or a store."""
        at, live = np.broadcast_arrays(pointers.data, np.asarray(mask.data, dtype=bool))
        program = self.program()
        touched = at[live].astype(np.int64)
        self.accesses.append(_Access(program, self.barriers[program], writes, touched, _size(pointers)))

    def promise(self, pointers: Any, values: Any) -> None:
        """Note where the first of each run of neighbours is less aligned than promised."""
        at = np.ravel(pointers.data).astype(np.int64)
        first = np.diff(at, prepend=at[0]) != _size(pointers)
        self.misaligned += int(np.count_nonzero(at[first] % int(np.ravel(values)[-1])))

    def wrong(self, tensors: list[Tensor]) -> Iterator[tuple[str, int]]:
        """Yield each fault with the number of addresses that have it."""
        yield "less aligned than promised", self.misaligned
        yield "outside the tensors given", sum(_outside(access, tensors) for access in self.accesses)
        writes = [access for access in self.accesses if access.writes and access.addresses.size]
        if not writes:
            return
        pairs = np.concatenate([np.stack([a.addresses, np.full_like(a.addresses, a.program)]) for a in writes], axis=1)
        at, by = np.unique(pairs, axis=1)
        yield "written by two programs", int(np.count_nonzero(np.diff(at) == 0))
        reads = [access for access in self.accesses if not access.writes]
        yield "read, and written by another program", sum(_of_another(access, at, by) for access in reads)
        yield "read back without a barrier", self._without_a_barrier(False, range(len(self.programs)))
        yield "overwritten without a barrier", self._without_a_barrier(True, self.barriers)

    def _without_a_barrier(self, writes: bool, programs: Iterable[int]) -> int:
        """Count what a program reads (writes) that one of its threads has written (read) since its last barrier."""
        found, touched = 0, dict.fromkeys(programs, (-1, np.empty(0, np.int64)))
        for access in self.accesses:
            if access.program not in touched:
                continue
            barriers, earlier = touched[access.program]
            if access.writes != writes:
                kept = earlier if barriers == access.barriers else earlier[:0]
                touched[access.program] = access.barriers, np.concatenate([kept, access.addresses])
            elif barriers == access.barriers:
                found += int(np.count_nonzero(np.isin(access.addresses, earlier)))
        return found


def _size(pointers: Any) -> int:
    return int(pointers.get_element_ty().primitive_bitwidth) // 8


def _outside(access: _Access, tensors: list[Tensor]) -> int:
    inside = np.zeros(access.addresses.shape, dtype=bool)
    for q in tensors:
        last = sum((n - 1) * s for n, s in zip(q.shape, q.stride(), strict=True))
        end = q.data_ptr() + (last + 1) * q.itemsize
        inside |= (access.addresses >= q.data_ptr()) & (access.addresses + access.size <= end)
    return int(np.count_nonzero(~inside))


def _of_another(access: _Access, at: npt.NDArray[np.int64], by: npt.NDArray[np.int64]) -> int:
    """Return how many numbers an access reads that another program writes; at: written addresses, sorted; by: whose."""
    place = np.minimum(np.searchsorted(at, access.addresses), at.size - 1)
    return int(np.count_nonzero((at[place] == access.addresses) & (by[place] != access.program)))


def _before(owner: type, method: str, note: Callable[..., object]) -> AbstractContextManager[object]:
    """Have a method noted before each of its calls."""
    call = getattr(owner, method)

    def noted(self: Any, *given: Any, **options: Any) -> Any:
        note(self, *given)
        return call(self, *given, **options)

    return mock.patch.object(owner, method, noted)


@contextmanager
def traced() -> Iterator[Trace]:
    """Trace every launch while this is open, in this thread."""
    trace, now, start = Trace(), [_Launch()], GridExecutor.__call__

    def promise(handle: Any, name: str, values: Any) -> None:
        if name == "tt.divisibility":
            now[0].promise(handle, values)

    def noted_start(self: Any, *given: Any, **constants: Any) -> Any:
        now[0] = launch = _Launch()
        result = start(self, *given, **constants)
        tensors = [q for q in tree_leaves((given, constants)) if isinstance(q, Tensor) and q.numel()]
        trace.launches += 1
        trace.programs += len(launch.programs)
        trace.addresses += sum(access.addresses.size for access in launch.accesses)
        trace.wrong.update({f"{self.fn.__name__}: {fault}": n for fault, n in launch.wrong(tensors) if n})
        return result

    with (
        _before(InterpreterBuilder, "create_masked_load", lambda _, at, mask, *rest: now[0].note(at, mask, False)),
        _before(InterpreterBuilder, "create_masked_store", lambda _, at, x, mask, *rest: now[0].note(at, mask, True)),
        _before(InterpreterBuilder, "create_barrier", lambda _: now[0].barriers.update([now[0].program()])),
        _before(TensorHandle, "set_attr", promise),
        mock.patch.object(GridExecutor, "__call__", noted_start),
    ):
        yield trace
