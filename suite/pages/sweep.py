"""How cost grows along one size that a run was told several values of: a table, and a plot."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.candidates.names import BASELINE
from suite.cases.case import SIZES
from suite.cases.workloads import Pass
from suite.pages import text
from suite.pages.bench import figure
from suite.pages.benchmark import NORM, Benchmark, decisive_pass
from suite.pages.headline import PASS_TITLES
from suite.pages.plots import Line, Lines, line_plot
from suite.results.format import MB, count, percent, significant3, sizes, with_interval
from suite.results.statistics import Interval, interval
from suite.results.status import Status


@dataclass(frozen=True)
class Sweep:
    """Rows of one pass that differ in a size alone."""

    size: str
    name: str
    rows: pd.DataFrame

    @property
    def title(self) -> str:
        row, values = self.rows.iloc[0], sorted({*self.rows[self.size]})
        rest = [sizes(row, [size for size in SIZES if size != self.size]), row["dtype"]]
        return (
            f"{self.size} {count(values[0])} to {count(values[-1])} ({', '.join(rest)}), norm {NORM[row['layer_norm']]}"
        )

    def of_candidates(self) -> dict[str, pd.DataFrame]:
        """Rows with figures of each candidate, by size."""
        timed = self.rows[self.rows["ratio"].notna()].sort_values(self.size, kind="stable")
        return {str(name): rows.set_index(self.size) for name, rows in timed.groupby("implementation", sort=False)}

    def table(self) -> pd.DataFrame:
        """Table of the ratios and times that the plot shows."""
        lines = []
        for _, row in self.rows.sort_values(["implementation", self.size], kind="stable").iterrows():
            ok = row["status"] == Status.OK
            line = {"implementation": row["implementation"], self.size: count(row[self.size])}
            line[f"{row['pass']}, ms"] = significant3(1e3 * row["median_s"]) if ok else row["status"]
            line[f"{row['pass']} / LSTM"] = figure(interval(row), with_interval)
            line |= {"verdict": row["verdict"] or "-", "MB": figure(row["peak_bytes"] / MB, significant3)}
            lines.append(line | {"busy": figure(row["busy"], percent)})
        return text.table_of(lines)

    def growth(self) -> list[str]:
        """Growth between the last two sizes, of each candidate whose times there have intervals on a quiet machine."""
        sentences = []
        for name, at in self.of_candidates().items():
            known = at["ratio_low"].notna() & at["busy"].isna()
            if len(at) > 1 and known.iloc[-2:].all():
                times = [
                    significant3(at[column].iloc[-1] / at[column].iloc[-2]) for column in ("median_s", "multiply_adds")
                ]
                span = f"{self.size} {count(at.index[-2])} to {count(at.index[-1])}"
                sentences.append(f"{name}, {span}: {times[0]} times, multiply-adds {times[1]} times.")
        return sentences

    def draw(self) -> Figure:
        """Ratio and time over the size, a line for each candidate."""
        ratios = dict[str, Line]()
        times = dict[str, Line]()
        for name, at in self.of_candidates().items():
            values = [*at.index]
            figures = at[[*Interval._fields]].to_numpy(float).T
            ratio, ratio_low, ratio_high = figures
            ratios[name] = Line(values, ratio, ratio_low, ratio_high)
            lstm = (at["median_s"] / at["ratio"]).to_numpy(float)
            middle, low, high = lstm * figures
            times[name] = Line(values, middle, low, high, is_baseline=name == BASELINE)
        floors = self.rows.groupby(self.size)["floor"].first()
        floor = floors.to_numpy(float)
        # Its ratio is 1, and its band the noise floor.
        ratios[BASELINE] = Line([*floors.index], np.ones(len(floor)), 1 / (1 + floor), 1 + floor, is_baseline=True)
        timed = Pass(self.rows["pass"].iloc[0])
        panels = [Lines(f"time / {BASELINE}", ratios), Lines(f"ms per {PASS_TITLES[timed]}", times, 1e3)]
        return line_plot(panels, self.size)


def sweeps(benchmark: Benchmark, size: str) -> Sequence[Sweep]:
    """Rows of a run that differ in a size alone: their names differ in no other part."""
    rows = benchmark.rows
    rest = rows["workload"].map(lambda name: re.sub(rf"(^|-){size}\d+", "", name))
    result = list[Sweep]()
    others = [rows[column] for column in ("dtype", "layer_norm", *SIZES) if column != size]
    for _, of_rest in rows.groupby([rest, *others], sort=False):
        judged = of_rest[of_rest["pass"] == decisive_pass(of_rest)]
        row = judged.iloc[0]
        parts = ["sweep", size, *filter(None, [rest[judged.index[0]].strip("-")]), row["dtype"]]
        result.append(Sweep(size, "-".join(parts), judged))
    return result
