"""The share of the cores that other processes have while something is timed."""

import os
from collections.abc import Callable
from time import monotonic, sleep

import psutil

#: A visit beside which other processes had more than this share of the cores does not count.
BUSY = 0.1


def share_since(children_s: float = 0.0) -> Callable[[float], float]:
    """A function that returns which share of the cores, from 0 to 1, other processes had since this call.

    children_s, of both: seconds of processor time of the servers so far, with their children. Time that the host of a
    virtual machine gave others is theirs, too.
    """
    start = _seconds(children_s)

    def share(children_s: float) -> float:
        clock_s, busy_s, ours_s = (now - before for now, before in zip(_seconds(children_s), start, strict=True))
        return min(1.0, max(0.0, (busy_s - ours_s) / max(clock_s, 1e-3) / len(_cores())))

    return share


def _seconds(children_s: float) -> tuple[float, float, float]:
    """Seconds of a clock, and of the cores until then: those of all processes, and those of this one and servers."""
    times = os.times()
    return monotonic(), busy_s(), times.user + times.system + children_s


def _cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(psutil.cpu_count()))


def busy_s() -> float:
    """Seconds since the machine started in which the cores of this process ran anything, summed over these."""
    idle = ("idle", "iowait", "guest", "guest_nice")  # a guest's time is part of the user's
    every = psutil.cpu_times(percpu=True)
    busy = 0.0
    for core in _cores():
        seconds = every[core]._asdict()
        busy += sum(float(seconds[name]) for name in seconds if name not in idle)
    return busy


def share_now(seconds: float = 0.5) -> float:
    """Share of the cores that other processes have, watched for some seconds."""
    share = share_since()
    sleep(seconds)
    return share(0.0)
