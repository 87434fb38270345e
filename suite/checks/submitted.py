"""Checks of the implementations in files outside the project, `--impl`, and of nothing else."""

import faulthandler
import re
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import torch

from impls.registry import find
from suite.shared import submission

#: Seconds that a test may take.
LIMIT = 120.0


class Submitted:
    """Plugin that registers implementations and selects their tests; UsageError says what is wrong with a file."""

    def __init__(self, config: pytest.Config, files: Sequence[Path], device: torch.device) -> None:
        try:
            if not hasattr(config, "workerinput"):  # workers start after it
                submission.try_all(files, device)
            self.names = {submission.load(file).name for file in files}
        except submission.SubmissionError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out tests of anything else; small cases are cheap, and the first have options that may be missing."""
        others = [item for item in items if not self.names.intersection(map(str, _parameters(item)))]
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=others)
        for item in items:
            if item.path.stem == "test_equality":
                item.own_markers[:] = [marker for marker in item.own_markers if marker.name != "thorough"]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Skip a test that takes an option which the implementation does not declare."""
        try:
            return (yield)
        except Exception as error:
            for name, option in re.findall(r"(\w+) does not support (\w+)\.", str(error)):
                if name in self.names and option not in find(name).options:
                    pytest.skip(f"{name} does not support {option}.")
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """End a process whose test takes too long, and print where it is; xdist starts another."""
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _parameters(item: pytest.Item) -> list[object]:
    callspec = getattr(item, "callspec", None)
    return list(callspec.params.values()) if callspec else []
