"""The style of all plots: SVG without a background, in colours that are legible on light and on dark pages."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from suite.shared.cases import BASELINE, ORDER
from suite.shared.format import three

#: Colour of text, axes and ticks: a grey that is legible on white and on near-black.
INK = "#7d8590"
#: Mid-tones that differ in lightness, too (the first seven after Okabe and Ito).
COLOURS = (
    *("#d55e00", "#e69f00", "#7f9f00", "#009e73", "#3f90da", "#9467bd", "#cc5f9f"),
    *("#8c6d5a", "#6b7f95", "#b39df2", "#a8a89c", "#1f7a1f", "#f58585", "#3a62c4"),
)
MARKERS: tuple[Any, ...] = (*"osD^vPXph*<>d", (4, 1, 0))  # the last is a star with four points
#: Names that come first, so that each keeps its look when others are added.
_FIRST = (
    *("naive", "row_scaled", "batched", "compiled", "deferred", "batched_cuda", "batched_cpu"),
    *(BASELINE, "labml", "jax"),
)
LOOKS = {
    name: {"color": colour, "marker": marker}
    for name, colour, marker in zip(dict.fromkeys((*_FIRST, *ORDER)), COLOURS, MARKERS, strict=False)
}
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


def panels(
    rows: int, columns: int, width: float = 8.0, height: float | Sequence[float] = 3.2
) -> tuple[Figure, list[Axes]]:
    """Figure and its panels in reading order; width of the figure and height of each row, in inches."""
    heights = [height] * rows if isinstance(height, float) else list(height)
    figure = Figure(figsize=(width, sum(heights)))
    figure.set_layout_engine("constrained", hspace=0.06)  # otherwise titles overlap the ticks above
    return figure, list(figure.subplots(rows, columns, squeeze=False, height_ratios=heights).flat)


def bars(axes: Axes, lengths: Mapping[str, float], colours: Sequence[str], unit: str) -> None:
    """Draw horizontal bars from the top, labelled, each with its length at its end; the longest may be cut off."""
    longest = sorted(lengths.values())[-2:]
    end = 1.3 * (longest[0] if longest[-1] > 4 * longest[0] else longest[-1])
    axes.barh(range(len(lengths)), list(lengths.values()), color=colours, height=0.7)
    axes.set_xlim(0, end)
    for at, length in enumerate(lengths.values()):
        text, where = f"{three(length)} {unit}", dict[str, Any](xytext=(4, 0), color=INK)
        if length > end:
            text, where = f"{text} (cut off)", {"xytext": (-4, 0), "color": "#0d1117", "ha": "right"}
        axes.annotate(text, (min(length, end), at), textcoords="offset points", va="center", fontsize=9, **where)
    axes.set_yticks(range(len(lengths)), list(lengths))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def look(implementation: str) -> dict[str, Any]:
    return dict(LOOKS[implementation])


def plain(axis: Axis, steps: tuple[int, ...] = (1,)) -> None:
    """Label a logarithmic axis at these multiples of powers of ten, or like a linear one if fewer than two show."""
    low, high = axis.get_view_interval()
    decades = LogLocator(subs=steps)
    count = sum(low <= value <= high for value in decades.tick_values(low, high))
    axis.set_major_locator(decades if count > 1 else MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_minor_formatter(NullFormatter())


def svg(figure: Figure) -> str:
    """SVG of a figure, without the date."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
