"""Memory and operators of a pass, on any device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from suite.shared.devices import DeviceType


class Called(TorchDispatchMode):
    """Names of the torch operators that are called, views included."""

    def __init__(self) -> None:
        super().__init__()
        self.names = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Most memory that torch's allocator holds during the work, in bytes, above what it held before."""
    with allocations(device) as sizes:
        work()
    return max(accumulate(sizes, initial=0))


def saved_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Memory that torch's allocator holds in addition while the result of the work exists, in bytes."""
    with allocations(device) as sizes:
        result = work()
    del result
    return sum(sizes)


@contextmanager
def allocations(device: torch.device) -> Iterator[list[int]]:
    """Collect the bytes of allocations, and as negative numbers those of releases, in order.

    On a GPU there are two numbers alone: the rise to the peak, and the change from there to the end.
    """
    sizes: list[int] = []
    if device.type == DeviceType.CUDA:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield sizes
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        sizes += [peak - before, torch.cuda.memory_allocated(device) - peak]
        return
    # The CPU allocator has no statistics, but reports each allocation and release to the profiler, which takes a third
    # of the time if it does not record operators.
    torch._C._autograd._enable_record_function(False)
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            yield sizes
    finally:
        torch._C._autograd._enable_record_function(True)
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes.extend(event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()))
