"""The style of all plots: SVG without a background, in colours that are legible on light and on dark pages."""

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullLocator

from suite.candidates.catalogue import find
from suite.candidates.names import BASELINE, ORDER
from suite.results.format import count, significant3
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


class Panel(NamedTuple):
    """Bars by name: their lengths, with confidence intervals.

    floor: how far from the length `reference` the noise floor reaches, as a share, NaN if not known.
    busy: names of what was measured on a busy machine.
    """

    title: str
    bars: Mapping[str, Interval]
    floor: float = float("nan")
    reference: float = 1.0
    busy: Collection[str] = ()


def styles(panels: Sequence[Iterable[str]]) -> dict[str, int]:
    """Index of the style of each name: its place in ORDER, which names outside the project follow.

    panels: the names in each.
    """
    names = dict.fromkeys(chain.from_iterable(panels))
    outside = [name for name in names if name not in ORDER]
    style_of = {name: style for style, name in enumerate((*ORDER, *outside))}
    return {name: style_of[name] for name in names}


def colour(style: int) -> str:
    return COLOURS[style % len(COLOURS)]


def label(name: str) -> str:
    """Name of a candidate, with what people call it if that is another word; of a file outside the project its name."""
    word = find(name).called if name in ORDER else ""
    return f"{name} ({word})" if word else name


@_styled
def bar_plot(panels: Sequence[Panel], unit: str, axis: str, columns: int = 1) -> Figure:
    """Draw horizontal bars labelled with their lengths.

    The shortest comes first, and one more than 4 times as long as the next is cut off. Lines are confidence intervals,
    and a band is the noise floor. unit: follows each length. axis: label below the panels.
    """
    heights = []
    for first in range(0, len(panels), columns):
        most = max(len(panel.bars) for panel in panels[first : first + columns])
        heights.append(0.9 + 0.34 * most)
    figure = Figure(figsize=(2.4 + 4.0 * columns, sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    every_axes = list(grid.flatten())
    for unused in every_axes[len(panels) :]:
        unused.set_visible(False)
    style_of = styles([panel.bars for panel in panels])
    for axes, panel in zip(every_axes, panels, strict=False):
        _draw(axes, panel, unit, style_of)
        axes.set_title(panel.title)
    figure.supxlabel(axis, fontsize=11)
    return figure


def _draw(axes: Axes, panel: Panel, unit: str, style_of: Mapping[str, int]) -> None:
    bars = dict(sorted(panel.bars.items(), key=lambda item: item[1].ratio))
    lengths = [bar.ratio for bar in bars.values()]
    end = _end(lengths)
    if not np.isnan(panel.floor):
        low = panel.reference / (1 + panel.floor)
        high = panel.reference * (1 + panel.floor)
        axes.axvspan(low, high, color=INK, alpha=0.3, linewidth=0, zorder=0.5)
    whiskers = [_whisker(bar, end) for bar in bars.values()]
    axes.barh(
        range(len(bars)),
        lengths,
        color=[colour(style_of[name]) for name in bars],
        height=0.7,
        xerr=np.transpose(whiskers),
        error_kw={"ecolor": DARK, "elinewidth": 1.2, "capsize": 3, "path_effects": HALO},
    )
    axes.set_xlim(0, end)
    for at, (name, bar) in enumerate(bars.items()):
        text = f"{significant3(bar.ratio)}{unit}{', busy' if name in panel.busy else ''}"
        _label(axes, at, bar, text, end)
    axes.set_yticks(range(len(bars)), [label(name) for name in bars])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def _end(lengths: Sequence[float]) -> float:
    """The length at which bars are cut off; lengths: the shortest first."""
    longest = lengths[-1]
    if len(lengths) > 1 and longest > 4 * lengths[-2]:
        longest = lengths[-2]
    return 1.3 * longest


def _whisker(bar: Interval, end: float) -> tuple[float, float]:
    """How far the interval of a bar reaches to each side; NaN for a bar that is cut off."""
    if bar.ratio > end:
        return float("nan"), float("nan")
    return bar.ratio - bar.ratio_low, bar.ratio_high - bar.ratio


def _label(axes: Axes, at: int, bar: Interval, text: str, end: float) -> None:
    """Write a text behind a bar, or on it where it is cut off."""
    look = dict[str, Any](xytext=(6, 0), color=INK)
    if bar.ratio > end:
        text += " (cut off)"
        look = {"xytext": (-4, 0), "color": DARK, "ha": "right"}
    tip = min(np.nanmax([bar.ratio, bar.ratio_high]), end)
    axes.annotate(text, (tip, at), textcoords="offset points", va="center", fontsize=9, **look)


@_styled
def line_plot(panels: Mapping[str, Mapping[str, Mapping[int, Interval]]], axis: str) -> Figure:
    """Draw lines over sizes, with bands for their confidence intervals; that of the baseline is grey.

    Both axes are logarithmic where the sizes grow rather by factors than by steps. Markers and dashes tell lines apart
    without colours. panels: by title, lines by name, which have a figure at each size. axis: label below the panels.
    """
    figure = Figure(figsize=(2.0 + 3.7 * len(panels), 4.2), layout="constrained")
    drawn = dict[str, Any]()
    grid = figure.subplots(1, len(panels), squeeze=False)
    style_of = styles([*panels.values()])
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
        if by_factors(sizes):
            axes.set_xscale("log")
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            steps = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)
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


def by_factors(sizes: Sequence[int]) -> bool:
    """True if the factors between neighbouring sizes, in order, are as even as the steps between them, or more."""
    factors = np.divide(sizes[1:], sizes[:-1])
    steps = np.diff(sizes)
    return bool(factors.max() / factors.min() <= steps.max() / steps.min())


@_styled
def svg(figure: Figure) -> str:
    """SVG of a figure, without the date."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
