"""Other processes that slow a measurement: the cores that they take, and their use of the GPU."""

import os
import time

import psutil
import torch

from suite.shared.process import cpu_seconds
from suite.shared.tables import BUSY

#: Seconds that `warn` looks for other processes.
LOOK = 1.0
#: Times of psutil in which a processor works, or works for another virtual machine; not all systems have all of them.
BUSY_TIMES = ("user", "nice", "system", "irq", "softirq", "interrupt", "dpc", "steal")


class Others:
    """Cores that other processes use, from now on."""

    def __init__(self) -> None:
        self.start = _times()

    def cores(self, device: torch.device) -> float:
        """Mean number of cores that others took from the ones that work on a device needs."""
        seconds, worked, had = (now - then for now, then in zip(_times(), self.start, strict=True))
        needed = torch.get_num_threads() if device.type == "cpu" else 1
        return round(max(0.0, max(0.0, (worked - had) / seconds) + needed - (os.cpu_count() or 1)), 2)


def _times() -> tuple[float, float, float]:
    """Seconds of the clock, busy seconds of all processors, and seconds of this process and its ended children."""
    times = psutil.cpu_times()
    return time.monotonic(), sum(getattr(times, name, 0.0) for name in BUSY_TIMES), cpu_seconds()


def utilization(device: torch.device) -> int:
    """Per cent of the last second in which the GPU ran a kernel; 0, with a message, if NVML fails."""
    try:
        return torch.cuda.utilization(device)
    except Exception as error:  # NVML's own errors derive from Exception only
        print(f"Whether other work keeps the GPU busy is unknown: {error}")
        return 0


def warn(device: torch.device) -> None:
    """Warn if other processes use the GPU, or cores that work on a device needs."""
    if device.type == "cuda" and (busy := utilization(device)):
        print(f"Other work keeps the GPU busy {busy} % of the time: do not rely on figures of this run.")
    others = Others()
    time.sleep(LOOK)
    if (cores := others.cores(device)) > BUSY:
        print(
            f"Other processes use {cores:.1f} of the cores that this needs, and slow some candidates most.\n"
            "Rows made now are marked and in no summary, so better wait until those processes end."
        )
