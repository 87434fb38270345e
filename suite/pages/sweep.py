"""How cost grows along one size that a run was told several values of: a table, and a plot."""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.candidates.names import BASELINE
from suite.cases.case import SIZES
from suite.cases.workloads import Pass
from suite.pages import text
from suite.pages.bench import figure
from suite.pages.headline import PASS_TITLES
from suite.pages.plots import line_plot
from suite.pages.ranking import decisive_pass
from suite.results.format import MB, NONE, NORM, count, percent, significant3, sizes, with_interval
from suite.results.statistics import Interval, interval
from suite.results.status import Status


def sweeps(rows: pd.DataFrame, size: str) -> Mapping[str, pd.DataFrame]:
    """Rows of the pass that is judged, which differ in a size alone, by the name of their plot.

    The names of their workloads differ in no other part.
    """
    rest = rows["workload"].map(lambda name: re.sub(rf"(^|-){size}\d+", "", name))
    result = dict[str, pd.DataFrame]()
    others = [rows[column] for column in ("dtype", "layer_norm", *SIZES) if column != size]
    for _, of_rest in rows.groupby([rest, *others], sort=False):
        judged = of_rest[of_rest["pass"] == decisive_pass(of_rest)]
        row = judged.iloc[0]
        parts = ["sweep", size, *filter(None, [rest[judged.index[0]].strip("-")]), row["dtype"]]
        result["-".join(parts)] = judged
    return result


def title(rows: pd.DataFrame, size: str) -> str:
    row, values = rows.iloc[0], sorted({*rows[size]})
    rest = ", ".join([sizes(row, [other for other in SIZES if other != size]), row["dtype"]])
    return f"{size} {count(values[0])} to {count(values[-1])} ({rest}), norm {NORM[row['layer_norm']]}"


def table(rows: pd.DataFrame, size: str) -> pd.DataFrame:
    """Table of the ratios and times that the plot shows."""
    lines = []
    for _, row in rows.sort_values(["implementation", size], kind="stable").iterrows():
        ok = row["status"] == Status.OK
        line = {
            "implementation": row["implementation"],
            size: count(row[size]),
            f"{row['pass']}, ms": significant3(1e3 * row["median_s"]) if ok else row["status"],
            f"{row['pass']} / LSTM": figure(interval(row), with_interval),
            "verdict": row["verdict"] or NONE,
            "MB": figure(row["peak_bytes"] / MB, significant3),
            "busy": figure(row["busy"], percent),
        }
        lines.append(line)
    return text.table_of(lines)


def growth(rows: pd.DataFrame, size: str) -> list[str]:
    """Growth between the last two sizes, of each candidate whose times there have intervals on a quiet machine."""
    sentences = []
    for name, at in _of_candidates(rows, size).items():
        known = at["ratio_low"].notna() & at["busy"].isna()
        if len(at) > 1 and known.iloc[-2:].all():
            times = [
                significant3(at[column].iloc[-1] / at[column].iloc[-2]) for column in ("median_s", "multiply_adds")
            ]
            span = f"{size} {count(at.index[-2])} to {count(at.index[-1])}"
            sentences.append(f"{name}, {span}: {times[0]} times, multiply-adds {times[1]} times.")
    return sentences


def plot(rows: pd.DataFrame, size: str) -> Figure:
    """Ratio and time over the size, a line for each candidate."""
    ratios = dict[str, dict[int, Interval]]()
    times = dict[str, dict[int, Interval]]()
    for name, at in _of_candidates(rows, size).items():
        figures = at[[*Interval._fields]].to_numpy(float)
        lstm_ms = 1e3 * (at["median_s"] / at["ratio"]).to_numpy(float)[:, None]
        ratios[name] = _line(at.index, figures)
        times[name] = _line(at.index, lstm_ms * figures)
    floors = rows.groupby(size)["floor"].first()
    floor = 1 + floors.to_numpy(float)
    # The ratio of the baseline is 1, and its band the noise floor.
    ratios[BASELINE] = _line(floors.index, np.transpose([np.ones(len(floor)), 1 / floor, floor]))
    timed = Pass(rows["pass"].iloc[0])
    return line_plot({f"time / {BASELINE}": ratios, f"ms per {PASS_TITLES[timed]}": times}, size)


def _line(values: Iterable[int], figures: np.ndarray) -> dict[int, Interval]:
    return {value: Interval(*ends) for value, ends in zip(values, figures.tolist(), strict=True)}


def _of_candidates(rows: pd.DataFrame, size: str) -> Mapping[str, pd.DataFrame]:
    """Rows with figures of each candidate, by size."""
    timed = rows[rows["ratio"].notna()].sort_values(size, kind="stable")
    return {
        str(name): of_candidate.set_index(size) for name, of_candidate in timed.groupby("implementation", sort=False)
    }
