"""Fixtures of tests of `batched_cpu`."""

from collections.abc import Iterator

import pytest
import torch

from impls import why_unavailable


@pytest.fixture
def built() -> None:
    """Skip a test where there is no library."""
    reason = why_unavailable("batched_cpu", "cpu")
    if reason:
        pytest.skip(reason)


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    """Set the number of threads back after a test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads(threads_as_before: None) -> None:
    """Give torch two threads, also where tests run in parallel."""
    torch.set_num_threads(2)
