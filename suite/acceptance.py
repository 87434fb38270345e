"""Why results are not taken: a benchmark's for its machine's pages, a folder's by `nox -s report -- --check`."""

import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from impls import names
from suite.candidates.names import BASELINE
from suite.measure.believed import MOST
from suite.pages.ranking import fastest, ranked
from suite.results.outcomes import Verdict
from suite.results.run import TABLES, Run, read
from suite.results.statistics import FEWEST
from suite.results.status import WRONG, Status
from suite.shared.files import ROOT

#: What shows where a file comes from: absolute paths, of Windows too, paths in a home, and users at hosts.
PRIVATE = re.compile(r"(?<![\w.)])(/[\w.+-]+){2,}|\b[A-Za-z]:\\\w|~/\w|[\w.-]+@[\w-]+")


def problems(folder: Path) -> Iterator[str]:
    """Sentences that say why a folder cannot be taken, none if it can."""
    runs = {name: read(folder, name) for name in TABLES}
    for name, run in runs.items():
        if run is None:
            yield f"{folder}: expected the results of nox -s {name}, but there are none."
        else:
            yield from (f"{name}: {problem}" for problem in [*of_code(run), *failures(run), *private(folder, run)])
    if len({run.commit for run in runs.values() if run is not None}) > 1:
        yield "bench and verify were made by two commits."


def of_code(run: Run) -> Iterator[str]:
    """What is wrong with the code that made a run."""
    ancestor = ["git", "-C", str(ROOT), "merge-base", "--is-ancestor", run.commit or "none", "HEAD"]
    if run.dirty:
        yield "made by code with changes that no commit has."
    elif subprocess.run(ancestor, capture_output=True, check=False).returncode:
        yield f"commit {run.commit!r} is not in the history of this checkout."
    if run.stale:
        yield "stale, as code that it rests on has changed since."


def why_not_kept(rows: pd.DataFrame, planned: int = 0) -> str | None:
    """Why the rows of a benchmark are not taken, None if they are: what pages quote of them has intervals.

    planned: how many rows it should have at least.
    """
    if len(rows) < planned:
        return f"{planned - len(rows)} rows have no visit, so give it more --minutes"
    if rows["busy"].notna().any():
        return "other processes kept the machine busy"
    of_both = rows[rows["implementation"].isin([*names(), BASELINE])]
    wrong = of_both["status"].isin(WRONG).sum()
    if wrong:  # what is quoted would be that of the next best
        return f"{wrong} rows of ours or of {BASELINE} went wrong"
    ours = fastest(ranked(rows))["visits"]
    baseline = rows["visits"][rows["implementation"] == BASELINE]
    few = (ours < FEWEST).sum() + (baseline < FEWEST).sum()
    if few:
        return f"{few} rows of our fastest or of {BASELINE} have fewer than {FEWEST} visits, so give it more --minutes"
    return None


def failures(run: Run) -> Iterator[str]:
    """What is wrong with rows."""
    tables, wrong = run.tables, dict[str, int]()
    if run.name == "verify":
        wrong["comparisons failed"] = (tables["verify"]["verdict"] == Verdict.FAIL).sum()
        wrong["faults were not found"] = (tables["faults"]["verdict"] == Verdict.SURVIVED).sum()
        wrong["capabilities failed"] = (tables["capabilities"]["outcome"] == Verdict.FAIL).sum()
    else:
        timed = run.rows[run.rows["status"] == Status.OK]
        fast = (timed["bound"] == "compute") & (timed["share"] > MOST)
        wrong["rows multiply faster than this machine can"] = fast.sum()
        reason = why_not_kept(run.rows)
        if reason:
            yield f"{reason}."
    yield from (f"{count} {what}." for what, count in wrong.items() if count)


def private(folder: Path, run: Run) -> Iterator[str]:
    """Which files hold a path or the name of this host."""
    host = platform.node().partition(".")[0]  # without its domain
    for file in (f"{run.name}.json", *(f"{table}.csv" for table in run.tables)):
        content = (folder / file).read_text(encoding="utf-8")
        shown = PRIVATE.search(content)
        if host not in ("", "localhost") and shown is None:
            shown = re.search(rf"\b{re.escape(host)}\b", content, re.IGNORECASE)
        if shown:
            yield f"expected no path and no name of a host in {file}, got {shown[0]!r}."


def report(folder: Path) -> int:
    """Print whether a folder can be taken, and how many rows are marked on its page; return the exit status."""
    sentences = list(problems(folder))
    print("\n".join(sentences) or f"{folder} can be handed in.")
    run = read(folder, "bench")
    few = 0 if run is None else (run.rows["visits"] < FEWEST).sum()
    if few and not sentences:
        print(f"{few} rows of others have fewer than {FEWEST} visits; the page marks them as *few visits*.")
    return int(bool(sentences))
