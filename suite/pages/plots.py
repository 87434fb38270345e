"""The style of all plots: SVG without a background, in colours that are legible on light and on dark pages."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from suite.shared.cases import ORDER
from suite.shared.format import significant3

#: Colour of text, axes and ticks: a grey that is legible on white and on near-black.
INK = "#7d8590"
#: Mid-tones that differ in lightness, too (the first seven after Okabe and Ito).
COLOURS = (
    *("#d55e00", "#e69f00", "#7f9f00", "#009e73", "#3f90da", "#9467bd", "#cc5f9f"),
    *("#8c6d5a", "#6b7f95", "#b39df2", "#a8a89c", "#1f7a1f", "#f58585", "#3a62c4"),
)
LOOKS = dict(zip(ORDER, COLOURS, strict=False))
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
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), INK),
    **dict.fromkeys(("grid.color", "xtick.color", "ytick.color"), INK),
}
mpl.rcParams.update(_STYLE)


def bar_plot(bars: Mapping[str, Mapping[str, float]], unit: str, axis: str, columns: int = 1) -> Figure:
    """Draw horizontal bars labelled with their lengths, a panel for each title.

    bars: by title, lengths by name; the shortest comes first, and one more than 4 times as long as the next is cut off.
    unit: follows each length. axis: label below the panels.
    """
    most = [max(map(len, list(bars.values())[k : k + columns])) for k in range(0, len(bars), columns)]
    heights = [0.9 + 0.34 * n for n in most]
    figure = Figure(figsize=(2.4 + 4.0 * columns, sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).flatten()
    for unused in axes[len(bars) :]:
        unused.set_visible(False)
    for panel, (title, unordered) in zip(axes, bars.items(), strict=False):
        lengths = dict(sorted(unordered.items(), key=lambda bar: bar[1]))
        longest = sorted(lengths.values())[-2:]
        end = 1.3 * (longest[0] if longest[-1] > 4 * longest[0] else longest[-1])
        colours = [LOOKS.get(name, COLOUR_OF_A_FILE) for name in lengths]
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


def svg(figure: Figure) -> str:
    """SVG of a figure, without the date."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
