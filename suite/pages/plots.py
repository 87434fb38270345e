"""The style of all plots: SVG without a background, in colours that are legible on light and on dark pages."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from suite.shared.cases import ORDER
from suite.shared.format import significant3

#: Colour of text, axes and ticks: a grey that is legible on white and on near-black.
INK = "#7d8590"
#: Mid-tones that differ in lightness, too (the first seven after Okabe and Ito).
COLOURS = (
    *("#d55e00", "#e69f00", "#7f9f00", "#009e73", "#3f90da", "#9467bd", "#cc5f9f"),
    *("#8c6d5a", "#6b7f95", "#b39df2", "#a8a89c", "#1f7a1f", "#f58585", "#3a62c4"),
)
MARKERS: tuple[Any, ...] = (*"osD^vPXph*<>d", (4, 1, 0))  # the last is a star with four points
LOOKS: dict[str, dict[str, Any]] = {
    name: {"color": colour, "marker": marker} for name, colour, marker in zip(ORDER, COLOURS, MARKERS, strict=False)
}
#: Of an implementation in a file outside the project.
COLOUR_OF_A_FILE = COLOURS[-1]
#: Labels of bars whose name alone is not clear.
SHOWN = {"compiled": "compiled (torch.compile)"}
_STYLE: Any = {
    "svg.hashsalt": "hyperlstm",  # the same figure gives the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 11,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor"), "none"),
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), INK),
    **dict.fromkeys(("grid.color", "xtick.color", "ytick.color"), INK),
}
mpl.rcParams.update(_STYLE)


def panels(n: int, columns: int, width: float, heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Figure and its n panels in reading order; width of the figure and height of each row, in inches."""
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    axes = list(figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).flat)
    for unused in axes[n:]:
        unused.set_visible(False)
    return figure, axes[:n]


def bar_plot(bars: Mapping[str, Mapping[str, float]], unit: str, axis: str, columns: int = 1) -> Figure:
    """Draw horizontal bars labelled with their lengths, a panel for each title.

    bars: by title, lengths by name; the shortest comes first, and one more than 4 times as long as the next is cut off.
    unit: follows each length. axis: label below the panels.
    """
    most = [max(map(len, list(bars.values())[k : k + columns])) for k in range(0, len(bars), columns)]
    figure, axes = panels(len(bars), columns, 2.4 + 4.0 * columns, [0.9 + 0.34 * n for n in most])
    for panel, (title, unordered) in zip(axes, bars.items(), strict=True):
        lengths = dict(sorted(unordered.items(), key=lambda bar: bar[1]))
        longest = sorted(lengths.values())[-2:]
        end = 1.3 * (longest[0] if longest[-1] > 4 * longest[0] else longest[-1])
        colours = [LOOKS[name]["color"] if name in LOOKS else COLOUR_OF_A_FILE for name in lengths]
        panel.barh(range(len(lengths)), list(lengths.values()), color=colours, height=0.7)
        panel.set_xlim(0, end)
        for at, length in enumerate(lengths.values()):
            text, where = f"{significant3(length)}{unit}", dict[str, Any](xytext=(4, 0), color=INK)
            if length > end:
                text, where = f"{text} (cut off)", {"xytext": (-4, 0), "color": "#0d1117", "ha": "right"}
            panel.annotate(text, (min(length, end), at), textcoords="offset points", va="center", fontsize=9, **where)
        panel.set_yticks(range(len(lengths)), [SHOWN.get(name, name) for name in lengths])
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        panel.set_title(title)
    figure.supxlabel(axis, fontsize=11)
    return figure


@dataclass(frozen=True)
class Panel:
    """A panel of `line_plot`: lines by name, each a series of y by x; the axes' labels."""

    lines: Mapping[str, pd.Series]
    x: str
    y: str


def line_plot(content: Sequence[Panel], columns: int = 2) -> Figure:
    """Draw measured points joined by lines, on logarithmic axes that are labelled at the points.

    A line named "batched, norm" has the colour and marker of "batched", and hollow markers.
    """
    figure, axes = panels(len(content), columns, 4.0 * columns, [2.6] * -(-len(content) // columns))
    for axis, panel in zip(axes, content, strict=True):
        for name, line in panel.lines.items():
            style = LOOKS[name.split(",")[0]] | ({"markerfacecolor": "none"} if "," in name else {})
            axis.plot(line.index, line, label=name, markersize=5, linewidth=1, **style)
        axis.set(xscale="log", yscale="log", xlabel=panel.x, ylabel=panel.y)
        ticks = sorted({x for line in panel.lines.values() for x in line.index})
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axis.minorticks_off()
        plain(axis.yaxis)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
    return figure


def plain(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2, 5, 10, 20 and so on, or like a linear one if fewer than two are visible."""
    low, high = axis.get_view_interval()
    decades = LogLocator(subs=(1, 2, 5))
    count = sum(low <= value <= high for value in decades.tick_values(low, high))
    axis.set_major_locator(decades if count > 1 else MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_minor_formatter(NullFormatter())


def svg(figure: Figure) -> str:
    """SVG of a figure, without the date."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
