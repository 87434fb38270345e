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
    """One worker per core, and at most four on a GPU, where each takes half a gigabyte of memory.

    None on a GPU that takes one process: tests then run in this one, which asks the GPU what it is.
    """
    if machine.exclusive(config.getoption("--device")):
        return 0
    most = 16 if config.getoption("--device").type == DeviceType.CPU else 4
    return min(torch.get_num_threads(), most)


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


@pytest.hookimpl(trylast=True)  # after damaged results are refused
def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile once what all workers need."""
    config = session.config
    if hasattr(config, "workerinput") or config.getoption("--impl") or config.getoption("--size"):
        return
    if config.getoption("numprocesses", None):
        for impl in IMPLS:
            if impl.compiler:
                for dtype in impl.dtypes:
                    why_unavailable(impl.name, "cpu", dtype)  # builds it, which each worker would do otherwise
    chosen = bool(config.option.keyword or config.option.markexpr)  # chosen tests compile what they need
    if config.getoption("--device").type == DeviceType.CUDA and not chosen:
        from suite.checks.triton import ahead  # imports many checks
        from suite.checks.triton.compiled import precompile

        precompile(ahead.of_checks(config.getoption("--thorough")), config.getoption("--device"))


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> None:
    """Forget compiled code: after sizes change, torch compiles for all sizes, slowly."""
    dynamo = sys.modules.get("torch._dynamo")  # whose import takes seconds
    if dynamo:
        dynamo.reset()
