"""`nox -s compare`: what became slower or faster.

    nox -s compare -- OLD NEW                  two results: rows that differ by more than 20 %
    nox -s compare -- --base REV               times this code and a revision, in 5 minutes
    nox -s compare -- --base REV --workload medium --implementation batched deferred --minutes 2

With `--base`, visits of the two revisions alternate: the interval of the quotients of neighbouring visits excludes 1,
and 1 of 20 comparisons of equal code has such a row. On a shared host, OLD and NEW of equal code differ by up to 20 %,
which is taken for no change. A row that is slower by more than the threshold, or whose peak memory rose by more, is a
*regression*; a figure that NEW lacks is *missing*. The command exits 1 on either, but for a time-out.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from suite.candidates import submission
from suite.candidates.names import BASELINE
from suite.measure import choice
from suite.measure.runner import Revision, run
from suite.measure.server import Server, new_log
from suite.measure.visit import call_once
from suite.pages import text
from suite.pages.bench import figure
from suite.results.columns import KEYS, PLACE
from suite.results.format import heading, ratio_text
from suite.results.run import Run, folder_for, frame, read
from suite.results.statistics import COVERAGE, FEWEST, between, pooled_variance
from suite.results.status import Status
from suite.shared import machine
from suite.shared.devices import DeviceType
from suite.shared.files import ROOT, ResultsError, path_of

#: Ratios change by up to this share between two runs of equal code on a shared host, whose state lasts longer than a
#: run, so that no interval within a run shows it.
RUN_TO_RUN = 0.2


def merged(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Rows of two results of the same key, those of the old one with the suffix `_old`; others lack the new figures."""
    both: pd.DataFrame = new.merge(old, how="right", on=list(KEYS["bench"]), suffixes=("", "_old"))
    return both


def apart(both: pd.DataFrame) -> pd.DataFrame:
    """Rows with the quotient of their ratios as `change`, and as `differs` whether that is more than chance.

    Their intervals do not overlap, and they are further apart than two runs of equal code.
    """
    above = both["ratio_low"] > both["ratio_high_old"]
    below = both["ratio_high"] < both["ratio_low_old"]
    change = both["ratio"] / both["ratio_old"]
    beyond = np.log(change).abs() > np.log1p(RUN_TO_RUN)
    return both.assign(differs=(above | below) & beyond, change=change)


def alternated(both: pd.DataFrame) -> pd.DataFrame:
    """The same of two revisions whose visits alternated, by the quotients of neighbouring visits' times."""
    every = list[list[float]]()
    for new, old in zip(both["median_s_visits"], both["median_s_visits_old"], strict=True):
        every.append([a / b for a, b in zip(new, old, strict=False)] if isinstance(new, tuple) else [])
    coverage = 1 - (1 - COVERAGE) / max(1, sum(len(quotients) >= FEWEST for quotients in every))
    pooled = pooled_variance(every)
    none = (np.nan, np.nan, np.nan)
    changes = [between(quotients, pooled, coverage) if quotients else none for quotients in every]
    return both.assign(
        differs=[low > 1 or high < 1 for _, low, high in changes], change=[change for change, _, _ in changes]
    )


def judged(both: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Rows with a verdict; threshold: a share."""
    had, has = both["status_old"] == Status.OK, both["status"] == Status.OK
    memory = (both["peak_bytes"] / both["peak_bytes_old"]).where(had & has & (both["peak_bytes_old"] > 0))
    differs = both["differs"] & had & has & (both["implementation"] != BASELINE)
    verdicts = {  # the first that holds
        "missing": had & ~has,
        "regression": (memory > 1 + threshold) | (differs & (both["change"] > 1 + threshold)),
        "slower": differs & (both["change"] > 1),
        "faster": differs & (both["change"] < 1),
    }
    return both.assign(memory=memory, verdict=np.select(list(verdicts.values()), list(verdicts), "same"))


def shown(changes: pd.DataFrame) -> int:
    """Show the rows that changed; return 1 if one got worse, or lacks its figure for a reason other than a time-out."""
    for _, rows in changes[changes["verdict"] != "same"].groupby(list(PLACE), sort=False):
        lines = []
        for _, row in rows.iterrows():
            line = {
                "implementation": row["implementation"],
                "pass": row["pass"],
                "old / LSTM": figure(row["ratio_old"], ratio_text),
                "new / LSTM": figure(row["ratio"], ratio_text),
                "time": figure(row["change"] - 1, "{:+.1%}".format),
                "memory": figure(row["memory"] - 1, "{:+.1%}".format),
                "verdict": row["verdict"],
            }
            lines.append(line)
        text.show(text.table_of(lines), heading(rows.iloc[0]))
    counts = ", ".join(f"{n} {verdict}" for verdict, n in changes["verdict"].value_counts().items())
    print(f"\n{counts or 'no rows'}.")
    missing = (changes["verdict"] == "missing") & (changes["status"] != Status.TIME_OUT)
    return int((missing | (changes["verdict"] == "regression")).any())


def read_results(path: Path) -> Run:
    """The benchmark of a folder, or beside its bench.csv."""
    folder = path.parent if path.is_file() else path
    result = read(folder, "bench")
    if result is None:
        raise ResultsError(f"{folder}: expected a folder with a bench.json and a bench.csv.")
    return result


def results_compared(options: argparse.Namespace) -> int:
    """Show how two results differ."""
    old, new = read_results(options.old), read_results(options.new)
    about = ("processor", "threads", "torch", "python")
    unlike = [name for name in about if getattr(old, name) != getattr(new, name)]
    if unlike:
        print(f"The results differ in {', '.join(unlike)}.")
    return shown(judged(apart(merged(old.rows, new.rows)), options.threshold / 100))


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


def revisions_compared(options: argparse.Namespace) -> int:
    """Time a revision and this one in alternating visits, and show how they differ."""
    device = options.device
    dtypes = options.dtype or ["float32"]
    names = options.implementation or choice.taken_by_auto(device, dtypes[:1])
    if not names:
        raise SystemExit(f"--device: no implementation runs on {device} in {dtypes[0]}")
    every = choice.jobs(argparse.Namespace(**vars(options) | {"implementation": names, "dtype": dtypes}))
    jobs = [job for job in every if job.candidate in names]  # without the baselines beside them
    log = new_log(folder_for(submission.results_of(options.results), device, whole=False).with_suffix(".txt"))
    with tempfile.TemporaryDirectory() as folder, checkout(options.base, Path(folder)) as tree:
        old_server = Server(log, Path(folder, "old"), tree, DeviceType(device.type))
        new_server = Server(log, Path(folder, "new"), None, DeviceType(device.type))
        old, new = Revision(old_server), Revision(new_server)
        with old_server, new_server:
            for job, server in product(jobs, (old_server, new_server)):
                server.visit(job, call_once)
            run([old, new], jobs, until=time.time() + 60 * options.minutes)
    both = merged(frame("bench", old.summary()), frame("bench", new.summary()))
    if both[["ratio_low", "ratio_low_old"]].isna().any(axis=1).all():
        print(f"No time was judged, which takes {FEWEST} visits of a row: more --minutes, or a quiet machine.")
        return 1
    return shown(judged(alternated(both), options.threshold / 100))


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(
        "nox -s compare --", description=__doc__, formatter_class=raw, parents=[choice.parent()]
    )
    result.set_defaults(size=[], sweep=None)
    add = result.add_argument
    add("old", type=path_of, nargs="?", help="a folder with a bench.csv, or this file")
    add("new", type=path_of, nargs="?", help="a folder with a bench.csv, or this file")
    add("--threshold", type=choice.amount, default=10, help="per cent that a ratio may rise; default: 10")
    add("--base", metavar="REV", help="a revision to time in alternation with this checkout, instead of OLD and NEW")
    add("--minutes", type=choice.amount, default=5, help="of --base; default: 5")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison."""
    commands = parser()
    options = commands.parse_args(arguments)
    named = (options.old is not None, options.new is not None, options.base is not None)
    if named not in ((True, True, False), (False, False, True)):
        commands.error("expected OLD and NEW, or --base REV")
    if options.base is None:
        return results_compared(options)
    reason = machine.why_missing(options.device)
    if reason:
        commands.error(reason)
    return revisions_compared(options)


if __name__ == "__main__":
    sys.exit(main())
