"""Options of a run of the suite, and the rows and the summary that it writes."""

import logging
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from impls import names, registry, why_unavailable
from impls.definition import dtype_name
from impls.registry import UnsupportedOptionError, find
from suite import report
from suite.candidates import submission
from suite.cases.case import Case
from suite.cases.spelling import SPELLING, parse
from suite.cases.verification import MULTIPLIED
from suite.checks.equality.catalogue import every_id
from suite.checks.faults.faults import FAULTS
from suite.checks.kernels import ahead, interpreted
from suite.checks.kernels.compiled import precompile
from suite.checks.module.capabilities import CAPABILITIES
from suite.comparison.tolerance import FLOOR, Verdict
from suite.pages import verify
from suite.results.outcomes import CaseOutcome, deciding, ran
from suite.results.tables import TABLES, VALUES, folder_of
from suite.shared import arithmetic, machine
from suite.shared.files import RESULTS, ROOT, ResultsError, path_of
from suite.shared.scheduling import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler

#: `test_interpreter.py` runs these in a process with Triton's interpreter on.
collect_ignore_glob = ["*/test_interpreted_*.py"]
#: The name of a row among a test's user properties, which xdist carries to the process that writes results.
ROW = "row"
#: The name of what a failure says in one line, likewise.
SENTENCE = "sentence"
#: Values of keys of tables in order, with those that only the checks know.
CHECKED: Mapping[str, Sequence[str]] = {
    **VALUES,
    "edit": [planted.fault.name for planted in FAULTS],
    "case": [*MULTIPLIED, *every_id(), *(comparison.id for comparison in interpreted.SOME.values())],
    "capability": list(CAPABILITIES),
}
# It warns where torch sees no GPU but finds a CUDA toolkit.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
#: Files that come first: stale edits are named at once, and a run on several cores ends when its longest files do.
FIRST = (
    *("test_edits", "test_kernels", "test_wide", "test_capabilities", "test_uses", "test_faults", "test_equality"),
    *("test_interpreter", "test_properties"),
)
Keep = Callable[..., None]
Record = Callable[..., None]


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
    """Give each worker of xdist one thread, and set what torch reads once."""
    # Else cuBLAS warns where torch is deterministic, as in checks, which fill memory without a value with NaN.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"  # for processes that tests start
        os.environ["TORCH_WARM_POOL"] = "0"  # else inductor starts processes in each, for Triton alone
    elif config.option.durations is None and config.getoption("--thorough"):
        config.option.durations = 20
    arithmetic.use("float32")  # an environment variable can make TF32 torch's default
    if hasattr(config, "workerinput"):
        submission.inherit()  # what the parent has tried
        return
    reason = machine.why_missing(config.getoption("--device")) or misplaced(config.args)
    if reason:
        raise pytest.UsageError(reason)
    for name in ("xmlpath", "log_file"):  # of pytest's own options
        path = getattr(config.option, name, None)
        if path:
            setattr(config.option, name, str(path_of(path)))
    files = config.getoption("--impl")
    if files:
        take(files, config)


def misplaced(arguments: Sequence[str]) -> str:
    """Sentence about a file of the command line that has no tests of this suite; "" if all have."""
    for argument in arguments:
        path = Path(argument.partition("::")[0])
        if not path.resolve().is_relative_to(ROOT / "suite"):
            return f"{path}: expected a file or folder under suite/; an implementation in a file comes after --impl"
        if not path.exists():
            return f"{path}: expected a file or folder under suite/, but there is none of this name"
    return ""


def take(files: Sequence[Path], config: pytest.Config) -> None:
    """Register the implementations in files, for a run about them alone, whose failures take a line each."""
    option = config.option
    try:
        submission.load_all(files, option.device)
        if not option.size:
            option.results = submission.results_of(files, option.results)
    except SystemExit as error:
        raise pytest.UsageError(str(error)) from error
    if option.tbstyle == "auto":
        option.tbstyle = "no"
        option.reportchars = option.reportchars.replace("fE", "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say in a line what failed and, where it did in a file of `--impl`, in which line of that."""
    outcome = yield
    if outcome.failed and call.excinfo is not None:
        files = {str(file): file.name for file in submission.files().values()}
        place = ""
        for entry in call.excinfo.traceback:
            if str(entry.path) in files:
                place = f"{files[str(entry.path)]}:{entry.lineno + 1}: "
        error = call.excinfo.value
        message = call.excinfo.exconly()
        if isinstance(error, AssertionError) and str(error):
            message = str(error)
        line, _, _ = message.partition("\n")
        outcome.user_properties.append((SENTENCE, place + line))
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With `--impl`, show a line of each failure."""
    if not config.getoption("--impl") or config.option.tbstyle != "no":
        return
    failures = failures_of(terminalreporter)
    for failure in failures:
        sentence = dict(failure.user_properties).get(SENTENCE, failure.longreprtext)
        terminalreporter.write_line(f"FAILED {failure.nodeid.rpartition('/')[2]}: {sentence}")
    if failures:
        terminalreporter.write_line("With --tb=short, where each comes from.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker per core, and at most four on a GPU, where each takes half a gigabyte of memory.

    None on a GPU that takes one process: tests then run in this one, which asks the GPU what it is.
    """
    if machine.exclusive(config.getoption("--device")):
        return 0
    most = 16 if config.getoption("--device").type == "cpu" else 4
    return min(torch.get_num_threads(), most)


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> None:
    """Forget compiled code: after sizes change, torch compiles for all sizes, slowly."""
    dynamo = sys.modules.get("torch._dynamo")  # whose import takes seconds
    if dynamo:
        dynamo.reset()


@pytest.fixture
def _withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Withdraw, when the test ends, the implementations that it registers."""
    monkeypatch.setattr(registry, "IMPLS", [*registry.IMPLS])
    monkeypatch.setattr(registry, "_RUNS", {**registry._RUNS})
    monkeypatch.setenv(submission.VARIABLE, os.environ.get(submission.VARIABLE, ""))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that everything is checked on."""
    chosen: torch.device = request.config.getoption("--device")
    return chosen


def skip_unless_checked(name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
    """Skip a test of an implementation that does not run on a device in a dtype."""
    reason = why_unavailable(name, device, dtype)
    if reason:
        pytest.skip(reason)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `runnable` every implementation; `--impl` registers more after this file was imported."""
    if "runnable" in metafunc.fixturenames:
        metafunc.parametrize("runnable", names(), indirect=True)


@pytest.fixture
def runnable(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Every implementation that runs here in float32."""
    skip_unless_checked(request.param, device)
    return str(request.param)


def parameters_of(item: pytest.Item) -> Mapping[str, Any]:
    """Values of a test's parameters by name."""
    return item.callspec.params if hasattr(item, "callspec") else {}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a case of an implementation with its name, for `-m "impl(name='batched_cpu')"`."""
    for value in parameters_of(item).values():
        if isinstance(value, str) and value in names():
            item.add_marker(pytest.mark.impl(name=value))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for: `thorough` tests, or all but those of `--impl` or `--size`; long files first."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))
    thorough = config.getoption("--thorough")
    files = {path.stem for path in config.getoption("--impl")}
    at_a_size = bool(config.getoption("--size"))

    def asked_for(item: pytest.Item) -> bool:
        if at_a_size != ("sized" in getattr(item, "fixturenames", ())):
            return False
        if at_a_size:
            return not files or parameters_of(item)["sized"].name in files
        if item.get_closest_marker("thorough") is not None and not thorough:
            return False
        implementations = {marker.kwargs["name"] for marker in item.iter_markers("impl")}
        return not files or not files.isdisjoint(implementations)

    config.hook.pytest_deselected(items=[item for item in items if not asked_for(item)])
    items[:] = filter(asked_for, items)


@contextmanager
def skipping_undeclared() -> Iterator[None]:
    """Skip a test of a file outside the project which takes an option that the file does not declare."""
    try:
        yield
    except Exception as error:
        for cause in (error, error.__cause__, error.__context__):
            if isinstance(cause, UnsupportedOptionError) and cause.impl in submission.files():
                pytest.skip(cause.reason)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Skip a test as `skipping_undeclared` says."""
    with skipping_undeclared():
        return (yield)


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Keep:
    """Function that keeps one row of a table of results, see `suite/results/tables.toml`."""

    def keep_row(name: str, **row: Any) -> None:
        for column, value in row.items():
            if isinstance(value, StrEnum):
                row[column] = str(value)  # xdist carries no enumerations
        request.node.user_properties.append((ROW, (TABLES[name].name, row)))

    return keep_row


@pytest.fixture
def record(keep: Keep) -> Record:
    """Function that keeps one row of the verification table.

    ended: the worst verdict of the comparison, or how it ended without one. sizes: of the case, if it is one.
    """

    def keep_verdict(
        implementation: str,
        dtype: torch.dtype,
        case: str,
        ended: Verdict | CaseOutcome,
        reason: str = "",
        interpreted: bool = False,
        forward_only: bool = False,
        defined: str = "",
        sizes: Case | None = None,
    ) -> None:
        about: dict[str, Any] = {"implementation": implementation, "dtype": dtype_name(dtype), "case": case}
        about |= {"interpreted": interpreted, "forward_only": forward_only, "reason": reason}
        about |= {"defined": defined}
        if sizes:
            about |= sizes.sizes
        if isinstance(ended, Verdict):
            keep("verify", **about, **ended.columns, verdict=CaseOutcome.of(ended.ratio))
        else:
            keep("verify", **about, verdict=ended)

    return keep_verdict


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse damaged results at once, and compile once what all workers need."""
    config = session.config
    if hasattr(config, "workerinput"):
        return
    try:
        folder_of(config.getoption("--results"), config.getoption("--device"))
    except ResultsError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    if config.getoption("--impl") or config.getoption("--size"):
        return
    if config.getoption("numprocesses", None):
        for dtype in find("batched_cpu").dtypes:
            why_unavailable("batched_cpu", "cpu", dtype)  # builds it, which each worker would do otherwise
    if not (config.option.keyword or config.option.markexpr):  # chosen tests compile what they need
        precompile(ahead.of_checks(config.getoption("--thorough")), config.getoption("--device"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    """Print below pytest's own last line whether the implementations are right, and write the rows of all tests."""
    result = yield
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):  # a worker, whose rows its parent writes
        return result
    tables = rows_of_tests(reporter)
    compared = ran(tables["verify"]) if "verify" in tables else pd.DataFrame()
    if len(compared):
        errors = verify.worst_view(compared)
        errors.show("Worst error against the equation, as a multiple of what is allowed")
    conclusion = re.sub("[*`]", "", verify.conclusion(tables, len(failures_of(reporter))))
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        conclusion = f"Interrupted: the rest was not checked. {conclusion}"
    if config.getoption("--size") and config.getoption("--results") == RESULTS:
        tables = {}  # sizes that a person asks for are no rows of the project's tables
    try:
        pages = write(config.getoption("--results"), config.getoption("--device"), tables)
    except ResultsError as error:
        pytest.exit(f"{error}\n{conclusion}", returncode=pytest.ExitCode.USAGE_ERROR)
    for page in pages:
        if page.stem == verify.PAGE.name:
            print(f"\nPage: {page}")
    if conclusion:
        print(conclusion)
    return result


def failures_of(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    """Reports of tests that failed, and of those whose fixtures did."""
    return [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())]


def rows_of_tests(reporter: pytest.TerminalReporter) -> dict[str, pd.DataFrame]:
    """Rows that tests of all processes kept, by table."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for outcome in chain.from_iterable(reporter.stats.values()):
        if getattr(outcome, "when", None) != "teardown":
            continue
        for key, value in outcome.user_properties:
            if key == ROW:
                name, row = value
                rows.setdefault(name, []).append(row)
    tables = {name: TABLES[name].filled(pd.DataFrame(lines)) for name, lines in rows.items()}
    if "verify" in tables:
        tables["verify"] = deciding(tables["verify"], TABLES["verify"].key)
    return tables


def write(results: Path, device: torch.device, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Put rows of checks on a device into the results, and return the pages that were written about them.

    ResultsError says what could not be read or written.
    """
    folders = dict[Path, None]()
    for name, rows in tables.items():
        ran_on = torch.device("cpu") if name == "faults" else device
        folder = folder_of(results, ran_on)
        TABLES[name].put(folder, rows.to_dict("records"), ran_on, CHECKED)
        folders[folder] = None
    return [page for folder in folders for page in report.write_machine(folder)]
