"""batched_cpu built for tests: counts what its threads do, lets them be fewer or late, and lets allocations fail."""

import ctypes
import faulthandler
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from impls import batched_cpu, why_unavailable
from impls.batched_cpu import build
from impls.batched_cpu.loading import Library

#: Not optimised, so that a build takes three seconds, with indices of containers checked, and scratch arrays apart, of
#: NaN. Its memory functions are for it alone.
FLAGS = ("-O0", "-w", "-D_GLIBCXX_ASSERTIONS", "-DHYPERLSTM_INSTRUMENTED", "-DHYPERLSTM_POISON", "-Wl,-Bsymbolic")
#: The most threads that count.
THREADS = 64
#: What is counted of a thread, see `Counted` in instruments.h.
COUNTS = np.dtype([(name, np.int64) for name in ("groups", "members", "tries", "packed")])
#: Seconds, far more than a test takes, after which its threads wait for one another for ever.
HANGS = 120.0


def counted(library: Library) -> tuple[npt.NDArray[np.void], int]:
    """What each thread did since the last call, a row of `COUNTS`; and how many blocks of memory are held."""
    of_threads = np.zeros(THREADS, COUNTS)
    held = library._library.hyperlstm_counted(of_threads.ctypes.data_as(ctypes.c_void_p))
    return of_threads, held


def limit_team(library: Library, threads: int = THREADS) -> None:
    """Choose the most threads that a team has, as where OpenMP starts fewer than requested."""
    library._library.hyperlstm_limit_team(ctypes.c_int64(threads))


def make_late(library: Library, microseconds: int = 0) -> None:
    """Choose for how long one member of a group waits longer than the others, another one after each wait."""
    library._library.hyperlstm_make_late(ctypes.c_int64(microseconds))


def fail(library: Library, thread: int = -1, number: int = -1) -> None:
    """Let a thread's allocation of that number fail, counted from the last call of `counted`; none by default."""
    library._library.hyperlstm_fail(ctypes.c_int64(thread), ctypes.c_int64(number))


@contextmanager
def instrumented(dtype: torch.dtype, instruction_set: str = "baseline") -> Iterator[Library]:
    """Let batched_cpu run a library built for tests while the context is open; skips where there is none.

    After `HANGS` seconds the process ends: nothing else ends a wait in C++. This replaces pytest's own limit.
    """
    if shutil.which(build.compiler()[0]) is None:
        pytest.skip(f"{build.compiler()[0]} is not on the path")
    if instruction_set != "baseline" and not torch.cpu.get_capabilities().get(instruction_set):
        pytest.skip(f"This processor has no {instruction_set}.")
    why_unavailable("batched_cpu", "cpu", dtype)  # builds the library for use, which takes time of its own
    library = _library(instruction_set, dtype)
    counted(library)
    faulthandler.dump_traceback_later(HANGS, exit=True, file=2)
    try:
        with pytest.MonkeyPatch.context() as changed:
            changed.setattr(batched_cpu, "library", {dtype: library}.__getitem__)
            yield library
    finally:
        faulthandler.cancel_dump_traceback_later()
        fail(library)
        limit_team(library)
        make_late(library)


@cache
def _library(instruction_set: str, dtype: torch.dtype) -> Library:
    parts = [(instruction_set, dtype)]
    flags = [*build.extra_flags(), *FLAGS]
    folder = build.folder_of(parts, flags)
    if not build.intact(folder / build.LIBRARY):
        build.build(folder, parts, flags)
    return Library(folder / build.LIBRARY, dtype, instruction_set)


@contextmanager
def started_with(library: Library, functions: Mapping[str, Any]) -> Iterator[None]:
    """Let a library, built for tests or not, call functions in place of torch's and OpenMP's while the context is open.

    functions: by the name of the one that they replace; None for one that is missing.
    """
    library.start(functions)
    try:
        yield
    finally:
        library.start({})
