"""What rows depend on: the sources, their commit, and whether a verification of these sources failed."""

import subprocess
from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from impls import names
from impls.registry import find
from suite.candidates import submission
from suite.candidates.catalogue import find as find_candidate
from suite.candidates.names import ALTERNATIVES, BASELINE, PADDED
from suite.cases.case import Case
from suite.cases.sizes import SizeError, parse
from suite.cases.workloads import WORKLOADS, resized
from suite.results.code import defines, digest, meaning, reached
from suite.results.outcomes import CaseOutcome, ran
from suite.shared.files import ROOT

#: Definitions by file; "" is all of a file. What these use in the same file and in PACKAGES is part of it.
Definitions = dict[str, Collection[str]]
PACKAGES = ("suite.measure", "suite.checks.equality", "suite.candidates.candidate")
EQUALITY = "suite/checks/equality"
#: What decides a time: the visit with all of `measure` that it uses, and how its figures are summarised.
TIMING: Definitions = {
    "suite/measure/bench.py": ["rows"],
    "suite/measure/hardware.py": ["share"],
    "suite/shared/arithmetic.py": ["dtype_of", "use"],
    "suite/results/statistics.py": ["summarised"],
    "suite/shared/usage.py": ["peak_bytes"],
}
#: What decides a comparison: the tolerance rule, the draws, the oracle, and what a case is.
RULE: Definitions = {
    "suite/comparison/compare.py": [""],
    "suite/shared/arithmetic.py": [""],
    "suite/comparison/oracle.py": [""],
    "suite/comparison/tensors.py": [""],
    "suite/cases/case.py": ["Case.arguments"],
    f"{EQUALITY}/comparisons.py": ["Comparison.verdicts", "against_naive", "against_wide"],
}
#: By table, what its rows depend on beside their implementation.
TABLES: dict[str, Definitions] = {
    "bench": TIMING,
    "sizes": TIMING,
    "twice": TIMING,
    "hardware": {"suite/measure/hardware.py": ["rows"]},
    "verify": RULE,
    "faults": RULE | {"suite/checks/faults/planting.py": ["Edited"]},
    "capabilities": RULE | {"suite/checks/module/capabilities.py": [""]},
}
#: Tables of times of candidates.
TIMES = ("bench", "sizes")
CANDIDATES = "suite/candidates"
#: What defines the baseline, by name. All rows depend on the first.
LSTMS = {BASELINE: "LSTM", PADDED: "PADDED_LSTM"}
#: Of `impls`, on which no row depends: these choose an implementation or convert parameters, and compute nothing.
WITHOUT_RESULTS = ("__init__", "registry", "proof", "convert")


class Definition(NamedTuple):
    """Where the uses of a case are defined: a module of `suite/checks/equality`, and a name in it."""

    module: str
    name: str

    @classmethod
    def of(cls, text: str) -> "Definition | None":
        """That of a column `defined`, None for a plain call."""
        module, _, name = text.partition(".")
        return cls(module, name) if text else None

    def __str__(self) -> str:
        """The text of the column."""
        return f"{self.module}.{self.name}"


class GoneError(ValueError):
    """A row names a workload or a definition that is no more."""


def sources(table: str, row: Mapping[str, Any]) -> str:
    """Hash of all that a row of a table depends on, in which comments, docstrings and layout do not count.

    That is the implementation with the module around it; what `TABLES` lists; of a benchmark its candidate and the
    fields of its workload; of a verification the definition of its uses. The case of a verification is in the row
    itself. GoneError if the workload or the definition is no more.
    """
    workload = fields(_workload(table, row)) if table in TIMES else ""
    return _sources(ROOT, table, row.get("implementation", ""), row.get("defined", ""), workload)


def _workload(table: str, row: Mapping[str, Any]) -> Case:
    """The workload of a row, in the benchmark with the T and B of the row."""
    name = row["workload"]
    if table == "sizes":
        try:
            return parse(name)
        except SizeError as error:
            raise GoneError(str(error)) from error
    if name not in WORKLOADS:
        raise GoneError(f"expected a workload, one of {', '.join(WORKLOADS)}, got {name}")
    return resized(WORKLOADS[name].case, int(row["T"]), int(row["B"]))


def fields(case: Case) -> str:
    """What the passes of a case are, and the work that is counted for them."""
    least = [case.least_numbers(1, 1, train) for train in (False, True)]
    counted = (case.tokens, case.multiply_adds(), *least)
    return repr((case.sizes, case.lengths, case.arguments, str(case.state), case.strided, case.training, counted))


@cache
def _sources(root: Path, table: str, implementation: str, defined: str, workload: str) -> str:
    parts = dict(TABLES[table])
    if table in TIMES:
        parts[f"{CANDIDATES}/lstm.py"] = {LSTMS[BASELINE], LSTMS.get(implementation, LSTMS[BASELINE])}
        if implementation not in LSTMS and implementation not in ALTERNATIVES:
            parts[f"{CANDIDATES}/ours.py"] = ["candidate_of"]
    definition = Definition.of(defined)
    if definition is not None:
        file = f"{EQUALITY}/{definition.module}.py"
        if not defines(root / file, definition.name):
            raise GoneError(f"{file}: expected a definition of {definition.name}")
        parts[file] = [definition.name]
    places = [(root / file, name) for file, definitions in parts.items() for name in definitions]
    return digest([*reached(places, root, PACKAGES), _files(root, implementation), workload])


@cache
def _files(root: Path, implementation: str) -> str:
    return digest([f"{path.name} {meaning(path)}" for path in source_files(root, implementation)])


def source_files(root: Path, implementation: str) -> list[Path]:
    """Files of an implementation and of the module around it.

    No implementation imports another, and only hand-written ones use `gradient`, which a file of `--impl` may. Of an
    alternative they are the files of `candidates` whose names begin with its own, and what it runs of `impls`.
    """
    if implementation in ALTERNATIVES:
        runs = [root / "impls" / f"{module}.py" for module in find_candidate(implementation).runs]
        return [*runs, *sorted((root / CANDIDATES).glob(f"{implementation}*.py"))]
    submitted = implementation in submission.files()
    files = submission.sources(implementation) if submitted else []
    if implementation in names():
        folder = root / "impls"
        others = {*names(), *WITHOUT_RESULTS} - {implementation, *submission.files()}
        if not submitted and not find(implementation).hand_written:
            others.add("gradient")
        for path in sorted(folder.rglob("*")):
            part = path.relative_to(folder).parts[0].removesuffix(".py")
            if path.suffix in {".py", ".h", ".cpp"} and part not in others:
                files.append(path)
    return files


def stale(table: str, rows: pd.DataFrame) -> pd.Series:
    """True for each row of a table whose sources have changed since it was made."""
    now = [_now(table, row) for row in rows.to_dict("records")]
    changed: pd.Series = rows["sources"] != pd.Series(now, rows.index, dtype=object)
    return changed


def _now(table: str, row: Mapping[str, Any]) -> str | None:
    """Hash of what a row depends on today, None if that is no more."""
    try:
        return sources(table, row)
    except GoneError:
        return None


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
        head = git(["git", "rev-parse", "--short=10", "HEAD"]).strip()
        changed = git(["git", "status", "--porcelain", "--", *code])
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
    of_both = (verify["implementation"] == implementation) & (verify["dtype"] == dtype)
    rows = ran(verify[of_both])
    rows = rows[rows["torch"] == torch.__version__]
    if (rows["verdict"] == CaseOutcome.FAIL).any():
        return Refusal.RED
    return Refusal.STALE if stale("verify", rows).any() else None
