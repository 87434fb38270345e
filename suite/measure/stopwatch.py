"""How long one call takes: by the clock on a CPU, by events on the device, with an emptied cache, on a GPU."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Work = Callable[[], object]

#: Two calls agree when neither takes more than so many times as long as the other; at most so many calls are tried.
AGREE, MOST = 2.0, 12
#: A first call that took longer, and no longer than was expected, need not be made again.
SLOW = 0.5
#: A round is called throttled when the clock after it is below this share of the fastest clock read.
THROTTLED = 0.9


class Stopwatch:
    """Times calls on a CPU, where a call is done when it returns."""

    def seconds(self, work: Work) -> float:
        """Call once and return how long it took until all of it was done."""
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def in_a_loop(self, work: Work, calls: int) -> float | None:
        """Seconds of a call when the next does not wait for it; None where a call is done when it returns."""
        return None

    def clock(self) -> int | None:
        """Clock of the processor in MHz; None where it cannot be read, as a CPU's that differs by core."""
        return None


class DeviceEvents(Stopwatch):
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
        self.flush.zero_()
        return self._between_events(work)

    def in_a_loop(self, work: Work, calls: int) -> float:
        """Mean seconds of a call when none waits for the one before, as in a training loop.

        The host prepares a call while the device is busy with those before it, so that its time shows only where it is
        the longer; and each call finds in the cache what the one before left.
        """
        return self._between_events(work, calls) / calls

    def _between_events(self, work: Work, calls: int = 1) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        stream = torch.cuda.current_stream(self.device)  # the current device may be another
        # Else work's own launches would hide behind what was queued before.
        torch.cuda.synchronize(self.device)
        start.record(stream)
        for _ in range(calls):
            work()
        end.record(stream)
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end)) / 1e3

    def clock(self) -> int | None:
        """Clock of the multiprocessors in MHz; None where it cannot be read."""
        try:
            return torch.cuda.clock_rate(self.device)
        # Its module is missing, or NVML refuses, as it does in containers, on virtual GPUs and parts of one; its own
        # errors are Exceptions and no more.
        except Exception:
            return None


def stopwatch(device: torch.device) -> Stopwatch:
    """Stopwatch for calls on the device."""
    return DeviceEvents(device) if device.type == "cuda" else Stopwatch()


def warm_up(watch: Stopwatch, work: Work, expected: float = 0.0) -> list[float]:
    """Call until two calls in a row agree, and return what each took: the last ones say what the next will take.

    First calls compile, load and allocate.
    expected: seconds that a call should take, by a prediction; a SLOW call that agrees with it is the only one.
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
    """Columns about clocks, of which there is a reading before the first round and one after each."""
    known = [clock for clock in clocks if clock is not None]
    if len(known) < len(clocks):
        return {"clock_before_mhz": "unknown", "clock_after_mhz": "unknown", "throttled": "unknown"}
    throttled = sum(clock < THROTTLED * max(known) for clock in known[1:])
    return {"clock_before_mhz": known[0], "clock_after_mhz": known[-1], "throttled": throttled}
