"""Times calls: by the clock on a CPU; on a GPU by events on the device, which is idle and has an emptied cache."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Work = Callable[[], object]

#: Two calls agree if neither takes more than AGREE times as long as the other; at most MOST calls are tried.
AGREE, MOST = 2.0, 12
#: A first call that took more seconds than this, and about as long as expected, is not repeated.
SLOW = 0.5
#: A round is throttled if the clock after it is below this share of the fastest clock read.
THROTTLED = 0.9


class Stopwatch:
    """Times calls on a CPU, where a call is done when it returns."""

    def seconds(self, work: Work) -> float:
        """Seconds of a call."""
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def in_a_loop(self, work: Work, calls: int) -> float | None:
        """Seconds of a call when the next does not wait for it; None if a call is done when it returns."""
        return None

    def clock(self) -> int | None:
        """Clock of the processor in MHz; None if it cannot be read, as a CPU's that differs by core."""
        return None


class DeviceEvents(Stopwatch):
    """Times calls on a GPU."""

    def __init__(self, device: torch.device, flush: Tensor | None = None) -> None:
        """flush: the buffer that empties the second-level cache, by default twice as large as it."""
        self.device = device
        if flush is None:
            size = 2 * torch.cuda.get_device_properties(device).L2_cache_size
            flush = torch.empty(size, dtype=torch.uint8, device=device)
        self.flush = flush

    def seconds(self, work: Work) -> float:
        self.flush.zero_()
        return self._between_events(work)

    def in_a_loop(self, work: Work, calls: int) -> float:
        """Mean seconds of calls in a row, none of which waits for the one before, as in a training loop."""
        return self._between_events(work, calls) / calls

    def _between_events(self, work: Work, calls: int = 1) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        stream = torch.cuda.current_stream(self.device)  # the current device may be another
        torch.cuda.synchronize(self.device)  # otherwise launches would overlap with what was queued before
        start.record(stream)
        for _ in range(calls):
            work()
        end.record(stream)
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end)) / 1e3

    def clock(self) -> int | None:
        """Clock of the multiprocessors in MHz; None if it cannot be read."""
        try:
            return torch.cuda.clock_rate(self.device)
        # Its module is missing, or NVML refuses, as it does in containers and on virtual GPUs; NVML's own errors derive
        # from Exception only.
        except Exception:
            return None


def stopwatch(device: torch.device) -> Stopwatch:
    return DeviceEvents(device) if device.type == "cuda" else Stopwatch()


def warm_up(watch: Stopwatch, work: Work, expected: float = 0.0) -> list[float]:
    """Call until two calls in a row agree, as first calls compile, load and allocate; return the seconds of each.

    expected: predicted seconds of a call; a SLOW call that agrees with it is the only one.
    """
    seconds = [watch.seconds(work)]
    if seconds[0] > SLOW and agree(seconds[0], expected):
        return seconds
    while len(seconds) < MOST and (len(seconds) < 2 or not agree(*seconds[-2:])):
        seconds.append(watch.seconds(work))
    return seconds


def agree(one: float, other: float) -> bool:
    """True if two times are within a factor of AGREE."""
    return max(one, other) <= AGREE * min(one, other)


def clock_columns(clocks: Sequence[int | None]) -> dict[str, Any]:
    """Columns about clocks, read before the first round and after each."""
    known = [clock for clock in clocks if clock is not None]
    if len(known) < len(clocks):
        return {"clock_before_mhz": "unknown", "clock_after_mhz": "unknown", "throttled": "unknown"}
    throttled = sum(clock < THROTTLED * max(known) for clock in known[1:])
    return {"clock_before_mhz": known[0], "clock_after_mhz": known[-1], "throttled": throttled}
