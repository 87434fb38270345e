"""Options, and the rows that a run of the suite leaves behind."""

import tempfile
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console

from impls import why_unavailable
from impls.registry import dtype_name, find
from suite import report
from suite.checks.definition.paper import MODELS
from suite.checks.faults.faults import FAULTS
from suite.checks.faults.rewrites import REWRITES
from suite.checks.kernels import interpreted, kernels
from suite.checks.module import ranks
from suite.checks.module.capabilities import CAPABILITIES
from suite.pages.paper_tables import paper_table
from suite.pages.sheets import Sheet
from suite.pages.verify_tables import verify_table
from suite.pages.words import count
from suite.shared import machine
from suite.shared.cases import VERIFY_COMPILING, Case
from suite.shared.children import Child, beside_tests
from suite.shared.compare import Verdict
from suite.shared.results import RESULTS, ResultsError
from suite.shared.rows import table

ROWS = pytest.StashKey[dict[str, list[dict[str, Any]]]]()
REPORT = pytest.StashKey[Path]()
LEFT_OUT = pytest.StashKey[Counter[str]]()
KERNELS, VERDICTS, HALVES = pytest.StashKey[Child](), pytest.StashKey[Child](), pytest.StashKey[Child]()
GRAPHS = pytest.StashKey[Child]()
#: By table and column, the values that still exist.
LISTED: dict[str, dict[str, list[str]]] = {
    "faults": {"edit": [edited.name for edited in (*FAULTS, *REWRITES)]},
    "capabilities": {"capability": [capability.name for capability in CAPABILITIES]},
    "paper": {"model": [model.name for model in MODELS]},
}
Keep = Callable[..., None]
Record = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the suite can be told."""
    group = parser.getgroup("hyperlstm")
    group.addoption("--device", help="device to check on; the default is CUDA if there is one, else the CPU")
    group.addoption("--results", type=Path, default=RESULTS, help="folder for a folder of results a machine")
    group.addoption("--quick", action="store_true", help="leave out what is marked `thorough`, and say what that was")
    group.addoption("--job", type=Path, help="JSON file of one benchmark job, see suite/bench.py")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep the host's name out of the raw results."""
    machine_info.pop("node", None)


def pytest_configure(config: pytest.Config) -> None:
    """Start with no rows."""
    config.stash[ROWS] = {}


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> None:
    """Forget compiled code: torch takes other sizes than before for a wish to compile once for all sizes, slowly."""
    torch._dynamo.reset()


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """Return the device that everything is checked on."""
    return _device(request.config)


def skip_reason(name: str, device: torch.device, dtype: torch.dtype = torch.float32, case: Case | None = None) -> str:
    """Return why an implementation is not checked in a dtype on a case, or on what is no case of the table; else ""."""
    if (reason := why_unavailable(name, device, dtype)) is not None:
        return reason
    if find(name).compiles_each_size and case not in VERIFY_COMPILING:
        return f"{name} compiles anew for each size; it is checked on {len(VERIFY_COMPILING)} cases and before timing."
    return ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is too much for a quick run, and what waits for a child process to the end."""
    marks = {item: item.get_closest_marker("thorough") for item in items if config.getoption("--quick")}
    left_out = {item: str(mark.args[0]) for item, mark in marks.items() if mark is not None}
    config.stash[LEFT_OUT] = Counter(left_out.values())
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    items.sort(
        key=lambda item: bool({"compiled", "verdicts", "simulated", "halves"} & set(getattr(item, "fixturenames", ())))
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the child processes that tests will ask for, so that they work while other tests run."""
    config = session.config
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if config.option.collectonly:
        return
    if "halves" in wanted:
        config.stash[HALVES] = _start(config, ranks.start)
    if find_spec("triton") is None:
        return
    if "compiled" in wanted:
        config.stash[KERNELS] = _start(config, kernels.start)
    if "verdicts" in wanted and _device(config).type == "cpu":
        config.stash[VERDICTS] = _start(config, interpreted.start)
    if "simulated" in wanted:
        config.stash[GRAPHS] = _start(
            config, lambda path: beside_tests("suite.checks.kernels.simulated_graphs", path, TRITON_INTERPRET="1")
        )


def _start(config: pytest.Config, start: Callable[[Path], Child]) -> Child:
    """Start a child process whose rows nobody keeps."""
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    child = start(Path(folder.name) / "rows.jsonl")
    config.add_cleanup(child.stop)
    return child


@pytest.fixture(scope="session")
def compiled(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Return the table of kernels compiled ahead of time, which stays among the results."""
    rows = request.config.stash[KERNELS].rows()
    request.config.stash[ROWS]["kernels"] = rows.to_dict("records")
    return rows


@pytest.fixture(scope="session")
def verdicts(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Return the verdicts on interpreted runs."""
    child = request.config.stash.get(VERDICTS, None)
    if child is None:
        pytest.skip("On a GPU the kernels run natively, in the next test.")
    return child.rows().set_index(["case", "dtype"])


@pytest.fixture(scope="session")
def simulated(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Return how each check on simulated CUDA graphs ended."""
    return request.config.stash[GRAPHS].rows()


@pytest.fixture(scope="session")
def halves(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Return what two processes with half a batch each came to."""
    return request.config.stash[HALVES].rows().fillna("").set_index(["capability", "implementation"])


@pytest.fixture
def keep(request: pytest.FixtureRequest, device: torch.device) -> Keep:
    """Give a function that keeps one row of a page of results, see `suite/shared/rows.py`."""
    pages = request.config.stash[ROWS]

    def keep_row(name: str, **row: Any) -> None:
        pages.setdefault(table(name).name, []).append(row)

    return keep_row


@pytest.fixture
def record(keep: Keep) -> Record:
    """Give a function that keeps one row of the verification table."""

    def keep_verdict(
        implementation: str, dtype: torch.dtype, case: str, outcome: str, worst: Verdict | None = None, reason: str = ""
    ) -> None:
        keep(
            "verify",
            implementation=implementation,
            dtype=dtype_name(dtype),
            case=case,
            verdict=outcome,
            ratio=worst.ratio if worst else None,
            error=worst.error if worst else None,
            allowed=worst.allowed if worst else None,
            tensor=worst.tensor if worst else "",
            reason=reason,
        )

    return keep_verdict


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Put the rows of this run into the results of this machine."""
    config = session.config
    pages, results = config.stash[ROWS], config.getoption("--results")
    try:
        for name, rows in pages.items():
            device = _device(config)
            table(name).put(results / machine.slug(device), rows, device, listed=LISTED.get(name))
        if pages:
            config.stash[REPORT] = report.write_tables(results)
    except ResultsError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


def pytest_terminal_summary(config: pytest.Config) -> None:
    """Show the tables of this run, and what it left out."""
    verify, paper = (pd.DataFrame(config.stash[ROWS].get(name, [])) for name in ("verify", "paper"))
    if len(paper):
        columns = ["model", "paper, M", "ours, M", "verdict"]
        shown = paper_table(paper.astype({"paper_millions": float})).only(columns)
        shown.show("The paper's parameter counts", Console())
    if len(verify):
        verify_table(table("verify").ordered(verify)).show("Against the oracle, worst error / allowed", Console())
    left_out = config.stash.get(LEFT_OUT, None)
    if left_out:
        lines = [{"a quick run leaves out": name, "tests": n} for name, n in left_out.items()]
        Sheet(lines, {"tests": count}).show("Not checked", Console())
    if REPORT in config.stash:
        Console().print(f"\nReport: {config.stash[REPORT]}", soft_wrap=True, highlight=False)


def _device(config: pytest.Config) -> torch.device:
    name = config.getoption("--device")
    return torch.device(name) if name else machine.default_device()
