"""A plugin of pytest, `-p suite.checks.cpu.built`, that builds batched_cpu before its tests, or ends the run.

Without a library they would be skipped.
"""

import os

import pytest
import torch

from impls.registry import find


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Build it in each dtype; UsageError says why there is no library."""
    os.environ.pop("LD_PRELOAD", None)  # a sanitizer is not for the compiler, which would fail under it
    batched_cpu = find("batched_cpu")
    for dtype in batched_cpu.dtypes:
        reason = batched_cpu.why_unavailable(torch.device("cpu"), dtype)
        if reason:
            raise pytest.UsageError(reason)
