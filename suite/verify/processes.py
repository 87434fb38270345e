"""Processes of a run: how many there are, what torch reads once in each, and what is compiled before they start."""

import logging
import os
import sys

import pytest
import torch

from impls import why_unavailable
from impls.registry import IMPLS
from suite.shared import machine
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType

# It warns where torch sees no GPU but finds a CUDA toolkit.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker per core, at most 16, and on a GPU one for each 3 GB of its memory.

    None on a GPU that takes one process: tests then run in this one, which asks the GPU what it is.
    """
    device = config.getoption("--device")
    if machine.exclusive(device):
        return 0
    most = 16
    if device.type == DeviceType.CUDA:
        most = min(most, torch.cuda.get_device_properties(device).total_memory // (3 << 30))
    return max(1, min(torch.get_num_threads(), most))


@pytest.hookimpl(tryfirst=True)  # before implementations of `--impl` run
def pytest_configure(config: pytest.Config) -> None:
    """Give each worker of xdist one thread, and set what torch reads once."""
    # Else cuBLAS warns where torch is deterministic, as in checks, which fill memory without a value with NaN.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"  # for processes that tests start
        os.environ["TORCH_WARM_POOL"] = "0"  # else inductor starts processes in each, for Triton alone
    Arithmetic.FLOAT32.use()  # an environment variable can make TF32 torch's default


def pytest_sessionstart(session: pytest.Session) -> None:
    """Build once what all workers need."""
    config = session.config
    if hasattr(config, "workerinput") or config.getoption("--impl") or config.getoption("--size"):
        return
    if config.getoption("numprocesses", None):
        for impl in IMPLS:
            if impl.compiler:
                for dtype in impl.dtypes:
                    why_unavailable(impl.name, "cpu", dtype)  # builds it, which each worker would do otherwise


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> None:
    """Forget compiled code: after sizes change, torch compiles for all sizes, slowly."""
    dynamo = sys.modules.get("torch._dynamo")  # whose import takes seconds
    if dynamo:
        dynamo.reset()
