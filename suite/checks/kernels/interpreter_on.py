"""Plugin for a run of pytest with Triton's interpreter on: half its time, and one thread for processes that fork."""

import threading
from typing import Any

import torch

from impls.batched_cuda import launching
from suite.checks.kernels.interpreted import patch_language_once

torch.set_num_threads(1)  # a process that was forked has no others
patch_language_once()
_start, _one_at_a_time = launching.start, threading.Lock()


def _locked(*launch: Any, **options: Any) -> None:
    """Launch a kernel: the interpreter runs one program at a time, also where a test has threads."""
    with _one_at_a_time:
        _start(*launch, **options)


launching.start = _locked
