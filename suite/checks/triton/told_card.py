"""A GPU that is told: what torch, Triton and the driver say of one. Whatever needs the GPU itself raises `NoCard`.

As a plugin of pytest it gives a run this GPU, and skips each test that needs more of it than what is said; `VARIABLE`
names a folder for the driver's file and the user's cache.
"""

import os
import subprocess
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch

from impls import batched_cuda, registry

#: Environment variable with the folder, for a run of pytest whose plugin this is.
VARIABLE = "HYPERLSTM_TOLD_CARD"
NAME = "NVIDIA H100 80GB/HBM3"
CUDA = torch.device("cuda", 0)
#: What was asked of the GPU itself since the last test began.
_ASKED = list[str]()


class NoCard(Exception):  # noqa: N818 - it skips a test
    """The GPU itself was needed."""


def _asked(what: str) -> Any:
    def ask(*_: Any, **__: Any) -> NoReturn:
        _ASKED.append(what)
        raise NoCard(f"{what} was called, and the GPU is told.")

    return ask


def tell(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Patch torch, Triton and the driver to say what they say of a GPU, and the user's cache to be in a folder."""
    import triton

    about = {"name": NAME, "major": 9, "minor": 0, "multi_processor_count": 132, "total_memory": 80 << 30}
    answers: dict[str, object] = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": NAME,
        "get_device_capability": (9, 0),
        "get_device_properties": SimpleNamespace(**about),
    }
    for name, answer in answers.items():
        patch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    for name in ("_lazy_init", "random._lazy_init", "memory._lazy_init", "_exchange_device", "_sleep"):
        patch.setattr(f"torch.cuda.{name}", _asked(name))
    for name in ("Stream", "Event"):  # classes, which others ask for their type
        patch.setattr(f"torch.cuda.{name}.__new__", _asked(name))
    properties = {"multiprocessor_count": 132, "max_shared_mem": 227 << 10}
    utils = SimpleNamespace(get_device_properties=lambda device: properties)
    patch.setattr(triton.runtime.driver, "_active", SimpleNamespace(utils=utils))
    caches: list[Any] = [registry.why_no_code, batched_cuda.why_no_driver, registry._warn_of_fallback]
    for cached in caches:
        cached.cache_clear()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Tell of the GPU before the run's options ask for one."""
    tell(pytest.MonkeyPatch(), Path(os.environ[VARIABLE]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Let a test start no process, which would not see the GPU."""
    _ASKED.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", _asked("subprocess.Popen"))
        patch.setattr(ProcessPoolExecutor, "submit", _asked("ProcessPoolExecutor.submit"))
        return (yield)


def _skipping() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if _ASKED or isinstance(error, NoCard):  # a fixture's error is raised again for each of its tests
            pytest.skip(f"needs the GPU itself: {error}")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """Skip a test whose fixtures need the GPU itself."""
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip a test that needs the GPU itself."""
    return (yield from _skipping())
