"""What else a machine does while something is timed: the share of its cores that others have, and its GPU's state."""

import os
import subprocess
from collections.abc import Callable
from time import monotonic, sleep

import psutil
import torch

from suite.results.columns import Row
from suite.shared.devices import DeviceType

#: A visit beside which other processes had more than this share of the cores does not count.
BUSY = 0.1
#: Of nvidia-smi's bits of why a clock is low, those that say that the card is held back.
THROTTLES = {0x4: "power", 0x8: "hardware", 0x20: "temperature", 0x40: "temperature", 0x80: "power"}
#: Of nvidia-smi: per cent of the time with work, MHz, and bits of THROTTLES under the names of two driver generations.
_ASKED = ("utilization.gpu", "clocks.sm")
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")


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


def gpu(device: torch.device) -> Row:
    """Columns of the state of a GPU as nvidia-smi says it; none without it, for a part of a card, or for a CPU."""
    if device.type != DeviceType.CUDA:
        return {}
    uuid = torch.cuda.get_device_properties(device).uuid
    for reasons in _REASONS:
        fields = ",".join((*_ASKED, reasons))
        query = ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
        try:
            line = subprocess.check_output(query, text=True, timeout=10)
            busy, mhz, bits = line.strip().split(", ")
            active = int(bits, 16)
            names = frozenset(name for bit, name in THROTTLES.items() if active & bit)
            return {"gpu_busy": float(busy) / 100, "gpu_mhz": float(mhz), "throttled": names}
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
    return {}
