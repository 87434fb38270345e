"""Memory and operators of a pass, on any device."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import accumulate, product
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from impls.gradient.chunks import limited
from impls.registry import find
from suite.shared.cases import Case
from suite.shared.compare import draw, model_and_draw
from suite.shared.oracle import plain


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
    with _allocations(device) as sizes:
        work()
    return max(accumulate(sizes), default=0)


def saved_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Memory that torch's allocator holds in addition while the result of the work exists, in bytes."""
    with _allocations(device) as sizes:
        result = work()
    del result
    return sum(sizes)


def held(name: str, case: Case, device: torch.device) -> int:
    """Bytes that calls of a new batch size hold after calls of the size before: steps of training, and inference."""
    larger = replace(case, B=case.B + 1)
    model, _ = model_and_draw(name, case, torch.float32, device)
    samples = {each: draw(each, 0, torch.float32, device) for each in (case, larger)}

    def train(*cases: Case) -> None:
        for each, residuals in product(cases, (True, True, False)):
            with limited(device.type, residuals=residuals):
                plain(model, each, samples[each])
            with torch.no_grad():
                model(samples[each].x, samples[each].state)
        model.zero_grad(set_to_none=True)
        if find(name).interpreted(device):  # by frames that refer to one another, with the last launch's arguments
            gc.collect()

    train(larger)
    gc.collect()
    return saved_bytes(partial(train, case, larger), device)


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
