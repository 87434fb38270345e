"""`nox -s compare`: what is slower or faster, by more than the same code differs from run to run.

    nox -s compare -- results/<machine> other/<machine>       two results: folders, or files bench.csv
    nox -s compare -- OLD NEW --threshold 5                   more than 5 % slower is a regression
    nox -s compare -- --base REV                              times this code and a revision, in 5 minutes
    nox -s compare -- --base REV --workload medium --implementation batched deferred --minutes 2
    nox -s compare -- --base-of-results               the newest revision with figures under results/, as --base

*slower*, *faster*: the intervals of two results do not overlap, and their ratios to `torch.nn.LSTM` differ by more than
20 %. With `--base`, visits of the two revisions alternate, which shows smaller changes: the interval of the quotients
of neighbouring visits excludes 1, and 1 of 20 comparisons of equal code has such a row. *regression*: slower by more
than the threshold, or a peak memory that rose by more. *missing*: NEW lacks the figure. *not comparable*: the baseline,
a row without a figure in OLD or with fewer than three visits, or any time if the results are of two machines, or if
`torch.nn.LSTM` itself drifted by more than 15 %.
The command exits 1 on a regression, or if a figure is missing for a reason other than a time-out.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from suite.candidates import submission
from suite.candidates.names import BASELINE
from suite.cases.workloads import WORKLOADS
from suite.measure import choice
from suite.measure.runner import Side, run
from suite.measure.server import Server, new_log
from suite.pages.benchmark import Setting, heading
from suite.pages.page import Column, NoFigure, Sheet
from suite.results import provenance
from suite.results.format import ENVIRONMENT, SOFTWARE, ratio_text
from suite.results.names import TableName
from suite.results.statistics import COVERAGE, FEWEST, between, pooled_variance
from suite.results.status import Status
from suite.results.tables import TABLES, Row, folder_of
from suite.shared import machine
from suite.shared.devices import DeviceType
from suite.shared.files import ROOT, ResultsError, path_of


class Change(StrEnum):
    """How a row of two results changed, the column `verdict`."""

    REGRESSION = "regression"
    SLOWER = "slower"
    FASTER = "faster"
    SAME = "same"
    #: The new result lacks the figure.
    MISSING = "missing"
    NOT_COMPARABLE = "not comparable"


#: Of a time that differs.
DIFFERENT = (Change.REGRESSION, Change.SLOWER, Change.FASTER)
#: Of a time that was judged.
JUDGED = (Change.SAME, *DIFFERENT)
#: Columns that say on which machine a row was made.
MACHINE = ("device", "processor", "cpu_capability", "threads")
#: Ratios of candidates in Python change by up to this share between two runs of the same code on a shared host, whose
#: state lasts longer than a run, so that no interval within a run shows it.
RUN_TO_RUN = 0.2
#: If the baseline's own times drifted by more than this share, the host was in another state during a whole run: with a
#: drift of 24 %, ratios of candidates in Python changed by up to 60 %.
MAX_BASELINE_DRIFT = 0.15


def load(path: Path) -> pd.DataFrame:
    """Benchmark rows of a file, or of the bench.csv in a folder; ResultsError if there are none."""
    rows = TABLES[TableName.BENCH].read(path)
    if rows.empty:
        raise ResultsError(f"{path}: expected a bench.csv or a folder with one, got no rows.")
    return rows


def why_no_times(old: pd.DataFrame, new: pd.DataFrame) -> str | None:
    """Sentence that says why times of two results must not be judged: two machines, or two states of one; else None."""
    unlike = differing(old, new, MACHINE)
    if unlike:
        return f"The results are of machines that differ in {', '.join(unlike)}, so no time is judged."
    both = new.merge(old, on=list(TABLES[TableName.BENCH].key), suffixes=("", "_old"))
    drift = float((both["baseline_s"] / both["baseline_s_old"]).median())  # NaN if they share no row
    if abs(np.log(drift)) > np.log1p(MAX_BASELINE_DRIFT):
        return f"{BASELINE} itself took {drift:.2f} times as long: the host or its state differs, so no time is judged."
    return None


def differing(old: pd.DataFrame, new: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Columns in which both results have values, and not the same."""
    unlike = []
    for column in columns:
        old_values = {*old[column].dropna()} - {""}
        new_values = {*new[column].dropna()} - {""}
        if old_values and new_values and old_values != new_values:
            unlike.append(column)
    return unlike


def compared(old: pd.DataFrame, new: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """A line for each row of the old result.

    A change of the peak memory always counts, as it has hardly any noise. Above the threshold, a share, a rise of
    either is a regression.
    """
    both = new.merge(old, how="right", on=list(TABLES[TableName.BENCH].key), suffixes=("", "_old"))
    above = both["ratio_low"] > both["ratio_high_old"]
    below = both["ratio_high"] < both["ratio_low_old"]
    change = both["ratio"] / both["ratio_old"]
    beyond = np.log(change).abs() > np.log1p(RUN_TO_RUN)
    both = both.assign(differs=(above | below) & beyond, change=change)
    return judged(both, threshold, times=not why_no_times(old, new))


def alternated(old: pd.DataFrame, new: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """A line for each row of two revisions whose visits alternated, as `compared`.

    The change is of the quotients of neighbouring visits' times, which vary less than those of their ratios.
    """
    both = new.merge(old, how="right", on=list(TABLES[TableName.BENCH].key), suffixes=("", "_old"))
    every = list[list[float]]()
    for new_visits, old_visits in zip(both["median_s_visits"], both["median_s_visits_old"], strict=True):
        quotients = list[float]()
        if isinstance(new_visits, tuple):  # NaN where the new revision lacks the row
            quotients = [new_s / old_s for new_s, old_s in zip(new_visits, old_visits, strict=False)]
        every.append(quotients)
    known = sum(len(quotients) >= FEWEST for quotients in every)
    coverage = 1 - (1 - COVERAGE) / max(1, known)
    pooled = pooled_variance(every)
    differs = list[bool]()
    change = list[float]()
    for quotients in every:
        ratio, low, high = between(quotients, pooled, coverage) if quotients else (np.nan, np.nan, np.nan)
        differs.append(low > 1 or high < 1)
        change.append(ratio)
    return judged(both.assign(differs=differs, change=change), threshold)


def judged(both: pd.DataFrame, threshold: float, *, times: bool = True) -> pd.DataFrame:
    """Lines of rows of two results. times: judge times, by the columns `differs` and `change` (a quotient)."""
    had = both["status_old"] == Status.OK
    has = both["status"] == Status.OK
    time_ = both["change"].where(had & has)
    memory = both["peak_bytes"] / both["peak_bytes_old"]
    memory = memory.where(had & has & (both["peak_bytes_old"] > 0))
    have_intervals = both[["ratio_low", "ratio_low_old"]].notna().all(axis=1)
    judges = times & have_intervals & (both["implementation"] != BASELINE)
    differs = judges & both["differs"]
    verdicts = {  # the first that holds
        Change.MISSING: had & ~has,
        Change.REGRESSION: (memory > 1 + threshold) | (differs & (time_ > 1 + threshold)),
        Change.NOT_COMPARABLE: ~had | ~judges,
        Change.SLOWER: differs & (time_ > 1),
        Change.FASTER: differs & (time_ < 1),
    }
    lines: pd.DataFrame = both[[*TABLES[TableName.BENCH].place, "implementation", "pass"]].copy()
    lines["old"] = both["ratio_old"].astype(object).where(had, both["status_old"].map(NoFigure))
    lines["new"] = both["ratio"].astype(object).where(has, both["status"].fillna("absent").map(NoFigure))
    lines["time"] = time_ - 1
    lines["memory"] = memory - 1
    lines["status"] = both["status"]
    lines["verdict"] = np.select(list(verdicts.values()), list(verdicts), Change.SAME)
    return lines


def failed(changes: pd.DataFrame) -> bool:
    """True if a row got worse, or lacks its figure for a reason other than a time-out."""
    missing = (changes["verdict"] == Change.MISSING) & (changes["status"] != Status.TIME_OUT)
    return bool((missing | (changes["verdict"] == Change.REGRESSION)).any())


def show(changes: pd.DataFrame) -> None:
    change = "{:+.1%}".format
    columns = {
        "implementation": Column("implementation"),
        "pass": Column("pass"),
        "old": Column("old / LSTM", ratio_text),
        "new": Column("new / LSTM", ratio_text),
        "time": Column("time", change),
        "memory": Column("memory", change),
        "verdict": Column("verdict"),
    }
    for _, lines in changes.groupby(TABLES[TableName.BENCH].place, sort=False):
        Sheet.of_rows(columns, lines).show(heading(lines.iloc[0]))
    print()


def counts(changes: pd.DataFrame) -> str:
    """How many lines have which verdict, such as "22 same, 1 slower"."""
    return ", ".join(f"{n} {verdict}" for verdict, n in changes["verdict"].value_counts().items())


def results_compared(options: argparse.Namespace) -> int:
    """Show how two results differ; return 1 on a regression, or on a figure that the new one lacks."""
    old = load(options.old)
    new = load(options.new)
    changes = compared(old, new, options.threshold / 100)
    show(changes)
    others = [column for column in (*ENVIRONMENT, *SOFTWARE) if column not in MACHINE]
    unlike = differing(old, new, others)
    if unlike:
        print(f"The results also differ in {', '.join(unlike)}.")
    sentence = why_no_times(old, new)
    if sentence:
        print(f"{sentence} --base REV times two revisions on this machine in one run.")
    print(f"{counts(changes)}.")
    return int(failed(changes))


def same_twice(folder: Path, old: pd.DataFrame, new: Sequence[Row], device: torch.device) -> None:
    """Compare a run with earlier rows of the same code, and put the number that differ into the results."""
    if old.empty or not new:
        return
    rows = TABLES[TableName.BENCH].filled(pd.DataFrame(new))
    sentence = why_no_times(old, rows)
    if sentence:
        print(f"\nThe same code twice: {sentence}")
        return
    changes = compared(old, rows, threshold=np.inf)
    changes = changes[changes["verdict"].isin(JUDGED)]
    if changes.empty:
        return
    twice = list[Row]()
    for _, of_setting in changes.groupby(TABLES[TableName.BENCH].setting, sort=False):
        differ = int(of_setting["verdict"].isin(DIFFERENT).sum())
        about = Setting.of(of_setting.iloc[0])._asdict()
        twice.append({**about, "rows": len(of_setting), "differ": differ, "largest": of_setting["time"].abs().max()})
    TABLES[TableName.TWICE].put(folder, twice, device)
    differ = sum(row["differ"] for row in twice)
    print(f"\nThe same code twice: {differ} of {len(changes)} rows differ from those of the last run.")


@contextmanager
def checkout(revision: str, scratch: Path) -> Iterator[Path]:
    """A checkout of a revision in a folder of `scratch`; ResultsError if git does not know it."""
    tree = scratch / "worktree"
    worktree = ["git", "-C", str(ROOT), "worktree"]
    added = subprocess.run(
        [*worktree, "add", "--detach", str(tree), revision], capture_output=True, text=True, check=False
    )
    if added.returncode:
        raise ResultsError(f"--base: {added.stderr.strip().splitlines()[-1]}")
    try:
        yield tree
    finally:
        subprocess.run([*worktree, "remove", "--force", str(tree)], capture_output=True, check=False)


def _git(root: Path, *arguments: str) -> list[str] | None:
    """Lines that git prints in a checkout; None if it fails, as outside one."""
    try:
        ran = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return ran.stdout.splitlines()


class NotCompared(NamedTuple):
    """Why there is no revision to compare with, in a sentence."""

    why: str


def base_of_results(names: Sequence[str], root: Path = ROOT) -> str | NotCompared:
    """The newest revision with figures of one of these implementations.

    It is the commit that the rows under results/ name, not the one that added them: only the first was measured. So a
    slowdown that is meant comes with new results, and what is compared from then on is that code. A commit of other
    code is not in the history, and code with changes is that of no commit.
    """
    about = ", ".join(names)
    # Abbreviated as rows name them, see `provenance.commit`.
    history = _git(root, "rev-list", "--abbrev-commit", f"--abbrev={provenance.DIGITS}", "HEAD")
    if history is None:
        return NotCompared(f"Not compared: {root} is no checkout of git, which has the code of the results.")
    measured = set[str]()
    for folder in sorted(root.glob("results/*/")):
        rows = TABLES[TableName.BENCH].read(folder)
        if not rows.empty:
            timed = rows[(rows["status"] == Status.OK) & rows["implementation"].isin(names)]
            measured.update(timed["commit"][~timed["dirty"]])
    base = next((commit for commit in history if commit in measured), None)
    if base is None:
        return NotCompared(f"Not compared: no figures of {about} under results/ name a commit in this one's history.")
    if _git(root, "diff", "--quiet", base, "--", "impls") is not None:
        newest = f"{base}, the newest commit with figures of {about} under results/"
        return NotCompared(f"Not compared: impls/ is that of {newest}.")
    return base


def revisions_compared(options: argparse.Namespace) -> int:
    """Time a revision and this one in alternating visits, and show how they differ; return 1 on a regression."""
    device = options.device
    names = options.implementation or choice.fastest_of(device, options.dtype[:1])
    if not names:
        raise SystemExit(f"--device: no implementation runs on {device} in {options.dtype[0]}")
    if options.base_of_results:
        base = base_of_results(names)
        if isinstance(base, NotCompared):
            print(base.why)
            return 0
        options.base = base
        print(f"{options.base} is the newest commit with figures of {', '.join(names)} under results/.")
    jobs = choice.jobs(argparse.Namespace(**vars(options) | {"implementation": names}))
    log = new_log(folder_of(submission.results_of(options.results), device), "compare.txt")
    with tempfile.TemporaryDirectory() as folder, checkout(options.base, Path(folder)) as tree:
        old_server = Server(log, Path(folder, "old"), tree, DeviceType(device.type))
        new_server = Server(log, Path(folder, "new"), None, DeviceType(device.type))
        old = Side(old_server)
        new = Side(new_server)
        with old_server, new_server:
            for job, server in product(jobs, (old_server, new_server)):
                server.visit(replace(job, measurement="compile"), [])
            run([old, new], jobs, until=time.time() + 60 * options.minutes)
    before = TABLES[TableName.BENCH].filled(pd.DataFrame(old.summary()))
    after = TABLES[TableName.BENCH].filled(pd.DataFrame(new.summary()))
    changes = alternated(before, after, options.threshold / 100)
    show(changes)
    print(f"{options.base} is old, this checkout is new. {counts(changes)}.")
    no_time = not changes["verdict"].isin(JUDGED).any()
    if no_time:
        print(
            f"No time was judged, which takes {FEWEST} visits of a row: more --minutes, or a machine that is not busy."
        )
    # A check that judges nothing is not passed. Of a revision that is named, a few visits may be what was wanted.
    return int(failed(changes) or (no_time and options.base_of_results))


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(
        "nox -s compare --", description=__doc__, formatter_class=raw, parents=[choice.parent()]
    )
    result.set_defaults(size=[], sweep=None)
    add = result.add_argument
    add("old", type=path_of, nargs="?", help="bench.csv, or a folder with one")
    add("new", type=path_of, nargs="?", help="bench.csv, or a folder with one")
    add("--threshold", type=choice.amount, default=10, help="per cent that a ratio may rise; default: 10")
    add("--base", metavar="REV", help="a revision to time in alternation with this checkout, instead of OLD and NEW")
    add("--base-of-results", action="store_true", help="as --base, the newest revision with figures under results/")
    add("--workload", nargs="+", choices=WORKLOADS, help="of --base; default: those of a benchmark")
    add("--minutes", type=choice.amount, default=5, help="of --base; default: 5")
    add("--full", action="store_true", help="of --base: the paper's T and B, which a run without a GPU shortens")
    return result


def takes_revisions(options: argparse.Namespace) -> bool:
    """True if options ask for revisions, False if they name two results; ValueError unless it is one of these."""
    revisions = options.base_of_results or options.base is not None
    wrong = options.old is not None if revisions else options.new is None
    if wrong:
        raise ValueError("expected OLD and NEW, or --base REV")
    return revisions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison."""
    commands = parser()
    options = commands.parse_args(arguments)
    try:
        revisions = takes_revisions(options)
    except ValueError as error:
        commands.error(str(error))
    if not revisions:
        return results_compared(options)
    reason = machine.why_missing(options.device)
    if reason:
        commands.error(reason)
    return revisions_compared(options)


if __name__ == "__main__":
    sys.exit(main())
