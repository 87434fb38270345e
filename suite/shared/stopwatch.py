"""How long one call takes: by the clock on a CPU, by events on the device, with an emptied cache, on a GPU."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Work = Callable[[], object]

#: A round is called throttled when the clock after it is below this share of the fastest clock read.
THROTTLED = 0.9


class Stopwatch(Protocol):
    """Times calls on one device."""

    def seconds(self, work: Work) -> float:
        """Call once and return how long it took until all of it was done."""

    def clock(self) -> int | None:
        """Return the clock of the processor in MHz, or None where it cannot be read."""


class WallClock:
    """For a CPU, where a call is done when it returns."""

    def seconds(self, work: Work) -> float:
        """Call once and return the seconds of the clock."""
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def clock(self) -> int | None:
        """Return None: what a CPU runs at is not to be had on every system, and differs between cores."""
        return None


class DeviceEvents:
    """For a GPU: every call finds the second-level cache full of something else, and the device idle."""

    def __init__(self, device: torch.device, flush: Tensor | None = None) -> None:
        """Take the buffer that empties the cache, by default one twice as large as the cache."""
        self.device = device
        if flush is None:
            size = 2 * torch.cuda.get_device_properties(device).L2_cache_size
            flush = torch.empty(size, dtype=torch.uint8, device=device)
        self.flush = flush

    def seconds(self, work: Work) -> float:
        """Call once and return the seconds between two events on the device's stream."""
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.flush.zero_()
        # Else work's own launches would hide behind the flush.
        torch.cuda.synchronize(self.device)
        stream = torch.cuda.current_stream(self.device)  # the current device may be another
        start.record(stream)
        work()
        end.record(stream)
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end)) / 1e3

    def clock(self) -> int | None:
        """Return the clock of the multiprocessors in MHz, or None where it cannot be read."""
        try:
            return torch.cuda.clock_rate(self.device)
        # Its module is missing, or NVML refuses, as it does in containers, on virtual GPUs and parts of one; its own
        # errors are Exceptions and no more.
        except Exception:
            return None


def stopwatch(device: torch.device) -> Stopwatch:
    """Return what times calls on the device."""
    return DeviceEvents(device) if device.type == "cuda" else WallClock()


def clock_columns(clocks: Sequence[int | None]) -> dict[str, Any]:
    """Return what a row says of the clocks: clocks has one reading before the first round and one after each."""
    known = [clock for clock in clocks if clock is not None]
    if len(known) < len(clocks):
        return {"clock_before_mhz": "unknown", "clock_after_mhz": "unknown", "throttled": "unknown"}
    throttled = sum(clock < THROTTLED * max(known) for clock in known[1:])
    return {"clock_before_mhz": known[0], "clock_after_mhz": known[-1], "throttled": throttled}
