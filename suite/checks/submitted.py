"""Checks of the implementations in files outside the project, `--impl`, and of nothing else."""

import re
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import torch

from impls.registry import find
from suite.shared import submission


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
        """Leave out tests of anything else."""
        others = [item for item in items if isinstance(item, pytest.Function) and not self._concerns(item)]
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=others)

    def _concerns(self, test: pytest.Function) -> bool:
        parameters = test.callspec.params.values() if hasattr(test, "callspec") else ()
        return not self.names.isdisjoint(map(str, parameters))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Skip a test that takes an option which the implementation does not declare."""
        try:
            return (yield)
        except Exception as error:
            missing = re.search(r"(\w+) does not support (\w+)\.", str(error))
            if missing and missing[1] in self.names and missing[2] not in find(missing[1]).options:
                pytest.skip(missing[0])
            raise
