"""Kernels with a fault each, which the trace has to find: a race, an overrun, a promise that does not hold."""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

from collections.abc import Callable

import torch
import triton
import triton.language as tl

N = 16


@triton.jit
def shifted(x, to, SHIFT: tl.constexpr, N: tl.constexpr):
    """Write x to `to`, N numbers a program, from SHIFT on: programs meet where SHIFT differs between them."""
    program = tl.program_id(0)
    k = program * (N - SHIFT) + tl.arange(0, N)
    tl.store(to + k, tl.load(x + k))


@triton.jit
def neighbours(x, N: tl.constexpr):
    """Add to N numbers those of the next program, which it changes too."""
    k = tl.program_id(0) * N + tl.arange(0, N)
    there = tl.load(x + k + N, mask=k + N < N * tl.num_programs(0), other=0.0)
    tl.store(x + k, tl.load(x + k) + there)


@triton.jit
def too_far(x, to, N: tl.constexpr, ALIGN: tl.constexpr):
    """Write N numbers, promised to be aligned, whether or not there is room."""
    k = tl.arange(0, N)
    tl.store(tl.multiple_of(to + k, ALIGN), tl.load(x + k))


@triton.jit
def turned(x, N: tl.constexpr, BARRIER: tl.constexpr):
    """Write N numbers and read them back in the other order."""
    k = tl.arange(0, N)
    tl.store(x + k, k.to(tl.float32))
    if BARRIER:
        tl.debug_barrier()
    tl.store(x + N + k, tl.load(x + N - 1 - k))


@triton.jit
def turned_in_place(x, N: tl.constexpr, BARRIER: tl.constexpr):
    """Read N numbers and write them back in the other order; after a barrier, so that the program has one."""
    k = tl.arange(0, N)
    tl.debug_barrier()
    value = tl.load(x + N - 1 - k)
    if BARRIER:
        tl.debug_barrier()
    tl.store(x + k, value)


def _numbers(n: int) -> torch.Tensor:
    return torch.zeros(n)


#: What is started, by the fault that the trace has to find; "none" where there is none to find.
PLANTED: dict[str, Callable[[], object]] = {
    "shifted: written by two programs": lambda: shifted[(2,)](_numbers(2 * N), _numbers(2 * N), 1, N),
    "neighbours: read, and written by another program": lambda: neighbours[(2,)](_numbers(2 * N), N),
    "too_far: outside the tensors given": lambda: too_far[(1,)](_numbers(N), _numbers(2 * N)[: N - 1], N, 16),
    "too_far: less aligned than promised": lambda: too_far[(1,)](_numbers(N), _numbers(N + 1)[1:], N, 16),
    "turned: read back without a barrier": lambda: turned[(1,)](_numbers(2 * N), N, False),
    "turned_in_place: overwritten without a barrier": lambda: turned_in_place[(1,)](_numbers(N), N, False),
    "none: shifted": lambda: shifted[(2,)](_numbers(2 * N), _numbers(2 * N), 0, N),
    "none: neighbours": lambda: neighbours[(1,)](_numbers(N), N),
    "none: too_far": lambda: too_far[(1,)](_numbers(N), _numbers(N), N, 16),
    "none: turned": lambda: turned[(1,)](_numbers(2 * N), N, True),
    "none: turned_in_place": lambda: turned_in_place[(1,)](_numbers(N), N, True),
}
