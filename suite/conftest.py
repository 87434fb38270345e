"""Options of a run of the suite, and the rows and the summary that it writes."""

import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from impls import why_unavailable
from impls.definition import dtype_name
from impls.registry import find
from suite import report
from suite.checks.equality.comparisons import every_id
from suite.checks.faults.faults import FAULTS, REWRITES
from suite.checks.kernels.compiled import precompile
from suite.checks.module.capabilities import CAPABILITIES
from suite.pages import verify
from suite.shared import arithmetic, machine
from suite.shared.cases import DROPOUT, RAGGED, VERIFY, VERIFY_TILES, Case
from suite.shared.compare import Verdict
from suite.shared.files import RESULTS, ResultsError
from suite.shared.tables import TABLES, VALUES, folder_of

#: `test_interpreter.py` runs these in a process with Triton's interpreter on.
collect_ignore_glob = ["*/test_interpreted_*.py"]
#: The name of a row among a test's user properties, which xdist carries to the process that writes results.
ROW = "row"
#: Values of the keys of these tables in order, which only the checks know.
CHECKED = {
    "edit": [edited.name for edited in (*FAULTS, *REWRITES)],
    "case": [*VALUES["case"], *every_id()],
    "capability": [capability.name for capability in CAPABILITIES],
}
# It warns where torch sees no GPU but finds a CUDA toolkit.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
#: Files that take longest, which come first: a run on several cores ends when the last file does.
FIRST = ("test_kernels", "test_wide", "test_capabilities", "test_equality", "test_interpreter", "test_faults")
#: How many of the slowest tests a thorough run lists.
SLOWEST = 20
#: The key under which a worker of xdist says how many tests it left out.
LEFT_OUT = "left_out"
#: Tables of checks that always run on the CPU.
ON_CPU = ("faults",)
Keep = Callable[..., None]
Record = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hyperlstm")
    group.addoption("--device", help="device to check on; the default is CUDA if there is one, else the CPU")
    group.addoption("--results", type=Path, default=RESULTS, help="folder that has a folder of results per machine")
    group.addoption("--thorough", action="store_true", help="run what is marked `thorough` too")
    group.addoption("--seed", type=int, help="of half of the cases that a thorough run draws; a new one by default")
    group.addoption("--kernels", choices=("all",), help="interpret every case of batched_cuda in every dtype")


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker of xdist one thread; the process that started them gathers and shows what they find."""
    lesser = os.environ.get("ATEN_CPU_CAPABILITY")
    if lesser and "TORCHINDUCTOR_CACHE_DIR" not in os.environ:  # checked first, because the import sets it
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # takes a second to import

        # Inductor would reuse code made for all of the processor, which does not compile for a lesser one.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{default_cache_dir()}_{lesser}"
    if hasattr(config, "workerinput"):
        config.option.seed = config.workerinput["seed"]
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"  # for processes that tests start
        os.environ["TORCH_WARM_POOL"] = "0"  # else inductor starts processes in each, for Triton alone
    else:
        if config.option.seed is None:
            config.option.seed = secrets.randbelow(10**6)
        if config.option.durations is None and config.getoption("--thorough"):
            config.option.durations = SLOWEST
        config.pluginmanager.register(Gathered(config), "gathered")
    arithmetic.use("float32")  # an environment variable can make TF32 torch's default


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker per core, and at most four on a GPU, where each takes half a gigabyte of memory."""
    return min(torch.get_num_threads(), 16 if _device(config).type == "cpu" else 4)


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> None:
    """Forget compiled code: after sizes change, torch compiles for all sizes, slowly."""
    torch._dynamo.reset()


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that everything is checked on."""
    return _device(request.config)


def skip_reason(name: str, device: torch.device, dtype: torch.dtype = torch.float32, case: Case | None = None) -> str:
    """Reason why an implementation is not checked in a dtype on a case, "" if it is; case: None for other sizes."""
    return why_unavailable(name, device, dtype, case.options if case else ()) or ""


def skip_unless_checked(
    name: str, device: torch.device, dtype: torch.dtype = torch.float32, case: Case | None = None
) -> None:
    """Skip a test for the reason, see `skip_reason`."""
    if reason := skip_reason(name, device, dtype, case):
        pytest.skip(reason)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `thorough`, unless it is asked for; files that take longest come first."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))
    if not config.getoption("--thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough") is not None]
        items[:] = [item for item in items if item.get_closest_marker("thorough") is None]
        config.hook.pytest_deselected(items=left_out)
        if hasattr(config, "workeroutput"):
            config.workeroutput[LEFT_OUT] = len(left_out)
        elif gathered := config.pluginmanager.get_plugin("gathered"):
            gathered.left_out = len(left_out)


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Keep:
    """Function that keeps one row of a table of results, see `suite/shared/tables.toml`."""

    def keep_row(name: str, **row: Any) -> None:
        # xdist carries plain Python.
        plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
        request.node.user_properties.append((ROW, (TABLES[name].name, plain)))

    return keep_row


@pytest.fixture
def record(keep: Keep) -> Record:
    """Function that keeps one row of the verification table."""

    def keep_verdict(
        implementation: str, dtype: torch.dtype, case: str, outcome: str, worst: Verdict | None = None, reason: str = ""
    ) -> None:
        about = {"implementation": implementation, "dtype": dtype_name(dtype), "case": case, "verdict": outcome}
        figures = {"ratio": worst.ratio, **vars(worst)} if worst else {"ratio": None, "tensor": ""}
        keep("verify", **about, **figures, reason=reason)

    return keep_verdict


class Gathered:
    """Plugin that gathers rows and failures of all processes, writes the tables and prints the summary."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.failed: list[tuple[str, str]] = []
        self.not_run: Counter[str] = Counter()
        self.left_out = 0
        self.pages: list[Path] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Have all workers of xdist draw the same cases."""
        node.workerinput["seed"] = self.config.option.seed

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take from a worker of xdist how many tests it left out: all leave out the same."""
        self.left_out = getattr(node, "workeroutput", {}).get(LEFT_OUT, self.left_out)

    def pytest_sessionstart(self) -> None:
        """Refuse damaged results at once, and compile once what all workers need."""
        try:
            folder_of(self.config.getoption("--results"), _device(self.config))
        except ResultsError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
        cases, dtypes = (*VERIFY, *VERIFY_TILES, *RAGGED, *DROPOUT), find("batched_cuda").dtypes
        for dtype in find("batched_cpu").dtypes:
            why_unavailable("batched_cpu", "cpu", dtype)  # builds it, which each worker would do otherwise
        if not self.config.option.keyword:  # chosen tests compile what they need
            precompile([(case, dtype_name(dtype)) for case in cases for dtype in dtypes], _device(self.config))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the failure of a test, the reason why it was skipped, and its rows."""
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = (crash.message if crash else report.longreprtext or "nothing").splitlines()[0]  # names the tensor
            self.failed.append((report.nodeid.split("@")[0], message))
        if report.skipped and isinstance(report.longrepr, tuple):
            self.not_run[report.longrepr[2].removeprefix("Skipped: ")] += 1
        if report.when == "teardown":
            for key, value in report.user_properties:
                if key == ROW:
                    name, row = cast(tuple[str, dict[str, Any]], value)
                    self.rows.setdefault(name, []).append(row)

    def pytest_sessionfinish(self) -> None:
        results, folders = self.config.getoption("--results"), dict[Path, None]()
        try:
            for name, rows in self.rows.items():
                device = torch.device("cpu") if name in ON_CPU else _device(self.config)
                folder = folder_of(results, device)
                TABLES[name].put(folder, worst(rows) if name == "verify" else rows, device, {**VALUES, **CHECKED})
                folders[folder] = None
            self.pages = [page for folder in folders for page in report.write_machine(folder)]
        except ResultsError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)

    def pytest_terminal_summary(self) -> None:
        rows = {name: pd.DataFrame(lines) for name, lines in self.rows.items()}
        verify.say(Console(), rows, self.failed, self.not_run, self.left_out)
        if self.config.getoption("--thorough"):
            print(f"\nHalf of the random sizes were drawn with --seed {self.config.option.seed}.")
        for page in self.pages:
            if page.stem == verify.PAGE.name:
                print(f"\nPage: {page}")

    def pytest_unconfigure(self) -> None:
        """Print the answer, below pytest's own last line."""
        answer = verify.answer(pd.DataFrame(self.rows.get("verify", [])), len(self.failed))
        if answer:
            print(answer)


def worst(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the rows of verify.csv with the same key the one that decides: a failure, else the comparison that ran.

    A case that only a GPU runs is skipped without one, but may have run in Triton's interpreter.
    """
    severity = {"skipped": 0, "pass": 1, "FAIL": 2}
    ordered = sorted(rows, key=lambda row: (severity[row["verdict"]], row.get("ratio") or 0.0))
    return list({tuple(row[column] for column in TABLES["verify"].key): row for row in ordered}.values())


def _device(config: pytest.Config) -> torch.device:
    name = config.getoption("--device")
    return machine.device_of(name) if name else machine.default_device()
