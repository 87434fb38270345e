"""Whether the results of another machine can be taken: `nox -s report -- --check FOLDER`."""

import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from suite.measure.roofline import MOST
from suite.results.outcomes import CapabilityOutcome, CaseOutcome, FaultOutcome
from suite.results.run import Run, read
from suite.results.statistics import FEWEST
from suite.results.status import Bound, Status
from suite.shared.files import ROOT

#: What shows where something was made: absolute paths, of Windows too, those in a home, and users of hosts.
PRIVATE = re.compile(r"(?<![\w.)])(/[\w.+-]+){2,}|\b[A-Za-z]:\\\w|~/\w|[\w.-]+@[\w-]+")
#: By table of a verification, the column that says how a row ended, and what it says of a failure.
FAILED = {
    "verify": ("verdict", CaseOutcome.FAIL),
    "faults": ("verdict", FaultOutcome.SURVIVED),
    "capabilities": ("outcome", CapabilityOutcome.FAIL),
}


def problems(folder: Path) -> Iterator[str]:
    """Sentences that say why a folder cannot be taken, none if it can."""
    bench, verify = read(folder, "bench"), read(folder, "verify")
    for name, run in (("bench", bench), ("verify", verify)):
        if run is None:
            yield f"{folder}: expected the results of nox -s {name}, but there are none."
        else:
            yield from of_code(run)
            yield from private(folder, run)
    if bench is not None and verify is not None and bench.stamp.commit != verify.stamp.commit:
        yield "bench and verify were made by two commits."
    if bench is not None:
        yield from of_times(bench.rows)
    if verify is not None:
        yield from of_verification(verify)


def of_code(run: Run) -> Iterator[str]:
    """Sentences about the code that made a run."""
    if run.stamp.dirty:
        yield f"{run.name}: made by code with changes that no commit has."
    elif not known(run.stamp.commit):
        yield f"{run.name}: commit {run.stamp.commit!r} is not in the history of this checkout."
    if run.stale:
        yield f"{run.name}: stale, as code that it rests on has changed since."


def of_times(rows: pd.DataFrame) -> Iterator[str]:
    """Sentences about rows of a benchmark."""
    timed = rows[rows["status"] == Status.OK]
    few = int((timed["visits"] < FEWEST).sum())
    fast = int(((timed["bound"] == Bound.COMPUTE) & (timed["share"] > MOST)).sum())
    if few:
        yield f"bench.csv: {few} rows have fewer than {FEWEST} visits."
    if fast:
        yield f"bench.csv: {fast} rows multiply faster than this machine can."


def of_verification(verify: Run) -> Iterator[str]:
    """Sentences about tables of which rows failed."""
    for table, (column, failure) in FAILED.items():
        rows = verify.tables[table]
        wrong = int((rows[column] == failure).sum())
        if wrong:
            yield f"{table}.csv: {wrong} rows of {len(rows)} failed."


def known(commit: str) -> bool:
    """True if a commit is in the history of this checkout."""
    ancestor = ["git", "-C", str(ROOT), "merge-base", "--is-ancestor", commit or "none", "HEAD"]
    return subprocess.run(ancestor, capture_output=True, check=False).returncode == 0


def private(folder: Path, run: Run) -> Iterator[str]:
    """Sentences about files that hold a path or the name of this host."""
    host = platform.node().partition(".")[0]  # without its domain
    for file in (f"{run.name}.json", *(f"{table}.csv" for table in run.tables)):
        path = folder / file
        content = path.read_text(encoding="utf-8") if path.exists() else ""
        shown = PRIVATE.search(content)
        if host not in ("", "localhost") and shown is None:
            shown = re.search(rf"\b{re.escape(host)}\b", content, re.IGNORECASE)
        if shown:
            yield f"{file}: expected no path and no name of a host, got {shown[0]!r}."


def report(folder: Path) -> int:
    """Print whether a folder can be taken; return the exit status."""
    sentences = list(problems(folder))
    print("\n".join(sentences) or f"{folder} can be handed in.")
    return int(bool(sentences))
