"""What else a machine does while something is timed: the share of its cores that others have, and its GPU's state."""

import os
import subprocess
from time import monotonic, sleep
from typing import NamedTuple

import psutil
import torch

from suite.shared.devices import DeviceType

#: A visit beside which other processes had more than this share of the cores does not count.
BUSY = 0.1
#: Of nvidia-smi's bits of why a clock is low, those that say that the card is held back.
THROTTLES = {0x4: "power", 0x8: "hardware", 0x20: "temperature", 0x40: "temperature", 0x80: "power"}
#: Of nvidia-smi: per cent of the time with work, MHz, and bits of THROTTLES under the names of two driver generations.
_ASKED = ("utilization.gpu", "clocks.sm")
_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")


class Others:
    """Share of the cores that processes other than this one and its servers' have, from when it is made."""

    def __init__(self, children_s: float = 0.0) -> None:
        """children_s: seconds of processor time of the servers so far, with their children."""
        self.start = _now(children_s)

    def share(self, children_s: float = 0.0) -> float:
        """The share, from 0 to 1; time that the host of a virtual machine gave others is theirs, too."""
        now = _now(children_s)
        seconds = max(now.clock_s - self.start.clock_s, 1e-3)
        busy = now.busy_s - self.start.busy_s
        ours = now.ours_s - self.start.ours_s
        share = (busy - ours) / seconds / len(_cores())
        return min(1.0, max(0.0, share))


class _Now(NamedTuple):
    """Seconds of a clock, and until then of the cores: those of all processes, and those of ours."""

    clock_s: float
    busy_s: float
    ours_s: float


def _now(children_s: float) -> _Now:
    times = os.times()
    return _Now(monotonic(), busy_s(), times.user + times.system + children_s)


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
    others = Others()
    sleep(seconds)
    return others.share()


class State(NamedTuple):
    """State of a GPU: share of the time with work, its clock in MHz, and what holds it back, as names of THROTTLES."""

    busy: float
    mhz: float
    throttles: frozenset[str]


def gpu(device: torch.device) -> State | None:
    """State of a GPU as nvidia-smi says it; None without it, for a part of a card, or for a CPU."""
    if device.type != DeviceType.CUDA:
        return None
    uuid = torch.cuda.get_device_properties(device).uuid
    for reasons in _REASONS:
        fields = ",".join((*_ASKED, reasons))
        query = ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
        try:
            line = subprocess.check_output(query, text=True, timeout=10)
            busy, mhz, bits = line.strip().split(", ")
            active = int(bits, 16)
            names = frozenset(name for bit, name in THROTTLES.items() if active & bit)
            return State(float(busy) / 100, float(mhz), names)
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
    return None
