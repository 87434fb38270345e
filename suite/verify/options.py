"""Options of a verification, which are refused before the first test if they ask for what cannot be checked."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from impls.definition import dtype_name
from suite.candidates import submission
from suite.cases.spelling import SPELLING, parse
from suite.comparison.tolerance import FLOOR
from suite.shared import machine
from suite.shared.files import RESULTS, ROOT, path_of


def pytest_addoption(parser: pytest.Parser) -> None:
    add = parser.getgroup("hyperlstm").addoption
    device = machine.default_device()
    add("--device", type=machine.device_of, default=device, help="device to check on; default: CUDA if there is one")
    add("--results", type=path_of, default=RESULTS, help="folder that has a folder of results per machine")
    add("--thorough", action="store_true", help="run what is marked `thorough` too")
    add("--impl", type=path_of, nargs="+", action="extend", default=[], help="check implementations in files, alone")
    add("--size", type=parse, nargs="+", action="extend", default=[], help=f"compare at these sizes alone: {SPELLING}")
    dtypes = [dtype_name(dtype) for dtype in FLOOR]
    add("--dtype", choices=dtypes, nargs="+", action="extend", default=[], help="of --size; default: all")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot be checked, and register the implementations of `--impl` in every process."""
    if hasattr(config, "workerinput"):
        submission.inherit()  # what the parent has tried
        return
    if config.option.durations is None and config.getoption("--thorough"):
        config.option.durations = 20
    reason = machine.why_missing(config.getoption("--device")) or misplaced(config.args)
    if reason:
        raise pytest.UsageError(reason)
    for name in ("xmlpath", "log_file"):  # of pytest's own options
        path = getattr(config.option, name, None)
        if path:
            setattr(config.option, name, str(path_of(path)))
    files = config.getoption("--impl")
    config.option.short_failures = bool(files) and config.option.tbstyle == "auto"
    if files:
        take(files, config)


def misplaced(arguments: Sequence[str]) -> str | None:
    """Sentence about a file of the command line that has no tests of this suite; None if all have."""
    for argument in arguments:
        path = Path(argument.partition("::")[0])
        if not path.resolve().is_relative_to(ROOT / "suite"):
            return f"{path}: expected a file or folder under suite/; an implementation in a file comes after --impl"
        if not path.exists():
            return f"{path}: expected a file or folder under suite/, but there is none of this name"
    return None


def take(files: Sequence[Path], config: pytest.Config) -> None:
    """Register the implementations in files, for a run about them alone, whose failures take a line each."""
    option = config.option
    try:
        submission.load_all(files, option.device)
        if not option.size:
            option.results = submission.results_of(files, option.results)
    except SystemExit as error:
        raise pytest.UsageError(str(error)) from error
    if option.short_failures:
        option.tbstyle = "no"
        if not any(argument.startswith("-r") for argument in config.invocation_params.args):
            option.reportchars = ""  # pytest's own list of failures
