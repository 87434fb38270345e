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
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from impls import names
from impls.definition import dtype_name
from suite.measure.roofline import MOST
from suite.results.names import TableName
from suite.results.outcomes import CapabilityOutcome, CaseOutcome, FaultOutcome, ran
from suite.results.statistics import FEWEST
from suite.results.status import Bound, Status
from suite.results.tables import TABLES
from suite.shared.arithmetic import Arithmetic
from suite.shared.files import ROOT, ResultsError

#: What shows where something was made: absolute paths, of Windows too, those in a home, and users of hosts.
PRIVATE = re.compile(r"(?<![\w.)])(/[\w.+-]+){2,}|\b[A-Za-z]:\\\w|~/\w|[\w.-]+@[\w-]+")
#: Prints the hashes of rows; it runs in the copy of another commit, which need not have it.
HASHES = Path(__file__).with_name("handed_in_hashes.py")
#: Tables that a folder must have; each is named like the session of nox that writes it.
REQUIRED = (TableName.BENCH, TableName.VERIFY)


class OutcomeColumn(NamedTuple):
    """The column in which a table of a verification says how a row ended, and its outcome for a failure."""

    name: str
    failure: StrEnum


#: By table.
OUTCOMES = {
    TableName.VERIFY: OutcomeColumn("verdict", CaseOutcome.FAIL),
    TableName.FAULTS: OutcomeColumn("verdict", FaultOutcome.SURVIVED),
    TableName.CAPABILITIES: OutcomeColumn("outcome", CapabilityOutcome.FAIL),
}
#: Rows of a machine by the name of their table.
Tables = Mapping[str, pd.DataFrame]
#: Hashes of these rows, likewise.
Hashes = Mapping[str, pd.Series]


def problems(folder: Path) -> list[str]:
    """Sentences that say why a folder cannot be taken, none if it can."""
    sentences = list[str]()
    tables = dict[str, pd.DataFrame]()
    for table in TABLES.values():
        path = table.path(folder)
        if table.of_project and path.exists():
            try:
                tables[table.name] = table.read(path)
            except ResultsError as error:
                sentences.append(str(error))
            sentences += private(path)
        elif table.name in REQUIRED:
            sentences.append(f"{path}: expected the rows of nox -s {table.name}, but there is no such file.")
    sentences += with_changes(tables)
    hashes = dict[str, Hashes]()
    for commit in commits(tables):
        try:
            hashes[commit] = sources_at(commit, tables)
        except LookupError as error:
            files = ", ".join(f"{name}.csv" for name, rows in tables.items() if (rows["commit"] == commit).any())
            sentences.append(f"{files}: {error}.")
    for name, rows in tables.items():
        sentences += of_other_sources(name, rows, hashes)
    sentences += failed(tables)
    if TableName.BENCH in tables:
        sentences += figures(tables[TableName.BENCH])
    if TableName.BENCH in tables and TableName.VERIFY in tables:
        sentences += compared(tables[TableName.BENCH], tables[TableName.VERIFY], hashes)
    return sentences


def commits(tables: Tables) -> list[str]:
    """The commits whose code, without changes, made rows."""
    made_by = set[str]()
    for rows in tables.values():
        made_by.update(rows["commit"][~rows["dirty"]])
    return sorted(made_by)


def private(path: Path) -> Iterator[str]:
    """Sentences about cells that hold a path or the name of this host, by column."""
    host = platform.node().partition(".")[0]  # without its domain
    patterns = [PRIVATE]
    if host not in ("", "localhost"):
        patterns.append(re.compile(rf"\b{re.escape(host)}\b", re.IGNORECASE))
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    seen = set[str]()
    for line, cells in enumerate(rows, 2):
        for column, cell in zip(head, cells, strict=False):
            shown = next(filter(None, (pattern.search(cell) for pattern in patterns)), None)
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
    fast = timed[(timed["bound"] == Bound.COMPUTE) & (timed["share"] > MOST)]
    if len(fast):
        most = f"{fast['share'].max():.2f} of the rate of this machine's products"
        yield f"bench.csv: {len(fast)} rows multiply at up to {most}, more than {MOST}, the first is of {_about(fast)}."


def failed(tables: Tables) -> Iterator[str]:
    """Sentences about what failed in a verification."""
    for name, column in OUTCOMES.items():
        if name in tables:
            rows = tables[name]
            wrong = rows[rows[column.name] == column.failure]
            if len(wrong):
                yield f"{name}.csv: {len(wrong)} rows of {len(rows)} failed, the first is of {_about(wrong)}."


def compared(bench: pd.DataFrame, verify: pd.DataFrame, then: Mapping[str, Hashes]) -> Iterator[str]:
    """Sentences about implementations that were timed, but not compared, or not with the same sources."""
    timed = bench[(bench["status"] == Status.OK) & bench["implementation"].isin(names())]
    for (name, dtype), rows in timed.groupby(["implementation", "dtype"], sort=False):
        of_products = dtype_name(Arithmetic(str(dtype)).dtype)
        which = f"{name} in {of_products}"
        of_both = ran(verify[(verify["implementation"] == name) & (verify["dtype"] == of_products)])
        if of_both.empty:
            yield f"verify.csv: expected comparisons of {which}, which was timed, but there are none."
        for commit in rows["commit"][~rows["dirty"]].unique():
            if commit in then and (of_both["sources"] != then[commit][TableName.VERIFY].loc[of_both.index]).any():
                yield f"verify.csv: {which} was timed at commit {commit}, and compared with other sources."


def _about(rows: pd.DataFrame) -> str:
    """What the first row is about, such as "medium batched float32"."""
    first = rows.iloc[0]
    words = [first.get(column) for column in ("workload", "implementation", "dtype", "case", "edit", "capability")]
    return " ".join(filter(None, words)) or "the machine"


def report(folder: Path) -> int:
    """Print whether a folder can be taken; return the exit status."""
    sentences = problems(folder)
    if not sentences:
        print(f"{folder} can be handed in.")
        return 0
    print("\n".join(sentences))
    return 1
