"""The page of scaling: time and memory of a training step against each size in turn, as measured."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Others, Page, about
from suite.pages.plots import look, panels, plain
from suite.pages.sheets import Part, Plot, Sheet
from suite.shared.cases import ALTERNATIVES
from suite.shared.format import GROUP, MB, label, three

#: What is shown of each point, by its unit: the column, and its unit in the column's own.
FIGURES = {"ms": ("median_s", 1e-3), "MB": ("peak_bytes", MB)}

LEAD = """A training step of {base}, with one size varied at a time. Time is the median of visits to fresh processes, in
each of which rounds of the implementations alternate; memory is the peak of torch's allocator above parameters and
input. Larger sizes are skipped once a step takes {slow} s."""


def axis_table(rows: pd.DataFrame, axis: str, unit: str) -> Sheet:
    """Time or memory against a size, a line for each implementation."""
    column, size = FIGURES[unit]
    subset = rows[rows["part"] == axis].sort_values("n")
    table = subset.pivot_table(column, ["implementation", "layer_norm"], "n", sort=False) / size
    lines = [
        {f"{unit} per training step": name, "layer norm": norm} | {f"{axis} {n:.0f}": row[n] for n in table}
        for (name, norm), row in table.iterrows()
    ]
    return Sheet(lines, {f"{axis} {n:.0f}": three for n in table})


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    usual = rows[["workload", "dtype", *"TBIHSZL"]].mode().iloc[0]  # most rows have the sizes that stay the same
    parts: list[Part] = [LEAD.format(base=about(usual), slow=f"{rows['slow_s'].max():g}")]
    parts.append(Plot("scaling", "Time and memory of a training step against each size", partial(plot, rows)))
    for axis in rows["part"].unique():
        parts += [f"## Against {axis}", *(axis_table(rows, axis, unit) for unit in FIGURES)]
    return parts


def plot(rows: pd.DataFrame) -> Figure:
    """Time on the left and memory on the right, a row of panels for each size."""
    rows = rows[(rows["layer_norm"] == "off") | rows["implementation"].isin(ALTERNATIVES)]
    axes = list(rows["part"].unique())
    figure, all_panels = panels(len(axes), 2, width=8.0, height=2.4)
    for at, panel in enumerate(all_panels):
        axis, unit = axes[at // 2], list(FIGURES)[at % 2]
        column, size = FIGURES[unit]
        along = rows[rows["part"] == axis]
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
