"""A warning if other processes use what a measurement needs: cores, or the GPU."""

import os

import psutil
import torch

#: Seconds that `warn` looks for other processes, and the share of a core that they may take.
LOOK, BUSY = 1.0, 0.25


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
    needed, cores = torch.get_num_threads() if device.type == "cpu" else 1, os.cpu_count() or 1
    if (taken := psutil.cpu_percent(LOOK) / 100 * cores + needed - cores) > BUSY:
        print(f"Other processes use {taken:.1f} of the cores that this needs: better wait until they end.")
