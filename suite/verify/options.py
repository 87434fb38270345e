"""Options of a verification: what cannot be checked is refused before the first test, and tests are chosen by them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from suite.candidates import submission
from suite.results import provenance
from suite.shared import machine
from suite.shared.files import ROOT, path_of
from suite.verify.arguments import add_options


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser.getgroup("hyperlstm").addoption)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot be checked, and register the implementations of `--impl` in every process."""
    if hasattr(config, "workerinput"):
        submission.inherit()  # what the parent has tried
        return
    if config.option.durations is None and config.getoption("--thorough"):
        config.option.durations = 20
    reason = machine.why_missing(config.getoption("--device")) or why_no_tests(config.args)
    if reason:
        raise pytest.UsageError(reason)
    if config.option.dtype and not config.option.size:
        raise pytest.UsageError("--dtype: expected --size beside it; other checks are of every dtype")
    for name in ("xmlpath", "log_file"):  # of pytest's own options
        path = getattr(config.option, name, None)
        if path:
            setattr(config.option, name, str(path_of(path)))
    try:
        if config.option.impl:
            submission.load_all(config.option.impl, config.option.device)
        config.option.results = results_of(config.option)
    except SystemExit as error:
        raise pytest.UsageError(str(error)) from error
    if config.option.results is not None:
        provenance.at_start("verify")


def why_no_tests(arguments: Sequence[str]) -> str | None:
    """Sentence about a file of the command line that has no tests of this suite; None if all have."""
    for argument in arguments:
        path = Path(argument.partition("::")[0])
        if not path.resolve().is_relative_to(ROOT / "suite"):
            return f"{path}: expected a file or folder under suite/; an implementation in a file comes after --impl"
        if not path.exists():
            return f"{path}: expected a file or folder under suite/, but there is none of this name"
    return None


def results_of(option: argparse.Namespace) -> Path | None:
    """Folder of the results; None, so that no row is kept, at sizes that a person names without a folder."""
    if option.size and option.results is None:
        return None
    return submission.results_of(option.results, option.impl)


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
