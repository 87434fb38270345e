"""Which tests of those that pytest collects a run makes."""

from collections.abc import Sequence

import pytest

from suite.candidates import submission


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for."""
    chosen, left_out = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        (chosen if asked_for(item, config) else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = chosen


def asked_for(item: pytest.Item, config: pytest.Config) -> bool:
    """True for a test that a run makes.

    With `--size` that is one marked `at_size`, and without it any other test, of those marked `thorough` only with
    `--thorough`. With `--impl` it is one that is marked as a test of an implementation of those files.
    """
    at_size = item.get_closest_marker("at_size") is not None
    if at_size != bool(config.getoption("--size")):
        return False
    slow = not at_size and item.get_closest_marker("thorough") is not None
    if slow and not config.getoption("--thorough"):
        return False
    if not config.getoption("--impl"):
        return True
    return not submission.files().keys().isdisjoint(implementations(item))


def implementations(item: pytest.Item) -> Sequence[str]:
    """Names of the implementations that a test is of."""
    return [marker.kwargs["name"] for marker in item.iter_markers("impl")]
