"""Whether the results of another machine can be taken: `nox -s report -- --check FOLDER`.

A folder is that of one machine. Every problem is one sentence. A row says which commit it was made with, and names the
sources that it depends on by their hash; that commit's own code computes the hash again, in a copy.
"""

import csv
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from impls import names
from impls.definition import dtype_name
from suite.measure.roofline import MOST
from suite.results.outcomes import CapabilityOutcome, CaseOutcome, FaultOutcome, ran
from suite.results.statistics import FEWEST
from suite.results.status import Status
from suite.results.tables import TABLES
from suite.shared.arithmetic import dtype_of
from suite.shared.files import ROOT, ResultsError

#: What shows where something was made: absolute paths, of Windows too, those in a home, and users of hosts.
PRIVATE = re.compile(r"(?<![\w.)])(/[\w.+-]+){2,}|\b[A-Za-z]:\\\w|~/\w|[\w.-]+@[\w-]+")
#: Prints the hashes of rows; it runs in the copy of another commit, which need not have it.
HASHES = Path(__file__).with_name("handed_in_hashes.py")
#: By table of a verification, the column that says how a row ended, and its word for a failure.
FAILED = {
    "verify": ("verdict", CaseOutcome.FAIL),
    "faults": ("verdict", FaultOutcome.SURVIVED),
    "capabilities": ("outcome", CapabilityOutcome.FAIL),
}
#: Rows of a machine by the name of their table.
Tables = Mapping[str, pd.DataFrame]
#: Hashes of these rows, likewise.
Hashes = Mapping[str, pd.Series]


def problems(folder: Path) -> list[str]:
    """Sentences that say why a folder cannot be taken, none if it can."""
    tables, found = dict[str, pd.DataFrame](), list[str]()
    for name in (name for name in TABLES if name != "sizes"):
        path = TABLES[name].path(folder)
        if path.exists():
            try:
                tables[name] = TABLES[name].read(path)
            except ResultsError as error:
                found.append(str(error))
            found += private(path)
        elif name in ("bench", "verify"):
            found.append(f"{path}: expected the rows of nox -s {name}, but there is no such file.")
    then = dict[str, Hashes]()
    found += with_changes(tables)
    for commit in sorted({commit for rows in tables.values() for commit in rows["commit"][~rows["dirty"]]}):
        try:
            then[commit] = sources_at(commit, tables)
        except LookupError as error:
            of = ", ".join(f"{name}.csv" for name, rows in tables.items() if (rows["commit"] == commit).any())
            found.append(f"{of}: {error}.")
    found += [sentence for name, rows in tables.items() for sentence in of_other_sources(name, rows, then)]
    found += failed(tables)
    if "bench" in tables:
        found += figures(tables["bench"])
    if "bench" in tables and "verify" in tables:
        found += compared(tables["bench"], tables["verify"], then)
    return found


def private(path: Path) -> Iterator[str]:
    """Sentences about cells that hold a path or the name of this host, by column."""
    host = platform.node().partition(".")[0]
    named = re.compile(rf"\b{re.escape(host)}\b", re.IGNORECASE) if host not in ("", "localhost") else None
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    seen = set[str]()
    for line, cells in enumerate(rows, 2):
        for column, cell in zip(head, cells, strict=False):
            shown = PRIVATE.search(cell) or (named and named.search(cell))
            if shown and column not in seen:
                seen.add(column)
                yield f"{path}, line {line}, {column}: expected no path and no name of a host, got {shown[0]!r}."


def sources_at(commit: str, tables: Tables) -> dict[str, pd.Series]:
    """Hashes of what the rows of tables depend on, as the code of a commit has it; LookupError if there is no such."""
    if not re.fullmatch("[0-9a-f]{7,40}", commit):
        raise LookupError(f"expected a commit, got {commit!r}")
    ancestor = ["git", "-C", str(ROOT), "merge-base", "--is-ancestor", commit, "HEAD"]
    if subprocess.run(ancestor, capture_output=True, check=False).returncode:
        raise LookupError(f"commit {commit} is not in the history of this checkout")
    archive = ["git", "-C", str(ROOT), "archive", commit, "impls", "suite"]
    rows = {name: json.loads(str(of.to_json(orient="records"))) for name, of in tables.items()}
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(subprocess.check_output(archive))) as code:
            code.extractall(folder, filter="data")
        ran = subprocess.run(
            [sys.executable, "-P", str(HASHES)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": folder},
            input=json.dumps(rows),
            capture_output=True,
            text=True,
            check=False,
        )
    if ran.returncode:
        raise LookupError(f"commit {commit} cannot say which sources it has: {ran.stderr.strip().splitlines()[-1]}")
    hashes = json.loads(ran.stdout)
    return {name: pd.Series(hashes[name], of.index, dtype=object) for name, of in tables.items()}


def with_changes(tables: Tables) -> Iterator[str]:
    """Sentences about rows that code with changes made, which no commit has."""
    for name, rows in tables.items():
        dirty = rows[rows["dirty"]]
        if len(dirty):
            which = f"{len(dirty)} of {len(rows)} rows were made by code with changes that no commit has"
            yield f"{name}.csv: {which}, the first is of {_about(dirty)}."


def of_other_sources(name: str, rows: pd.DataFrame, then: Mapping[str, Hashes]) -> Iterator[str]:
    """Sentences about rows that name other sources than the commit has that they name."""
    for commit, made in rows[~rows["dirty"]].groupby("commit"):
        if commit in then:
            others = made[made["sources"] != then[str(commit)][name].loc[made.index]]
            if len(others):
                which = f"{len(others)} of {len(made)} rows name other sources than commit {commit} has"
                yield f"{name}.csv: {which}, the first is of {_about(others)}."


def figures(bench: pd.DataFrame) -> Iterator[str]:
    """Sentences about figures that too few visits made, or that no machine can reach."""
    timed = bench[bench["status"] == Status.OK]
    few = timed[~(timed["visits"] >= FEWEST)]
    if len(few):
        yield f"bench.csv: {len(few)} rows have fewer than {FEWEST} visits, the first is of {_about(few)}."
    fast = timed[(timed["bound"] == "compute") & (timed["share"] > MOST)]
    if len(fast):
        most = f"{fast['share'].max():.2f} of the rate of this machine's products"
        yield f"bench.csv: {len(fast)} rows multiply at up to {most}, more than {MOST}, the first is of {_about(fast)}."


def failed(tables: Tables) -> Iterator[str]:
    """Sentences about what failed in a verification."""
    for name, (column, wrong) in FAILED.items():
        if name in tables:
            rows = tables[name][tables[name][column] == wrong]
            if len(rows):
                yield f"{name}.csv: {len(rows)} rows of {len(tables[name])} failed, the first is of {_about(rows)}."


def compared(bench: pd.DataFrame, verify: pd.DataFrame, then: Mapping[str, Hashes]) -> Iterator[str]:
    """Sentences about implementations that were timed, but not compared, or not with the same sources."""
    timed = bench[(bench["status"] == Status.OK) & bench["implementation"].isin(names())]
    for (name, dtype), rows in timed.groupby(["implementation", "dtype"], sort=False):
        of_products = dtype_name(dtype_of(str(dtype)))
        which = f"{name} in {of_products}"
        of_both = ran(verify[(verify["implementation"] == name) & (verify["dtype"] == of_products)])
        if of_both.empty:
            yield f"verify.csv: expected comparisons of {which}, which was timed, but there are none."
        for commit in rows["commit"][~rows["dirty"]].unique():
            if commit in then and (of_both["sources"] != then[commit]["verify"].loc[of_both.index]).any():
                yield f"verify.csv: {which} was timed at commit {commit}, and compared with other sources."


def _about(rows: pd.DataFrame) -> str:
    """What the first row is about, such as "medium batched float32"."""
    words = [
        rows[column].iloc[0]
        for column in ("workload", "implementation", "dtype", "case", "edit", "capability")
        if column in rows
    ]
    return " ".join(filter(None, words)) or "the machine"


def report(folder: Path) -> int:
    """Print whether a folder can be taken; return the exit status."""
    found: Iterable[str] = problems(folder)
    print("\n".join(found) or f"{folder} can be handed in.")
    return int(bool(found))
