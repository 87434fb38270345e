"""How many cores other processes take from what is measured: figures made meanwhile say more about those."""

import os
import time
from pathlib import Path

import torch

from suite.shared.rows import BUSY

#: Seconds of a first look.
LOOK = 1.0

_STAT = Path("/proc/stat")


class Others:
    """The cores that other processes keep busy, from now on."""

    def __init__(self) -> None:
        self.start = _times()

    def cores(self) -> float | None:
        """Number of cores, in the mean since this was made; None on systems that do not count what processors do."""
        seconds, worked, had = (now - then for now, then in zip(_times(), self.start, strict=True))
        return max(0.0, (worked - had) / seconds) if _STAT.exists() else None

    def taken(self, device: torch.device) -> float | None:
        """Cores that others took of those that work on a device needs, see `cores`."""
        others = self.cores()
        needed = torch.get_num_threads() if device.type == "cpu" else 1
        return None if others is None else round(max(0.0, others + needed - (os.cpu_count() or 1)), 2)


def _times() -> tuple[float, float, float]:
    """Seconds of the clock, those that all processors worked, and those that this process and its children had.

    What other machines on the same hardware took counts as worked; a child counts once it has ended.
    """
    worked = 0.0
    if _STAT.exists():
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, _STAT.read_text().split("\n", 1)[0].split()[1:])
        worked = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return time.monotonic(), worked, sum(os.times()[:4])


def at_first(device: torch.device) -> float | None:
    """Cores that others take of those that work on a device needs, while this process does nothing."""
    others = Others()
    time.sleep(LOOK)
    return others.taken(device)


def warning(taken: float | None) -> str:
    """Warning before minutes pass whose figures will not count; "" where other processes leave enough."""
    if taken is None or taken <= BUSY:
        return ""
    return (
        f"Other processes keep {taken:.1f} of the cores busy that this needs, which slows some candidates far more\n"
        "than others. Rows made meanwhile are marked, and no answer rests on them: better wait for those to end."
    )
