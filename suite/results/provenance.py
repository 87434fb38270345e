"""What rows depend on: the sources, their commit, and whether a verification of these sources failed."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from impls import names
from impls.definition import dtype_name
from impls.registry import IMPLS, find
from suite.candidates import catalogue, submission
from suite.cases.case import MODEL_OPTIONS, Case
from suite.cases.workloads import WORKLOADS, resized
from suite.results.code import digest, meaning
from suite.results.names import TableName
from suite.results.outcomes import CaseOutcome, ran
from suite.results.use_modules import EQUALITY, UseModule
from suite.shared.arithmetic import Arithmetic
from suite.shared.files import ROOT

#: What decides a time: the visit, and how its figures are summarised.
TIMING = (
    "suite/measure/bench.py",
    "suite/measure/roofline.py",
    "suite/measure/timing.py",
    "suite/measure/work.py",
    "suite/candidates/candidate.py",
    "suite/candidates/lstm.py",
    "suite/results/statistics.py",
    "suite/shared/arithmetic.py",
    "suite/shared/usage.py",
)
#: What decides a comparison: the tolerance rule, the draws, and the oracles, of small cases and of wide ones.
RULE = (
    "impls/naive.py",
    "impls/row_scaled.py",
    "suite/comparison/draws.py",
    "suite/comparison/runs.py",
    "suite/comparison/tensors.py",
    "suite/comparison/tolerance.py",
    "suite/shared/arithmetic.py",
    f"{EQUALITY}/tasks.py",
    f"{EQUALITY}/leftovers.py",
    f"{EQUALITY}/use.py",
)
#: On which no row depends: these choose an implementation or convert parameters, and compute nothing.
WITHOUT_RESULTS = ("impls/__init__.py", "impls/registry.py", "impls/proof.py", "impls/convert.py")
#: The parts of hand-written gradients.
GRADIENT = "impls/gradient"


#: What decides whether a capability works, beside RULE.
CAPABILITIES = ("suite/checks/module/capabilities.py", "suite/checks/module/runs.py", "suite/shared/usage.py")


class GoneError(ValueError):
    """A row names a workload, a candidate or a module of uses that is no more."""


def _of_benchmark(row: Mapping[str, Any]) -> Case:
    """The workload of a row of the benchmark, with the T and B of the row."""
    name = row["workload"]
    if name not in WORKLOADS:
        raise GoneError(f"expected a workload, one of {', '.join(WORKLOADS)}, got {name}")
    return resized(WORKLOADS[name].case, int(row["T"]), int(row["B"]))


class Basis(NamedTuple):
    """What the rows of a table depend on, beside their implementation.

    files: of the suite. workload_of: the workload of a row, on which a candidate is timed beside `torch.nn.LSTM`; None
    where rows are no such times. compares: rows are of comparisons, whose models have the options of a case.
    """

    files: Sequence[str]
    workload_of: Callable[[Mapping[str, Any]], Case] | None = None
    compares: bool = False


#: By table.
BASIS: dict[TableName, Basis] = {
    TableName.BENCH: Basis(TIMING, workload_of=_of_benchmark),
    TableName.SIZES: Basis(TIMING, workload_of=Case.of_row),
    TableName.TWICE: Basis(TIMING),
    TableName.HARDWARE: Basis(("suite/measure/hardware.py", "suite/measure/timing.py")),
    TableName.VERIFY: Basis(RULE, compares=True),
    TableName.FAULTS: Basis((*RULE, "suite/checks/faults/planting.py"), compares=True),
    TableName.CAPABILITIES: Basis((*RULE, *CAPABILITIES), compares=True),
}


def sources(table: TableName, row: Mapping[str, Any]) -> str:
    """Hash of all that a row of a table depends on, in which comments, docstrings and layout do not count.

    These are the files of the implementation and the module around it, or of the candidate; those of the table; of a
    benchmark the fields of its workload; of a verification the modules of its uses. The case of a verification is in
    the row itself. GoneError if one of these is no more.
    """
    workload_of = BASIS[table].workload_of
    workload = fields(workload_of(row)) if workload_of else ""
    return _sources(ROOT, table, row.get("implementation", ""), row.get("defined", ""), workload)


def fields(case: Case) -> str:
    """What the passes of a case are, and the work that is counted for them."""
    least = [case.least_numbers(1, 1, train) for train in (False, True)]
    counted = (case.tokens, case.multiply_adds(), *least)
    return repr((case.sizes, case.lengths, case.arguments, str(case.state), case.strided, case.training, counted))


@cache
def _sources(root: Path, table: TableName, implementation: str, defined: str, workload: str) -> str:
    basis = BASIS[table]
    listed = [*basis.files]
    if defined:
        if defined not in [*UseModule]:
            raise GoneError(f"defined: expected a module of {EQUALITY}, one of {', '.join(UseModule)}, got {defined}")
        listed += UseModule(defined).files
    if basis.workload_of:
        try:
            listed += catalogue.find(implementation).files
        except LookupError as error:
            raise GoneError(str(error)) from error
    files = [root / file for file in dict.fromkeys(listed)] + source_files(root, implementation)
    options = repr(MODEL_OPTIONS) if basis.compares else ""
    # Of the row in the registry: whether the module hands over packed sequences whole.
    packed = str(find(implementation).packed) if implementation in names() else ""
    return digest([*map(_text, files), workload, options, packed])


@cache
def _text(path: Path) -> str:
    return f"{path.name} {meaning(path)}"


def source_files(root: Path, implementation: str) -> list[Path]:
    """Files of an implementation and of the module around it, none of other candidates.

    No implementation imports another, and only hand-written ones use `gradient`, which a file of `--impl` may.
    """
    submitted = implementation in submission.files()
    files = submission.sources(implementation) if submitted else []
    if implementation in names():
        left_out = [root / file for file in WITHOUT_RESULTS]
        left_out += [source_path(root, impl.module) for impl in IMPLS if impl.module and impl.name != implementation]
        if not submitted and not find(implementation).hand_written:
            left_out.append(root / GRADIENT)
        for path in sorted((root / "impls").rglob("*")):
            is_code = path.suffix in {".py", ".h", ".cpp"}
            if is_code and not any(path.is_relative_to(part) for part in left_out):
                files.append(path)
    return files


def source_path(root: Path, module: str) -> Path:
    """File of a module, or folder of a package, which is not imported for it: it may need what is not installed."""
    path = root.joinpath(*module.split("."))
    return path if path.is_dir() else path.with_suffix(".py")


def stale(table: TableName, rows: pd.DataFrame) -> pd.Series:
    """True for each row of a table whose sources have changed since it was made."""
    now = [_now(table, row) for row in rows.to_dict("records")]
    changed: pd.Series = rows["sources"] != pd.Series(now, rows.index, dtype=object)
    return changed


def _now(table: TableName, row: Mapping[str, Any]) -> str | None:
    """Hash of what a row depends on today, None if that is no more."""
    try:
        return sources(table, row)
    except GoneError:
        return None


#: Digits of a commit in rows.
DIGITS = 10


class Commit(NamedTuple):
    """The commit of this checkout, "" outside git; dirty: whether code other than pages was changed."""

    commit: str
    dirty: bool = False

    @property
    def columns(self) -> dict[str, object]:
        """The columns of a row that this code made."""
        return self._asdict()


@cache
def commit() -> Commit:
    """The commit of this checkout, as git knows it."""
    git = partial(subprocess.check_output, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
    code = ("impls", "suite", "pyproject.toml", "noxfile.py", ":!*.md")
    try:
        head = git(["git", "rev-parse", f"--short={DIGITS}", "HEAD"]).strip()
        changed = git(["git", "status", "--porcelain", "--untracked-files", "--", *code])
    except (OSError, subprocess.CalledProcessError):
        return Commit("")
    return Commit(head, bool(changed))


class Refusal(StrEnum):
    """Why an implementation is not to be timed in a dtype."""

    #: A case of verify.csv failed.
    RED = "red"
    #: What a case depends on has changed since.
    STALE = "stale"


def refused(verify: pd.DataFrame, implementation: str, dtype: str) -> Refusal | None:
    """Why an implementation is not to be timed in a dtype, None if it is; verify: rows of verify.csv."""
    if verify.empty:
        return None
    dtypes = {dtype, dtype_name(Arithmetic(dtype).dtype)}  # what is wrong in float32 is wrong in TF32
    of_both = (verify["implementation"] == implementation) & verify["dtype"].isin(dtypes)
    rows = ran(verify[of_both])
    rows = rows[rows["torch"] == torch.__version__]
    if (rows["verdict"] == CaseOutcome.FAIL).any():
        return Refusal.RED
    return Refusal.STALE if stale(TableName.VERIFY, rows).any() else None
