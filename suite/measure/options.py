"""What the commands that measure can all be told."""

import argparse
import os
from pathlib import Path

import torch

from suite.shared import machine
from suite.shared.arithmetic import ARITHMETICS
from suite.shared.candidates import candidates
from suite.shared.results import RESULTS

#: Of the machine's memory, what one process may take.
MEMORY_SHARE = 0.6


def parent() -> argparse.ArgumentParser:
    """Return the arguments that benchmark and studies share."""
    result = argparse.ArgumentParser(add_help=False)
    add = result.add_argument
    everything = [candidate.name for candidate in candidates()]
    add("--implementation", nargs="+", choices=everything, help="default: all, what is slow in few places")
    add("--dtype", nargs="+", choices=ARITHMETICS, default=["float32"], help="default: float32")
    device = str(machine.default_device())
    add("--device", type=_device, default=device, help="default: CUDA if there is one, else the CPU")
    add("--memory-limit", type=float, help=f"GiB a process may take; default: {MEMORY_SHARE:.0%}% of what there is")
    add("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    return result


def _device(text: str) -> str:
    return str(machine.device_of(text))


def memory_limit(options: argparse.Namespace) -> int:
    """Return the bytes that one process may take."""
    if options.memory_limit is not None:
        return int(options.memory_limit * 2**30)
    device = torch.device(options.device)
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
