"""Fixtures of tests of an implementation, which are skipped where it does not run."""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest
import torch

from impls import names, registry, why_unavailable
from impls.registry import UnsupportedError
from suite.candidates import submission
from suite.cases.case import Case
from suite.comparison.draws import Draw, draw
from suite.shared.marks import impl_params


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that everything is checked on."""
    chosen: torch.device = request.config.getoption("--device")
    return chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `runnable` every implementation; `--impl` registers more after this file was imported."""
    if "runnable" in metafunc.fixturenames:
        metafunc.parametrize("runnable", impl_params(names()), indirect=True)


@pytest.fixture
def runnable(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Every implementation that runs here in float32."""
    skip_unless_checked(request.param, device)
    return str(request.param)


def skip_unless_checked(name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
    """Skip a test of an implementation that does not run on a device in a dtype."""
    reason = why_unavailable(name, device, dtype)
    if reason:
        pytest.skip(reason)


def sample_or_skip(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> Draw:
    """A draw of a case; skips a test of an implementation that does not run here."""
    skip_unless_checked(name, device, dtype)
    return draw(case, 1, dtype, device)


@contextmanager
def skipping_undeclared() -> Iterator[None]:
    """Skip a test of a file outside the project which takes an option that the file does not declare."""
    try:
        yield
    except Exception as error:
        for cause in (error, error.__cause__, error.__context__):
            if isinstance(cause, UnsupportedError) and cause.impl in submission.files():
                pytest.skip(cause.reason)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip a test as `skipping_undeclared` says."""
    with skipping_undeclared():
        return (yield)


@pytest.fixture
def _withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Withdraw, when the test ends, the implementations that it registers."""
    monkeypatch.setattr(registry, "IMPLS", [*registry.IMPLS])
    monkeypatch.setenv(submission.VARIABLE, os.environ.get(submission.VARIABLE, ""))
