"""The page of sizes that people named, with plots of how cost grows where several differ in one size alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.candidates.names import BASELINE
from suite.cases.case import SIZES, Case
from suite.cases.spelling import short_parts
from suite.cases.workloads import Pass
from suite.pages.bench import summary_text, time_tables, without_figures
from suite.pages.bench_tables import BUSY, PEAK, RATIO, TIME, milliseconds, ratio_of
from suite.pages.benchmark import Benchmark, decisive_pass
from suite.pages.headline import PASS_TITLES
from suite.pages.markdown import Markdown, escaped
from suite.pages.page import IMPLEMENTATION, VERDICT, Body, Column, Heading, OtherTables, Page, Part, Plot, Sheet
from suite.pages.plots import Line, Lines, line_plot
from suite.results.format import MB, count, significant3, sizes
from suite.results.names import TableName
from suite.results.tables import TABLES

READ = Markdown("""## How to read this

These sizes were named on the command line. They are timed as the workloads of the page *bench* are, whose columns these
tables have, and are no part of the project's results. Where sizes differ in one letter alone, a plot is drawn over it:
a band is a 95 % confidence interval, the grey one the noise floor. A time there is the ratio times the median time of
`torch.nn.LSTM` at that size over all rows, so times compare as ratios do.
""")
#: Columns of tables, by size.
SIZE = {size: Column(size, count) for size in SIZES}


class Growth(NamedTuple):
    """By how many times the time and the multiply-adds of a candidate grow over a span such as `H 64 to 128`."""

    candidate: str
    span: str
    time: float
    multiply_adds: float

    def __str__(self) -> str:
        times, work = significant3(self.time), significant3(self.multiply_adds)
        return f"{self.candidate}, {self.span}: {times} times, multiply-adds {work} times."


@dataclass(frozen=True)
class Sweep:
    """Rows of one pass of a `Benchmark` that differ in a size alone; they have `seconds` and its interval."""

    size: str
    rows: pd.DataFrame

    @property
    def timed(self) -> Pass:
        """The pass of its rows."""
        return Pass(self.rows["pass"].iloc[0])

    @property
    def values(self) -> list[int]:
        return sorted({*self.rows[self.size].astype(int)})

    @property
    def rest(self) -> str:
        """The other sizes and options."""
        row = self.rows.iloc[0]
        case = Case.of_row(row)
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
        case = Case.of_row(row)
        parts = [part for field, part in short_parts(case).items() if field != self.size]
        return "-".join(["sweep", self.size, *parts, row["dtype"]])

    def of_candidates(self) -> Mapping[str, pd.DataFrame]:
        """Rows of each candidate in the order of the size."""
        names = self.rows["implementation"].unique()
        rows = self.rows.sort_values(self.size, kind="stable")
        return {name: rows.loc[rows["implementation"] == name] for name in names}

    def view(self) -> Sheet:
        """Table of the ratios and times that the plot shows."""
        size = SIZE[self.size]
        lines = []
        for name, rows in self.of_candidates().items():
            for _, row in rows.iterrows():
                line = {
                    IMPLEMENTATION: name,
                    size: row[self.size],
                    TIME[self.timed]: milliseconds(row, row["seconds"]),
                    RATIO[self.timed]: ratio_of(row),
                    VERDICT: row["verdict"],
                    PEAK[self.timed]: row["peak_bytes"] / MB,
                    BUSY: row["busy"],
                }
                lines.append(line)
        columns = [IMPLEMENTATION, size, TIME[self.timed], RATIO[self.timed], VERDICT, PEAK[self.timed], BUSY]
        return Sheet(columns, lines)

    def growth(self) -> list[Growth]:
        """Growth over the last doubling, or else the last two sizes, by candidate."""
        doubled = [value for value in self.values if 2 * value in self.values]
        first, last = (doubled[-1], 2 * doubled[-1]) if doubled else self.values[-2:]
        result = []
        for name, rows in self.of_candidates().items():
            at = rows.set_index(self.size)[["seconds", "multiply_adds"]].reindex([first, last])
            grown = at.loc[last] / at.loc[first]
            if grown.notna().all():
                span = f"{self.size} {count(first)} to {count(last)}"
                result.append(Growth(name, span, grown["seconds"], grown["multiply_adds"]))
        return result

    def grown(self) -> Mapping[str, pd.DataFrame]:
        """Rows of each candidate that has figures at two sizes or more."""
        of_candidates = self.of_candidates().items()
        return {name: rows for name, rows in of_candidates if rows["seconds"].notna().sum() > 1}

    def draw(self) -> Figure:
        """Ratio and time over the size, a line for each candidate of `grown`, of which there must be one."""
        values = self.values
        ratios = dict[str, Line]()
        times = dict[str, Line]()
        for name, rows in self.grown().items():
            at = rows.set_index(self.size).reindex(values)
            figures = {column: at[column].to_numpy() for column in at}
            ratios[name] = Line(values, figures["ratio"], figures["ratio_low"], figures["ratio_high"])
            seconds = figures["seconds"], figures["seconds_low"], figures["seconds_high"]
            times[name] = Line(values, *seconds, is_baseline=name == BASELINE)
        floors = self.rows.groupby(self.size)["floor"].first()
        floor = floors.reindex(values).to_numpy()
        # Its ratio is 1, and its band the noise floor.
        ratios[BASELINE] = Line(values, np.ones(len(values)), 1 / (1 + floor), 1 + floor, is_baseline=True)
        panels = [Lines(f"time / {BASELINE}", ratios), Lines(f"ms per {PASS_TITLES[self.timed]}", times, 1e3)]
        return line_plot(panels, self.size)


def sweeps(benchmark: Benchmark, over: Sequence[str] = SIZES) -> list[Sweep]:
    """Sizes that differ in one letter alone, of those in `over`, in the same dtype."""
    every = benchmark.rows
    cases = [Case.of_row(row) for row in every.to_dict("records")]
    result = list[Sweep]()
    for size in over:
        rest = pd.Series([_without(size, case) for case in cases], every.index, dtype=object)
        for _, rows in every.groupby([every["dtype"], rest], sort=False):
            if rows[size].nunique() > 1:
                result.append(Sweep(size, _timed(rows, size)))
    return result


def _without(size: str, case: Case) -> Case:
    """The case with 0 for a size, so that cases which differ in it alone are equal.

    It is unchanged if its lengths have the size.
    """
    if case.lengths_have(size):
        return case
    zero: dict[str, Any] = {size: 0}
    return replace(case, **zero)


def _timed(rows: pd.DataFrame, size: str) -> pd.DataFrame:
    """Rows of the pass that is judged, with `seconds`: the ratio times the median time of the baseline at the size."""
    rows = rows[rows["pass"] == decisive_pass(rows)]
    lstm = (rows["median_s"] / rows["ratio"]).groupby(rows[size]).transform("median")
    of_lstm = (rows["implementation"] == BASELINE) & rows["ratio"].notna()
    return rows.assign(
        seconds=(lstm * rows["ratio"]).mask(of_lstm, lstm),
        seconds_low=lstm * rows["ratio_low"],
        seconds_high=lstm * rows["ratio_high"],
    )


def _body(rows: pd.DataFrame, others: OtherTables) -> Body:
    benchmark = Benchmark.of(rows, TABLES[TableName.SIZES])
    parts = list[Part]()
    for sweep in sweeps(benchmark):
        parts.append(Heading(sweep.title))
        if sweep.grown():
            caption = f"{PASS_TITLES[sweep.timed].capitalize()} over {sweep.title}"
            parts.append(Plot(sweep.name, caption, sweep.draw, has_file=True))
        growth = Markdown("\n".join(f"- {escaped(str(growth))}" for growth in sweep.growth()))
        parts += [sweep.view(), growth]
    return Body(summary_text(benchmark), [*parts, *time_tables(benchmark), *without_figures(rows), READ])


PAGE = Page(TableName.SIZES, "Sizes that were named", _body, others=())
