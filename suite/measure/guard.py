"""Finds what a file of `--impl` set that the baseline beside it has too, and whether it replaced the clock.

It shares a process with the suite, so it could do more; a sandbox this is not.
"""

import gc
import os
import sys
import time
from collections.abc import Callable

import torch

from suite.measure import timing
from suite.measure.job import RefusedError

#: The clock, and what waits for a GPU before it is read: modules and names.
CLOCK = ((time, "perf_counter"), (timing, "perf_counter"), (torch.cuda, "synchronize"))
#: Settings of both sides, by their names in sentences.
SETTINGS: dict[str, Callable[[], object]] = {
    "torch.get_num_threads()": torch.get_num_threads,
    "torch.get_default_dtype()": torch.get_default_dtype,
    "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision,
    "torch.backends.mkldnn.enabled": torch._C._get_mkldnn_enabled,
    "torch.backends.cudnn.enabled": torch._C._get_cudnn_enabled,
    "torch.backends.cudnn.benchmark": torch._C._get_cudnn_benchmark,
    "torch.are_deterministic_algorithms_enabled()": torch._C._get_deterministic_algorithms,
    "gc.isenabled()": gc.isenabled,
    "sys.getprofile()": sys.getprofile,
    "sys.gettrace()": sys.gettrace,
}
if hasattr(os, "sched_getaffinity"):
    SETTINGS["the cores of the process"] = lambda: len(os.sched_getaffinity(0))


def guard() -> Callable[[str], None]:
    """Return a function of the file that ran: RefusedError if the clock was replaced or a setting changed since."""
    clock = [getattr(module, name) for module, name in CLOCK]
    settings = {name: read() for name, read in SETTINGS.items()}

    def check(file: str) -> None:
        for (module, name), before in zip(CLOCK, clock, strict=True):
            if getattr(module, name) is not before:
                raise RefusedError(f"{file} replaced {module.__name__}.{name}, with which it is measured")
        for setting, value in settings.items():
            now = SETTINGS[setting]()
            if now != value:
                raise RefusedError(f"{file} changed {setting} from {value} to {now}, for the baseline too")

    return check
