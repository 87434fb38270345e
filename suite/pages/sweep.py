"""The page of sweeps: time, memory and ratios against a size, the threads, or at random sizes."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Others, Page, Part, Plot, Sheet
from suite.pages.plots import Panel, line_plot
from suite.shared.cases import ALTERNATIVES
from suite.shared.format import MB, count, ratio_text, significant3, sizes, with_interval
from suite.shared.statistics import interval

PASSES = {"train": "training step", "forward": "forward pass"}
SIZES = ("T", "B", "H", "S", "Z")
#: Figures of each point, by their unit: the column, and the size of the unit.
FIGURES = {"ms": ("median_s", 1e-3), "MB": ("peak_bytes", MB)}
#: Of the sweep over lengths.
OF_LENGTHS = {"MB": FIGURES["MB"], "MB without residuals": ("recomputed_bytes", MB)}

LEAD = """Time is the median of visits to fresh processes; in each visit, rounds of the implementations alternate.
Memory is the peak of torch's allocator in a training step, above parameters and input."""
SIZE = """A training step of {about}, with {varied} varied. Larger sizes are skipped once a step takes half a second."""
LENGTH = """## Long sequences

{about}: the memory of a training step at lengths that double. *without residuals*: the forward pass saves only states.
"""
THREADS = """## Threads

{about}: with 1 thread up to {threads}, the number that torch uses by default.
"""
RANDOM = """## At random sizes

The implementation that `auto` takes against its alternatives, at {points} points with sizes drawn log-uniformly from a
fixed seed. A ratio is its time over the alternative's, so below 1 it is faster: the median of visits, in brackets the
95 % interval between them. labml's module exists only with layer norm, which half of the points have. First calls,
which compile, are excluded; alternatives that compile for tens of seconds are timed at few points.
"""


def groups(rows: pd.DataFrame, *columns: str) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Rows by their values in columns, in order of appearance."""
    for values, own in rows.groupby(list(columns), sort=False):
        yield cast(tuple[Any, ...], values), own


def against(rows: pd.DataFrame, varied: str, title: str, figure: tuple[str, float], *by: str) -> Sheet:
    """A figure, given as its column and the size of its unit, against what varies; a line for each value of columns.

    title: of the column of implementations. by: the other columns.
    """
    column, size = figure
    table = rows.pivot_table(column, ["implementation", *by], "n", sort=False) / size
    table = table[sorted(table)].rename(columns=lambda n: f"{varied} {n:.0f}")
    lines = table.rename_axis([title, *(name.replace("_", " ") for name in by)]).reset_index().to_dict("records")
    return Sheet(lines, dict.fromkeys(table, significant3))


def per_step(rows: pd.DataFrame, varied: str, figures: Mapping[str, tuple[str, float]]) -> list[Sheet]:
    """Tables of a training step, one for each figure."""
    return [against(rows, varied, f"{unit} per training step", each, "layer_norm") for unit, each in figures.items()]


def random_table(rows: pd.DataFrame) -> Sheet:
    """How often the implementation that `auto` takes is faster than each alternative, and the range of the ratios."""
    lines = [
        {
            "compared with": name,
            "pass": PASSES[step],
            "points": len(own),
            "faster at": (own["ratio"] < 1).sum(),
            "lowest ratio": own["ratio"].min(),
            "geometric mean": np.exp(np.log(own["ratio"]).mean()),
            "highest ratio": own["ratio"].max(),
        }
        for (name, step), own in groups(rows, "implementation", "pass")
    ]
    ratios = dict.fromkeys(("lowest ratio", "geometric mean", "highest ratio"), ratio_text)
    return Sheet(lines, {"points": count, "faster at": count, **ratios})


def slower(rows: pd.DataFrame) -> str:
    """List of the points at which an alternative is faster than the implementation that `auto` takes."""
    ahead = rows[rows["ratio"] > 1].sort_values("ratio", ascending=False)
    lines = [
        f"- `{row['implementation']}`, {PASSES[row['pass']]}, {sizes(row, 'TBHSZ')}, layer norm {row['layer_norm']}: "
        f"{with_interval(interval(row))}"
        for _, row in ahead.iterrows()
    ]
    return (
        "\n".join(["Another is faster at these points:", "", *lines]) if lines else "No other is faster at any point."
    )


def plot(rows: pd.DataFrame) -> Figure:
    """Time on the left and memory on the right, a row of panels for each size."""
    rows = rows[(rows["layer_norm"] == "off") | rows["implementation"].isin(ALTERNATIVES)].sort_values("n")
    content = []
    for (varied,), along in groups(rows, "varied"):
        for unit, (column, size) in FIGURES.items():
            lines = {
                f"{name}, norm" if norm == "on" else name: own.set_index("n")[column] / size
                for (name, norm), own in groups(along, "implementation", "layer_norm")
            }
            content.append(Panel(lines, varied, f"training step, {unit}"))
    return line_plot(content)


def about(row: pd.Series, dims: str) -> str:
    """Workload of a row, with its sizes and dtype."""
    return f"{row['workload']} ({sizes(row, dims)}), {row['dtype']}"


def unfinished(rows: pd.DataFrame) -> str:
    """Rows of a study that did not finish, in a sentence; empty if there are none."""
    failures = rows[~rows["status"].isin(["ok", "out of memory"])]
    named = map("{varied}, {implementation}, layer norm {layer_norm}: {status}".format_map, failures.to_dict("records"))
    return f"Not complete: {'; '.join(named)}.\n" if len(failures) else ""


def _parts(every: pd.DataFrame, others: Others) -> list[Part]:
    """Parts about the workload and dtype that were studied last."""
    last = every.merge(every[["workload", "dtype"]].tail(1))
    rows = last[last["status"] == "ok"]
    if rows.empty:
        return ["Nothing was measured.", unfinished(last)]
    varied = {str(name): own for name, own in rows.groupby("varied", sort=False)}
    parts, of_sizes = list[Part]([LEAD]), rows[rows["varied"].isin(SIZES)]
    if len(of_sizes):
        parts.append(Plot("sweep", "Time and memory of a training step against each size", partial(plot, of_sizes)))
    for name in SIZES:
        if name in varied:
            text = SIZE.format(about=about(varied[name].iloc[0], "TBIHSZL".replace(name, "")), varied=name)
            parts += [f"## Against {name}\n\n{text}", *per_step(varied[name], name, FIGURES)]
    if "length" in varied:
        text = LENGTH.format(about=about(varied["length"].iloc[0], "BIHSZL"))
        parts += [text, *per_step(varied["length"], "T", OF_LENGTHS)]
    if "threads" in varied:
        own = varied["threads"].replace({"pass": PASSES})
        text = THREADS.format(about=about(own.iloc[0], "TIHSZL"), threads=own["threads"].iloc[0])
        parts += [text, against(own, "threads", "ms", FIGURES["ms"], "pass", "B")]
    if "random" in varied:
        points = varied["random"].groupby(["n", "Z", "layer_norm"]).ngroups
        compared = varied["random"].dropna(subset="ratio")
        parts += [RANDOM.format(points=points), random_table(compared), slower(compared)]
    return [*parts, unfinished(last)]


PAGE = Page("sweep", "Sweeps", _parts)
