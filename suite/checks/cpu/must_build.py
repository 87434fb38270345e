"""A plugin of pytest, `-p suite.checks.cpu.must_build`: a run that cannot build batched_cpu ends with an error.

Without the plugin its tests would be skipped.
"""

import os
from collections.abc import Collection

import pytest
import torch

from impls.registry import find


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Keep a sanitizer from the compiler, which would fail under it."""
    os.environ.pop("LD_PRELOAD", None)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Build every dtype if xdist runs the tests: workers collect them, and their errors are tracebacks."""
    if session.config.getoption("numprocesses", None):
        build(find("batched_cpu").dtypes)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build float32, and the dtypes among the parameters of the tests, or of a comparison there."""
    dtypes = {torch.float32}
    for item in session.items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        values = [getattr(value, "dtype", value) for value in parameters]
        dtypes |= {value for value in values if isinstance(value, torch.dtype)}
    build(dtypes & {*find("batched_cpu").dtypes})


def build(dtypes: Collection[torch.dtype]) -> None:
    """Build batched_cpu in dtypes; UsageError says why there is no library."""
    for dtype in dtypes:
        reason = find("batched_cpu").why_unavailable(torch.device("cpu"), dtype)
        if reason:
            raise pytest.UsageError(reason)
