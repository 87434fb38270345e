"""Fixtures of tests that set the number of torch's threads."""

from collections.abc import Iterator

import pytest
import torch


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
