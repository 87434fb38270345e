"""The style of all plots: SVG without a background, in colours that are legible on light and on dark pages."""

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullLocator

from suite.candidates.catalogue import find
from suite.candidates.names import BASELINE, ORDER
from suite.results.format import count, ratio_text
from suite.results.statistics import Interval

#: Colour of text, axes and ticks: a grey that is legible on white and on near-black.
INK = "#7d8590"
#: Colour of what stands on a bar, and a halo in which it is legible beside it on dark pages, too.
DARK, HALO = "#0d1117", [withStroke(linewidth=3, foreground="#f6f8fa")]
#: Mid-tones that differ in lightness, too (the first seven after Okabe and Ito).
COLOURS = (
    *("#d55e00", "#e69f00", "#7f9f00", "#009e73", "#3f90da", "#9467bd", "#cc5f9f"),
    *("#8c6d5a", "#6b7f95", "#b39df2", "#a8a89c", "#1f7a1f", "#f58585", "#3a62c4"),
)
#: Inches of a bar plot with one column, in which a phone shows letters of at least 10 pixels.
PANEL = 4.4
#: Of lines.
MARKERS = "osD^vPX<>hpd*"
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_STYLE: Any = {
    "svg.hashsalt": "hyperlstm",  # the same figure gives the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 11,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), INK),
    **dict.fromkeys(("grid.color", "xtick.color", "ytick.color"), INK),
}
#: Decorates what makes a figure or writes one.
_styled = mpl.rc_context(_STYLE)


def styles(names: Iterable[str]) -> dict[str, int]:
    """Index of the style of each name: its place in ORDER, which names outside the project follow."""
    return {name: style for style, name in enumerate(dict.fromkeys((*ORDER, *names)))}


def colour(style: int) -> str:
    return COLOURS[style % len(COLOURS)]


def label(name: str) -> str:
    """Name of a candidate, with what people call it if that is another word; of a file outside the project its name."""
    word = find(name).called if name in ORDER else ""
    return f"{name} ({word})" if word else name


@_styled
def bar_plot(panels: Mapping[str, pd.DataFrame], columns: int = 1) -> Figure:
    """Draw ratios of rows of a benchmark to torch.nn.LSTM as horizontal bars.

    The shortest comes first, and one more than 4 times as long as the next is cut off. Lines are confidence intervals,
    and a band is the noise floor. panels: by title, rows with figures, of one place and pass.
    """
    rows_of_panels = list(panels.values())
    heights = []
    for first in range(0, len(panels), columns):
        heights.append(0.9 + 0.34 * max(map(len, rows_of_panels[first : first + columns])))
    figure = Figure(figsize=(PANEL * columns, sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    every_axes = list(grid.flatten())
    for unused in every_axes[len(panels) :]:
        unused.set_visible(False)
    style_of = styles(chain.from_iterable(rows["implementation"] for rows in rows_of_panels))
    for axes, (title, rows) in zip(every_axes, panels.items(), strict=False):
        _draw(axes, rows.sort_values("ratio", kind="stable"), style_of)
        axes.set_title(title, fontsize=11)
    figure.supxlabel(f"time / {BASELINE}", fontsize=11)
    return figure


def _draw(axes: Axes, rows: pd.DataFrame, style_of: Mapping[str, int]) -> None:
    """Draw the bars of rows, of which the shortest comes first."""
    ratios, low, high = rows[[*Interval._fields]].to_numpy(float).T
    end = _end(ratios)
    floor = 1 + rows["floor"].iloc[0]
    if not np.isnan(floor):
        axes.axvspan(1 / floor, floor, color=INK, alpha=0.3, linewidth=0, zorder=0.5)
    axes.barh(
        range(len(rows)),
        ratios,
        color=[colour(style_of[name]) for name in rows["implementation"]],
        height=0.7,
        xerr=np.where(ratios > end, np.nan, [ratios - low, high - ratios]),
        error_kw={"ecolor": DARK, "elinewidth": 1.2, "capsize": 3, "path_effects": HALO},
    )
    axes.set_xlim(0, end)
    for at, (ratio, busy) in enumerate(zip(ratios, rows["busy"].notna(), strict=True)):
        text = f"{ratio_text(ratio)}{', busy' if busy else ''}"
        look = dict[str, Any](xytext=(6, 0), color=INK)
        if ratio > end:
            text += " (cut off)"
            look = {"xytext": (-4, 0), "color": DARK, "ha": "right"}  # on the bar
        tip = min(np.nanmax([ratio, high[at]]), end)
        axes.annotate(text, (tip, at), textcoords="offset points", va="center", fontsize=10, **look)
    axes.set_yticks(range(len(rows)), [label(name) for name in rows["implementation"]])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def _end(lengths: Sequence[float]) -> float:
    """The length at which bars are cut off; lengths: the shortest first."""
    longest = lengths[-1]
    if len(lengths) > 1 and longest > 4 * lengths[-2]:
        longest = lengths[-2]
    return 1.3 * longest


@_styled
def line_plot(panels: Mapping[str, Mapping[str, Mapping[int, Interval]]], axis: str) -> Figure:
    """Draw lines over sizes on logarithmic axes, with bands for their confidence intervals; the baseline is grey.

    Markers and dashes tell lines apart without colours. panels: by title, lines by name, which have a figure at each
    size. axis: label below the panels.
    """
    figure = Figure(figsize=(2.0 + 3.7 * len(panels), 4.2), layout="constrained")
    drawn = dict[str, Any]()
    grid = figure.subplots(1, len(panels), squeeze=False)
    style_of = styles(chain.from_iterable(panels.values()))
    for axes, (title, lines) in zip(grid[0], panels.items(), strict=True):
        for name, line in lines.items():
            ink = INK if name == BASELINE else colour(style_of[name])
            dashes = "-" if name == BASELINE else DASHES[style_of[name] % len(DASHES)]
            figures, low, high = np.transpose([*line.values()])
            axes.fill_between([*line], low, high, color=ink, alpha=0.25, linewidth=0)
            look: dict[str, Any] = {"marker": MARKERS[style_of[name] % len(MARKERS)], "linestyle": dashes}
            (drawn[label(name)],) = axes.plot([*line], figures, color=ink, linewidth=1.8, markersize=6, **look)
        axes.set_title(title, fontsize=11)
        sizes = sorted({size for line in lines.values() for size in line})
        axes.set_xscale("log")
        axes.set_yscale("log")
        lowest, highest = axes.get_ylim()
        steps = (1, 2, 5) if highest > 10 * lowest else (1, 1.5, 2, 3, 4, 5, 7)
        axes.yaxis.set_major_locator(LogLocator(subs=steps))
        axes.yaxis.set_major_formatter(lambda value, at: f"{value:,g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(sizes, [count(size) for size in sizes])
    figure.supxlabel(axis, fontsize=11)
    legend = figure.legend(drawn.values(), drawn, loc="outside upper center", ncols=4, frameon=False, handlelength=4)
    for text in legend.get_texts():
        text.set_color(INK)
    return figure


@_styled
def svg(figure: Figure) -> str:
    """SVG of a figure, without the date."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
