"""`nox -s compare`: what is slower or faster, beyond what the same code shows from run to run.

    nox -s compare -- results/<machine> other/<machine>       two results: folders, or files bench.csv
    nox -s compare -- OLD NEW --threshold 5 --partial         more than 5 % slower is a regression; NEW may lack rows
    nox -s compare -- --base REV                              times this code and that of a revision, in 5 minutes
    nox -s compare -- --base REV --workload medium --implementation batched deferred --minutes 2

A line is printed for each row that both have, under a heading per workload:

    implementation   pass    old / LSTM   new / LSTM   time     memory   verdict
    batched_cpu      train   1.33         1.53         +15.0%   +0.0%    REGRESSION

Of two results, a time differs if the intervals of the two do not overlap and the ratios to `torch.nn.LSTM` differ by
more than 20 % and the noise floor of either: a host in another state during the second run changes them by as much. If
the times of `torch.nn.LSTM` itself moved by more than 15 %, no time is judged. For less, `--base` alternates visits of
both revisions: a time differs if the interval of the quotients of neighbouring visits excludes 1, with a confidence at
which 1 of 20 comparisons of equal code has such rows.
The command exits 1 if there is a regression of time or of peak memory, if NEW lacks rows of OLD, or if it lacks a
figure for a reason other than a time-out.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from suite.measure import choice, revision
from suite.measure.options import fastest, parent
from suite.measure.progress import shown
from suite.measure.runner import Side, passes
from suite.measure.server import Server
from suite.pages.bench_tables import figure
from suite.pages.sheets import Format, Sheet
from suite.shared.cases import BASELINE, WORKLOADS
from suite.shared.files import ROOT, ResultsError, make_folder
from suite.shared.format import two
from suite.shared.process import Row
from suite.shared.statistics import COVERAGE, FEWEST, Interval, between, noise_floor, numbers, variance, with_intervals
from suite.shared.tables import BUSY, STAMP, TABLES, folder_of

#: What two results must have in common for a change to be due to the code.
SAME = ("device", "processor", "cpu_capability", "threads", "torch")
#: Columns of a heading.
PLACE = ["workload", "T", "B", "dtype", "layer_norm"]
#: Verdicts that fail the comparison, and those on a time that differs.
BAD, DIFFERENT = ("REGRESSION", "LOST"), ("REGRESSION", "slower", "faster")
#: Between two runs of the same code on a shared host, ratios of what runs in Python moved by up to this share: a state
#: of the host lasts longer than a run, so that no interval within a run has it.
HOST = 0.2
#: If the baseline's own times moved by more than this share, the host was in another state during all of a run: ratios
#: of what runs in Python moved by up to 60 % where those of the baseline moved by 24 %.
STATE = 0.15
#: Share of rows of the same code whose intervals do not overlap: two of 95 % seldom miss each other.
CHANCE = 0.005

FORMATS: Mapping[str, Format] = dict.fromkeys(("old / LSTM", "new / LSTM"), two) | dict.fromkeys(
    ("time", "memory"), "{:+.1%}".format
)


def load(path: Path) -> pd.DataFrame:
    """Benchmark rows of a file, or of the bench.csv in a folder; ResultsError if there are none."""
    rows = TABLES["bench"].load(path / "bench.csv" if path.is_dir() else path)
    if rows.empty:
        raise ResultsError(f"{path}: expected a bench.csv or a folder with one, got no rows.")
    return rows


def floors(rows: pd.DataFrame) -> pd.Series:
    """Noise floor of each row: that of the baseline on its workload, 0 if it was not timed against itself."""
    where, twins = ["dtype", "workload", "T", "B", "pass"], rows[rows["implementation"] == BASELINE]
    baselines = twins[where].assign(floor=[noise_floor(figure(row).ratio) for _, row in twins.iterrows()])
    floor: pd.Series = rows[where].merge(baselines, how="left")["floor"].fillna(0.0).astype(float).set_axis(rows.index)
    return floor


def baseline_moved(old: pd.DataFrame, new: pd.DataFrame) -> float:
    """Quotient of the baseline's times of two results, the median over what both have; 1 if they share nothing."""
    both = new.merge(old, on=list(TABLES["bench"].key), suffixes=("", "_old"))
    quotient = float((both["baseline_s"] / both["baseline_s_old"]).median())
    return quotient if quotient == quotient else 1.0


def one_state(moved: float) -> bool:
    """True if the host was in the same state in both results, by how the baseline's times moved."""
    return bool(abs(np.log(moved)) <= np.log1p(STATE))


def compared(old: pd.DataFrame, new: pd.DataFrame, threshold: float, moved: float = 1.0) -> pd.DataFrame:
    """A line for each row that both results have, without rows that other processes slowed.

    A change of the peak memory always counts, as it has hardly any noise. Above the threshold, a share, a rise of
    either is a regression. moved: `baseline_moved` of the two.
    """
    both = new.assign(floor=floors(new)).merge(
        old.assign(floor=floors(old)), on=list(TABLES["bench"].key), suffixes=("", "_old")
    )
    apart = (both["ratio_low"] > both["ratio_high_old"]) | (both["ratio_high"] < both["ratio_low_old"])
    floor = both[["floor", "floor_old"]].max(axis=1).clip(lower=HOST)
    beyond = np.log(both["ratio"] / both["ratio_old"]).abs() > np.log1p(floor)
    both = both.assign(differs=apart & beyond, change=both["ratio"] / both["ratio_old"])
    return judged(both, threshold, times=one_state(moved))


def alternated(old: pd.DataFrame, new: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """A line for each row of two revisions whose visits alternated, as `compared`.

    The change is of the quotients of neighbouring visits' times, which vary less than those of their ratios.
    """
    both = new.merge(old, on=list(TABLES["bench"].key), suffixes=("", "_old"))
    visits = both[["median_s_visits", "median_s_visits_old"]].map(numbers).to_numpy()
    pairs = [[one / other for one, other in zip(*pair, strict=False)] for pair in visits]
    coverage = 1 - (1 - COVERAGE) / max(1, sum(len(quotients) >= FEWEST for quotients in pairs))
    usual = variance(pairs)
    intervals = [between(each, usual, coverage) if each else Interval(*[np.nan] * 3) for each in pairs]
    differs = [interval.ratio_low > 1 or interval.ratio_high < 1 for interval in intervals]
    return judged(both.assign(differs=differs, change=[each.ratio for each in intervals]), threshold)


def judged(both: pd.DataFrame, threshold: float, *, times: bool = True) -> pd.DataFrame:
    """Lines of rows of two results; differs: whether the time does; change: of it, a quotient. times: judge them."""
    both = both[~(both[["taken_cores", "taken_cores_old"]] > BUSY).any(axis=1)]
    was, is_, twin = both["status_old"] == "ok", both["status"] == "ok", both["implementation"] == BASELINE
    time_ = both["change"].where(was & is_)
    memory = (both["peak_bytes"] / both["peak_bytes_old"]).where(was & is_ & (both["peak_bytes_old"] > 0))
    verdicts = {  # the first that holds
        "no time": was & both["status"].str.startswith("time-out"),
        "LOST": was & ~is_,
        "REGRESSION": (memory > 1 + threshold) | (times & both["differs"] & (time_ > 1 + threshold) & ~twin),
        "gained": is_ & ~was,
        "A/A run": was & is_ & twin,
        "no figure": ~was & ~is_,
        "one visit": both[["ratio_low", "ratio_low_old"]].isna().any(axis=1),
        "other host": pd.Series(not times, both.index),
        "slower": both["differs"] & (time_ > 1),
        "faster": both["differs"] & (time_ < 1),
    }
    lines: pd.DataFrame = both[[*PLACE, "implementation", "pass"]].copy()
    lines["old / LSTM"] = both["ratio_old"].astype(object).where(was, both["status_old"].str.split(":").str[0])
    lines["new / LSTM"] = both["ratio"].astype(object).where(is_, both["status"].str.split(":").str[0])
    lines["time"], lines["memory"] = time_ - 1, memory - 1
    lines["verdict"] = np.select(list(verdicts.values()), list(verdicts), "same")
    return lines


def show(changes: pd.DataFrame) -> None:
    for _, part in changes.groupby(PLACE, sort=False):
        title = "{workload}, T {T}, B {B}, {dtype}, layer norm {layer_norm}".format_map(part.iloc[0])
        Sheet(part.drop(columns=PLACE).to_dict("records"), FORMATS).show(title)
    print()


def verdicts(changes: pd.DataFrame) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in changes["verdict"].value_counts().items())


def results_compared(options: argparse.Namespace) -> int:
    """Show how two results differ; return 1 on a regression, or on a figure or row that the new one lacks."""
    old, new = load(options.old), load(options.new)
    moved = baseline_moved(old, new)
    changes = compared(old, new, options.threshold / 100, moved)
    if changes.empty:
        raise ResultsError(f"{options.old} and {options.new} have no row in common.")
    show(changes)
    if unlike := [column for column in SAME if {*old[column].astype(str)} != {*new[column].astype(str)}]:
        print(f"The results also differ in {', '.join(unlike)}.")
    if not one_state(moved):
        print(
            f"{BASELINE} itself took {moved:.2f} times as long: the host was in another state, or is another, "
            "and no time is judged. --base REV times both in one."
        )
    key = list(TABLES["bench"].key)
    lost = len(old) - len(old.merge(new[key], on=key))
    if lost:
        print(
            f"{lost} of {len(old)} old rows have no counterpart{'' if options.partial else ', which --partial allows'}."
        )
    print(f"{verdicts(changes)}. Chance alone makes {CHANCE * len(changes):.1f} of {len(changes)} rows differ.")
    return int(changes["verdict"].isin(BAD).any() or (lost > 0 and not options.partial))


def same_twice(folder: Path, old: pd.DataFrame, new: Sequence[Row], device: torch.device) -> None:
    """Compare rows of a run with those that the same code left before, and keep how many differ, by workload."""
    if old.empty or not new:
        return
    rows = pd.DataFrame(new).reindex(columns=[*TABLES["bench"].columns, *STAMP])
    before = old.reindex(columns=rows.columns)
    if not one_state(moved := baseline_moved(before, rows)):
        print(f"\nThe same code before: not compared, as {BASELINE} itself takes {moved:.2f} times as long now.")
        return
    changes = compared(before, rows, threshold=np.inf)
    changes = changes[changes["verdict"].isin(("same", *DIFFERENT))]
    if changes.empty:
        return
    changes = changes.assign(differ=changes["verdict"].isin(DIFFERENT), largest=changes["time"].abs())
    places = changes.groupby(["dtype", "workload", "T", "B"], sort=False, as_index=False)
    twice = places.agg(rows=("differ", "size"), differ=("differ", "sum"), largest=("largest", "max"))
    TABLES["twice"].put(folder, twice.to_dict("records"), device)
    print(f"\nThe same code twice: {twice['differ'].sum()} of {len(changes)} rows differ from those of the last run.")


def revisions_compared(options: argparse.Namespace) -> int:
    """Time a revision and this one in alternating visits, and show how they differ; return 1 on a regression."""
    choice.choose(options)
    named = options.implementation if options.every_candidate else [fastest(options.device, options.dtype[0])]
    options.implementation, options.every_candidate = named, True
    jobs, until = choice.jobs(options), time.time() + 60 * options.minutes
    log = make_folder(folder_of(options.results, options.device) / "raw") / "compare.txt"
    log.unlink(missing_ok=True)
    interrupted = False
    with tempfile.TemporaryDirectory() as folder, revision.checkout(options.base, scratch := Path(folder)) as base:
        folders, device = (("old", base), ("new", ROOT)), options.device.type
        servers = [Server(log, scratch / name, checkout, device) for name, checkout in folders]
        old, new = map(Side, servers)
        with servers[0], servers[1]:
            try:
                for _ in shown(passes([old, new], jobs, until), new.rows, until):
                    pass
            except KeyboardInterrupt:
                interrupted = True
    if not old.rows or not new.rows:
        print("Interrupted before the first row: nothing was compared.")
        return 130
    sides = [pd.DataFrame(with_intervals(row for rows in side.rows.values() for row in rows)) for side in (old, new)]
    every = [side.reindex(columns=list(TABLES["bench"].columns)) for side in sides]
    changes = alternated(every[0], every[1], options.threshold / 100)
    show(changes)
    print(f"{options.base} is old, this checkout is new. {verdicts(changes)}.")
    return 130 if interrupted else int(changes["verdict"].isin(BAD).any())


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser("nox -s compare --", description=__doc__, formatter_class=raw, parents=[parent()])
    add = result.add_argument
    add("old", type=Path, nargs="?", help="bench.csv, or a folder with one")
    add("new", type=Path, nargs="?", help="bench.csv, or a folder with one")
    add("--threshold", type=float, default=10, help="per cent that a ratio may rise; default: 10")
    add("--partial", action="store_true", help="NEW may lack rows that OLD has")
    add("--base", metavar="REV", help="a revision to time in alternation with this checkout, instead of OLD and NEW")
    add("--workload", nargs="+", choices=WORKLOADS, help="of --base; default: those of a benchmark")
    add("--minutes", type=float, default=5, help="of --base; default: 5")
    add("--full", action="store_true", help="of --base: the paper's T and B, which a run without a GPU shortens")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison."""
    commands = parser()
    options = commands.parse_args(arguments)
    if (options.base is None) == (options.new is None):
        commands.error("expected OLD and NEW, or --base REV")
    return results_compared(options) if options.base is None else revisions_compared(options)


if __name__ == "__main__":
    sys.exit(main())
