"""Memory and kernels of a pass, on any device."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

#: In a row whose baseline ran without cuDNN.
NO_KERNEL = "no kernel seen"
#: Kernels of cuDNN's recurrent layers name cuDNN, or their layer in capitals, unlike torch's `lstm_cell_forward`.
_OF_CUDNN = re.compile("cudnn|RNN|LSTM_")


def cudnn(work: Callable[[], object], device: torch.device) -> str:
    """Version of cuDNN, and whether one of the kernels that the work runs belongs to its recurrent layers."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize(device)
    events = profiler.profiler.kineto_results.events()
    kernel_ran = any(e.device_type().name == "CUDA" and _OF_CUDNN.search(e.name()) for e in events)
    return f"{torch.backends.cudnn.version()}, {'a kernel seen' if kernel_ran else NO_KERNEL}"


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Most memory that torch's allocator holds during the work, in bytes, above what it held before."""
    with _allocations(device) as sizes:
        work()
    return max(accumulate(sizes), default=0)


def saved_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Memory that torch's allocator holds in addition while the result of the work exists, in bytes."""
    with _allocations(device) as sizes:
        result = work()
    del result
    return sum(sizes)


@contextmanager
def _allocations(device: torch.device) -> Iterator[list[int]]:
    """Collect bytes of allocations and, negative, of releases, in order; on a GPU only sums to the peak and after."""
    sizes: list[int] = []
    if device.type == "cuda":
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
