"""The page of scaling: time and memory of a training step against each size in turn, as measured."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Others, Page
from suite.pages.plots import look, panels, plain
from suite.pages.sheets import Part, Plot, Sheet
from suite.shared.cases import EXTERNAL
from suite.shared.format import GROUP, MB, label, sizes, three

#: What is shown of each point, by its unit: the column, and its unit in the column's own.
FIGURES = {"ms": ("median_s", 1e-3), "MB": ("peak_bytes", MB)}

LEAD = """A training step of {base}, with one size varied at a time. Time is the median of interleaved rounds, memory
the peak of torch's allocator above parameters and input. Larger sizes are skipped once a step takes {slow} s."""


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with figures."""
    found: pd.DataFrame = rows[(rows["kind"] == "point") & (rows["status"] == "ok")]
    return found


def axis_table(rows: pd.DataFrame, axis: str, unit: str) -> Sheet:
    """Time or memory against a size, a line for each implementation."""
    here, (column, size) = points(rows[rows["part"] == axis]), FIGURES[unit]
    values = sorted(here["n"].unique())
    formats: dict[str, Callable[[Any], str]] = {f"{axis} {n:.0f}": three for n in values}
    lines = []
    for _, group in here.sort_values("n").groupby(GROUP, sort=False):
        line = {f"{unit} per training step": group["implementation"].iloc[0], "layer norm": group["layer_norm"].iloc[0]}
        figures = {f"{axis} {n:.0f}": value / size for n, value in zip(group["n"], group[column], strict=True)}
        lines.append(line | figures)
    return Sheet(lines, formats)


def base(rows: pd.DataFrame) -> pd.Series:
    """Sizes that stay the same along each axis: the most frequent ones."""
    return pd.Series({n: points(rows)[n].mode().iloc[0] for n in "TBIHSZL"})


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    here = points(rows)
    if here.empty:
        return ["Nothing was measured."]
    where = f"{rows['workload'].iloc[0]} ({sizes(base(rows), 'TBIHSZL')}), {rows['dtype'].iloc[0]}"
    parts: list[Part] = [LEAD.format(base=where, slow=f"{here['slow_s'].max():g}")]
    parts.append(Plot("scaling", "Time and memory of a training step against each size", partial(plot, rows)))
    for axis in here["part"].unique():
        parts += [f"## Against {axis}", *(axis_table(rows, axis, unit) for unit in FIGURES)]
    return parts


def plot(rows: pd.DataFrame) -> Figure:
    """Time on the left and memory on the right, a row of panels for each size."""
    here = points(rows)
    here = here[(here["layer_norm"] == "off") | here["implementation"].isin(EXTERNAL)]
    axes = list(here["part"].unique())
    figure, all_panels = panels(len(axes), 2, width=8.0, height=2.4)
    for at, panel in enumerate(all_panels):
        axis, unit = axes[at // 2], list(FIGURES)[at % 2]
        column, size = FIGURES[unit]
        along = here[here["part"] == axis]
        for (_, _, norm, name), group in along.sort_values("n").groupby(GROUP, sort=False):
            panel.plot(
                group["n"], group[column] / size, label=label(name, norm), markersize=5, linewidth=1, **look(name)
            )
        panel.set(xscale="log", yscale="log", xlabel=axis, ylabel=f"training step, {unit}")
        ticks = sorted(along["n"].unique())
        panel.set_xticks(ticks, [f"{n:.0f}" for n in ticks])
        panel.minorticks_off()
        plain(panel.yaxis)
    figure.legend(*all_panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
    return figure


PAGE = Page("scaling", "Scaling", _parts, study=True)
