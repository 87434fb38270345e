"""`nox -s compare -- OLD NEW`: changes of time whose intervals do not overlap, and changes of peak memory.

    nox -s compare -- results/<machine> other/<machine>       folders, or files bench.csv
    nox -s compare -- OLD NEW --threshold 5                   a rise by more than 5 % is a regression

A line is printed for each row that both have, under a heading per workload:

    implementation   pass    old / LSTM   new / LSTM   time     memory   verdict
    batched_cpu      train   1.33         1.53         +15.0%   +0.0%    REGRESSION

Ratios are those of paired rounds to `torch.nn.LSTM`. The command exits 1 if there is a regression of time or of peak
memory, or if the new result lacks a figure for a reason other than a time-out.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from suite.pages.sheets import Format, Sheet
from suite.shared.cases import BASELINE
from suite.shared.format import two
from suite.shared.results import ResultsError
from suite.shared.rows import BUSY, STAMP, TABLES

#: What two results must have in common for a change to be due to the code.
SAME = ("device", "processor", "cpu_capability", "threads", "torch")
#: Columns of a heading.
PLACE = ["workload", "T", "B", "dtype", "layer_norm"]
#: Verdicts that fail the comparison.
BAD = ("REGRESSION", "LOST")

FORMATS: Mapping[str, Format] = dict.fromkeys(("old / LSTM", "new / LSTM"), two) | dict.fromkeys(
    ("time", "memory"), "{:+.1%}".format
)


def load(path: Path) -> pd.DataFrame:
    """Benchmark rows of a file, or of the bench.csv in a folder; ResultsError if there are none."""
    file = path / "bench.csv" if path.is_dir() else path
    if not file.is_file():
        raise ResultsError(f"{path}: expected a bench.csv or a folder with one, got nothing of the kind.")
    rows = TABLES["bench"].load(file)
    if rows.empty:
        raise ResultsError(f"{file}: expected rows, got none.")
    # A file lacks the columns that none of its rows has.
    return rows.reindex(columns=[*TABLES["bench"].columns, *STAMP])


def compared(old: pd.DataFrame, new: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """A line for each row that both results have, without rows that other processes slowed.

    A change of the ratio counts if the two intervals do not overlap; one of the peak memory always does, as it has
    hardly any noise. Above the threshold, as a share, it is a regression.
    """
    both = new.merge(old, on=list(TABLES["bench"].key), suffixes=("", "_old"))
    both = both[~(both[["taken_cores", "taken_cores_old"]] > BUSY).any(axis=1)]
    was, is_, twin = both["status_old"] == "ok", both["status"] == "ok", both["implementation"] == BASELINE
    time = (both["ratio"] / both["ratio_old"]).where(was & is_)
    memory = (both["peak_bytes"] / both["peak_bytes_old"]).where(was & is_ & (both["peak_bytes_old"] > 0))
    slower = both["ratio_low"] > both["ratio_high_old"]
    verdicts = {  # the first that holds
        "no time": was & both["status"].str.startswith("time-out"),
        "LOST": was & ~is_,
        "REGRESSION": (memory > 1 + threshold) | (slower & (time > 1 + threshold) & ~twin),
        "gained": is_ & ~was,
        "A/A run": was & is_ & twin,
        "slower": slower,
        "faster": both["ratio_high"] < both["ratio_low_old"],
    }
    lines: pd.DataFrame = both[[*PLACE, "implementation", "pass"]].copy()
    lines["old / LSTM"] = both["ratio_old"].astype(object).where(was, both["status_old"].str.split(":").str[0])
    lines["new / LSTM"] = both["ratio"].astype(object).where(is_, both["status"].str.split(":").str[0])
    lines["time"], lines["memory"] = time - 1, memory - 1
    lines["verdict"] = np.select(list(verdicts.values()), list(verdicts), "same")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the comparison; return 1 on a regression or a lost figure."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("nox -s compare --", description=__doc__, formatter_class=raw)
    parser.add_argument("old", type=Path, help="bench.csv, or a folder with one")
    parser.add_argument("new", type=Path, help="bench.csv, or a folder with one")
    parser.add_argument("--threshold", type=float, default=10, help="per cent that a ratio may rise; default: 10")
    options = parser.parse_args(arguments)
    old, new = load(options.old), load(options.new)
    changes = compared(old, new, options.threshold / 100)
    if changes.empty:
        raise ResultsError(f"{options.old} and {options.new} have no row in common.")
    for _, part in changes.groupby(PLACE, sort=False):
        title = "{workload}, T {T}, B {B}, {dtype}, layer norm {layer_norm}".format_map(part.iloc[0])
        Sheet(part.drop(columns=PLACE).to_dict("records"), FORMATS).show(title)
        print()
    if unlike := [column for column in SAME if {*old[column].astype(str)} != {*new[column].astype(str)}]:
        print(f"The results also differ in {', '.join(unlike)}.")
    counts = ", ".join(f"{n} {verdict}" for verdict, n in changes["verdict"].value_counts().items())
    alone = f"{len(old) - len(changes)} of the old, {len(new) - len(changes)} of the new"
    print(f"{counts}; rows without a counterpart, or slowed by other processes: {alone}.")
    return int(changes["verdict"].isin(BAD).any())


if __name__ == "__main__":
    sys.exit(main())
