"""Plugin for a run of pytest with Triton's interpreter on: half its time, and one thread for processes that fork."""

import torch

from suite.checks.kernels.interpreted import patch_language_once

torch.set_num_threads(1)  # a process that was forked has no others
patch_language_once()
