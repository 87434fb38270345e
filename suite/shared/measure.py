"""Peak memory, operator calls and synchronisation, the same way on any device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile


def synchronize(device: torch.device) -> None:
    """Wait until everything queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def operator_calls(work: Callable[[], object]) -> int:
    """Run work once and return how many operators were called, without those that only call others."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    # Autograd's own events are named like operators, and hold them.
    events = [e for e in profiler.profiler.kineto_results.events() if "::" in e.name() and "autograd" not in e.name()]
    calls = 0
    for thread in {e.start_thread_id() for e in events}:
        spans = sorted((e.start_ns(), -e.duration_ns()) for e in events if e.start_thread_id() == thread)
        ends = [start - duration for start, duration in spans]
        # Sorted so, an operator that another called comes right after it, and starts before it ends.
        calls += sum(k + 1 == len(spans) or spans[k + 1][0] >= end for k, end in enumerate(ends))
    return calls


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Run work once and return the most that torch's allocator held above what it held before, in bytes."""
    if device.type != "cuda":
        with _allocations() as events:
            work()
        return max(accumulate(events), default=0)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def kept_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Run work once and return what torch's allocator holds more than before while the result of work lives."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        result = work()
        kept = torch.cuda.memory_allocated(device) - before
    else:
        with _allocations() as events:
            result = work()
        kept = sum(events)
    del result
    return kept


@contextmanager
def _allocations() -> Iterator[list[int]]:
    """Collect the bytes of each allocation on the CPU, and of each release as a negative number, in order of time."""
    found: list[int] = []
    # The CPU allocator keeps no statistics, but reports every allocation and release to the profiler.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield found
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    found.extend(event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()))
