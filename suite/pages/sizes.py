"""The page of sizes that people named, with plots of how cost grows where several differ in one size alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.candidates.names import BASELINE
from suite.cases.case import SIZES
from suite.cases.spelling import named, parse
from suite.cases.workloads import Pass
from suite.pages.bench import places, without_figures
from suite.pages.bench_tables import FORMATS, HEADINGS, STEP, Benchmark, leading, summary
from suite.pages.page import NoFigure, Others, Page, Part, Plot, Sheet
from suite.pages.plots import Line, Lines, line_plot
from suite.results.format import MB, count, significant3, sizes
from suite.results.statistics import Interval, interval
from suite.results.status import Status

READ = """## How to read this

These sizes were named on the command line. They are timed as the workloads of the page *bench* are, whose columns these
tables have, and are no part of the project's results. Where sizes differ in one letter alone, a plot is drawn over it:
a band is a 95 % confidence interval, the grey one the noise floor. A time there is the ratio times the median time of
`torch.nn.LSTM` at that size over all rows, so times compare as ratios do.
"""


@dataclass(frozen=True)
class Sweep:
    """Rows of one pass of a `Benchmark` that differ in a size alone; they have `seconds` and its interval."""

    size: str
    rows: pd.DataFrame

    @property
    def step(self) -> Pass:
        return Pass(self.rows["pass"].iloc[0])

    @property
    def values(self) -> list[int]:
        return sorted({*self.rows[self.size].astype(int)})

    @property
    def rest(self) -> str:
        """The other sizes and options."""
        row = self.rows.iloc[0]
        case = parse(row["workload"])
        options = [part for field, part in case.parts.items() if field not in SIZES]
        others = [size for size in SIZES if size != self.size]
        return ", ".join([sizes(row, others), row["dtype"], *options])

    @property
    def title(self) -> str:
        return f"{self.size} {count(self.values[0])} to {count(self.values[-1])} ({self.rest})"

    @property
    def name(self) -> str:
        """Name of the file of its plot."""
        row = self.rows.iloc[0]
        case = parse(row["workload"])
        parts = [part for field, part in named(case).items() if field != self.size]
        return "-".join(["sweep", self.size, *parts, row["dtype"]])

    def of_candidates(self) -> Mapping[str, pd.DataFrame]:
        """Rows of each candidate in the order of the size."""
        names = self.rows["implementation"].unique()
        rows = self.rows.sort_values(self.size, kind="stable")
        return {name: rows.loc[rows["implementation"] == name] for name in names}

    def view(self) -> Sheet:
        """Table of the ratios and times that the plot shows."""
        lines = list[dict[str, Any]]()
        for name, rows in self.of_candidates().items():
            for _, row in rows.iterrows():
                line: dict[str, Any] = {"implementation": name, self.size: row[self.size]}
                line[f"{self.step}_ms"] = (
                    1e3 * row["seconds"] if row["status"] == Status.OK else NoFigure(row["status"])
                )
                line |= {f"{self.step}_ratio": interval(row), "verdict": row["verdict"]}
                lines.append(line | {f"{self.step}_mb": row["peak_bytes"] / MB, "busy": row["busy"]})
        return Sheet(lines, {**FORMATS, self.size: count}, HEADINGS)

    def growth(self) -> list[str]:
        """Growth of time and of multiply-adds over the last doubling, or else the last two sizes, by candidate."""
        doubled = [value for value in self.values if 2 * value in self.values]
        first, last = (doubled[-1], 2 * doubled[-1]) if doubled else self.values[-2:]
        sentences = []
        for name, rows in self.of_candidates().items():
            at = rows.set_index(self.size)[["seconds", "multiply_adds"]].reindex([first, last])
            grown = at.loc[last] / at.loc[first]
            if grown.notna().all():
                times = significant3(grown["seconds"])
                work = significant3(grown["multiply_adds"])
                place = f"{self.size} {count(first)} to {count(last)}"
                sentences.append(f"`{name}`, {place}: {times} times, multiply-adds {work} times.")
        return sentences

    def draw(self) -> Figure:
        """Ratio and time over the size, a line for each candidate that has figures at two sizes or more."""
        values = self.values
        ratios = dict[str, Line]()
        times = dict[str, Line]()
        for name, rows in self.of_candidates().items():
            at = rows.set_index(self.size).reindex(values)
            if at["seconds"].notna().sum() > 1:
                of_ratio = at[[*Interval._fields]].to_numpy()
                of_time = at[["seconds", "seconds_low", "seconds_high"]].to_numpy()
                ratios[name] = Line(values, *of_ratio.T)
                times[name] = Line(values, *of_time.T)
        floors = self.rows.groupby(self.size)["floor"].first()
        floor = floors.reindex(values).to_numpy()
        ratios[BASELINE] = Line(values, np.ones(len(values)), 1 / (1 + floor), 1 + floor)
        panels = {f"time / {BASELINE}": Lines(ratios), f"ms per {STEP[self.step]}": Lines(times, 1e3)}
        return line_plot(panels, self.size)


def sweeps(benchmark: Benchmark, over: Sequence[str] = SIZES) -> list[Sweep]:
    """Sizes that differ in one letter alone, of those in `over`, in the same dtype."""
    every = benchmark.rows
    result = list[Sweep]()
    for size in over:
        rest = every["workload"].map(partial(_without, size))
        for _, group in every.groupby([every["dtype"], rest], sort=False):
            if group[size].nunique() > 1:
                result.append(Sweep(size, _timed(group, size)))
    return result


def _without(size: str, name: str) -> str:
    """The id of a size that was named, without one letter; with lengths T and B stay, which these have."""
    case = parse(name)
    stays = case.lengths and size in "TB"
    return "-".join(part for field, part in case.parts.items() if stays or field != size)


def _timed(group: pd.DataFrame, size: str) -> pd.DataFrame:
    """Rows of the pass that counts, with `seconds`: the ratio times the median time of the baseline at the size."""
    rows = group[group["pass"] == leading(group)]
    lstm = (rows["median_s"] / rows["ratio"]).groupby(rows[size]).transform("median")
    seconds = {f"seconds{end}": lstm * rows[f"ratio{end}"] for end in ("", "_low", "_high")}
    timed: pd.DataFrame = rows.assign(**seconds)
    of_lstm = rows["implementation"] == BASELINE
    timed.loc[of_lstm & timed["seconds"].notna(), "seconds"] = lstm
    return timed


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    benchmark = Benchmark.of(rows)
    lead = "\n\n".join(f"**{sentence}**" for sentence in summary(benchmark))
    parts = list[Part]([lead])
    for sweep in sweeps(benchmark):
        caption = f"{STEP[sweep.step].capitalize()} over {sweep.title}"
        plot = Plot(sweep.name, caption, sweep.draw, has_file=True)
        growth = "\n".join(f"- {sentence}" for sentence in sweep.growth())
        parts += [f"## {sweep.title}", plot, sweep.view(), growth]
    return [*parts, *places(benchmark), *without_figures(rows), READ]


PAGE = Page("sizes", "Sizes that were named", _parts, others=())
