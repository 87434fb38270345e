"""`nox -s compare -- OLD NEW`: which changes between two benchmark results are larger than both intervals."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from suite.pages.bench_tables import interval
from suite.pages.sheets import Format, Sheet
from suite.shared.cases import BASELINE
from suite.shared.load import BUSY
from suite.shared.results import ResultsError
from suite.shared.rows import table
from suite.shared.words import status, two

#: What two results must have in common for a change to be one of the code.
SAME = ("device", "processor", "cpu_capability", "threads", "torch")
#: Verdicts that fail the comparison.
BAD = ("REGRESSION", "LOST")
VERDICTS = (*BAD, "slower", "faster", "gained", "same", "A/A run")

FORMATS: Mapping[str, Format] = dict.fromkeys(("old / LSTM", "new / LSTM"), two) | dict.fromkeys(
    ("time", "memory"), "{:+.1%}".format
)


def load(path: Path) -> pd.DataFrame:
    """Return the benchmark rows of a file, or of the bench.csv in a folder; ResultsError if there are none."""
    file = path / "bench.csv" if path.is_dir() else path
    if not file.is_file():
        raise ResultsError(f"{path}: expected a bench.csv or a folder with one, got nothing of the kind.")
    rows = table("bench").load(file)
    if rows.empty:
        raise ResultsError(f"{file}: expected rows, got none.")
    return rows


def differences(old: pd.DataFrame, new: pd.DataFrame) -> str | None:
    """Return in a sentence where the two were made in unlike places, or None."""
    for column in SAME:
        before, after = (sorted(set(rows[column].astype(str))) for rows in (old, new))
        if before != after:
            return f"{column}: {', '.join(before)} in the old result, {', '.join(after)} in the new"
    return None


def change_of(before: pd.Series, after: pd.Series, threshold: float) -> tuple[float | None, str]:
    """Return the change of the paired ratio, and what it means; rows without figures have no change.

    A change counts where the intervals have no point in common. Above the threshold, as a share, it is a regression.
    The row of the A/A run holds the baseline against itself: what changes there is noise.
    """
    was, is_ = before["status"] == "ok", after["status"] == "ok"
    if not (was and is_):
        return None, {(True, False): "LOST", (False, True): "gained"}.get((was, is_), "same")
    old, new = interval(before), interval(after)
    ratio = new.ratio / old.ratio
    if after["implementation"] == BASELINE:
        verdict = "A/A run"
    elif new.low > old.high:
        verdict = "REGRESSION" if ratio > 1 + threshold else "slower"
    else:
        verdict = "faster" if new.high < old.low else "same"
    return ratio - 1, verdict


def memory_of(before: pd.Series, after: pd.Series, threshold: float) -> tuple[float | None, str]:
    """Return the change of the peak memory, which has no noise to speak of, and what it means."""
    if before["status"] != "ok" or after["status"] != "ok" or not before["peak_bytes"]:
        return None, "same"
    ratio = after["peak_bytes"] / before["peak_bytes"]
    return ratio - 1, "REGRESSION" if ratio > 1 + threshold else "same"


def compared(old: pd.DataFrame, new: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return a line for each row that both results have, but for those that other processes slowed."""
    key = list(table("bench").key)
    places = {tuple(row[key].astype(str)): row for _, row in old.iterrows()}
    lines = []
    for _, after in new.iterrows():
        before = places.get(tuple(after[key].astype(str)))
        if before is None or any(row.get("taken_cores", 0) > BUSY for row in (before, after)):
            continue
        change, verdict = change_of(before, after, threshold)
        memory, worse = memory_of(before, after, threshold)
        lines.append(
            {
                "title": f"{after['workload']}, T {after['T']}, B {after['B']}, {after['dtype']}, "
                f"layer norm {after['layer_norm']}",
                "implementation": after["implementation"],
                "pass": after["pass"],
                "old / LSTM": before["ratio"] if before["status"] == "ok" else status(before),
                "new / LSTM": after["ratio"] if after["status"] == "ok" else status(after),
                "time": change,
                "memory": memory,
                "verdict": worse if worse in BAD and verdict not in BAD else verdict,
            }
        )
    return pd.DataFrame(lines)


def conclusion(changes: pd.DataFrame, old: pd.DataFrame, new: pd.DataFrame) -> str:
    """Return the outcome in a sentence."""
    count = changes["verdict"].value_counts()
    parts = [f"{count[word]} {word}" for word in VERDICTS if word in count]
    alone = [f"{len(rows) - len(changes)} of the {word}" for word, rows in (("old", old), ("new", new))]
    return f"{', '.join(parts)}; rows without a counterpart, or slowed by other processes: {', '.join(alone)}."


def run(options: argparse.Namespace) -> int:
    """Show the comparison; return 1 on a regression or a lost figure."""
    old, new = load(options.old), load(options.new)
    unlike = differences(old, new)
    if unlike and not options.anyway:
        raise ResultsError(f"expected results of one machine and torch, got {unlike}; --anyway compares them.")
    changes = compared(old, new, options.threshold / 100)
    if changes.empty:
        raise ResultsError(f"{options.old} and {options.new} have no row in common.")
    for title, part in changes.groupby("title", sort=False):
        Sheet(part.drop(columns="title").to_dict("records"), FORMATS).show(str(title))
        print()
    if unlike:
        print(f"Of unlike places: {unlike}.")
    print(conclusion(changes, old, new))
    return int(changes["verdict"].isin(BAD).any())


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; exit 1 on a regression, 2 if there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="nox -s compare --", description=__doc__)
    parser.add_argument("old", type=Path, help="bench.csv, or a folder with one")
    parser.add_argument("new", type=Path, help="bench.csv, or a folder with one")
    parser.add_argument("--threshold", type=float, default=10, help="per cent that a ratio may rise; default: 10")
    parser.add_argument("--anyway", action="store_true", help="compare unlike machines or torch versions too")
    try:
        return run(parser.parse_args(arguments))
    except ResultsError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
