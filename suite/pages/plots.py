"""How every plot looks: SVG without a background, in colours that read on a light page and on a dark one."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from suite.shared.cases import BASELINE, EXTERNAL, ORDER

#: Text, axes and ticks: a grey that stands out from white and from near-black alike.
INK = "#7d8590"
#: Mid-tones that read on either ground, told apart by lightness too (the first seven after Okabe and Ito).
COLOURS = (
    *("#d55e00", "#e69f00", "#7f9f00", "#009e73", "#3f90da", "#9467bd", "#cc5f9f"),
    *("#8c6d5a", "#6b7f95", "#b39df2", "#a8a89c", "#1f7a1f", "#f58585", "#3a62c4"),
)
MARKERS: tuple[Any, ...] = (*"osD^vPXph*<>d", (4, 1, 0))  # the last is a star with four points
LOOKS = tuple({"color": colour, "marker": marker} for colour, marker in zip(COLOURS, MARKERS, strict=True))
#: Whose the first looks are, whatever else there is. A name that is added here keeps its look, too.
OWNERS = ("naive", "row_scaled", "batched", "compiled", "deferred", "batched_cuda", "batched_cpu", BASELINE, *EXTERNAL)
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
mpl.rcParams.update(_STYLE)  # all that is drawn here looks like that


def panels(
    rows: int, columns: int, width: float = 8.0, height: float | Sequence[float] = 3.2
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels, in reading order; width of all of it and height of a row, or of each, in inches."""
    heights = [height] * rows if isinstance(height, float) else list(height)
    figure = Figure(figsize=(width, sum(heights)))
    figure.set_layout_engine("constrained", hspace=0.06)  # else a title stands on the figures of the axis above
    return figure, list(figure.subplots(rows, columns, squeeze=False, height_ratios=heights).flat)


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return colours and markers by name: `OWNERS` have their own, others what is left, in their order.

    ValueError for more names than there are looks.
    """
    if len(names) > len(LOOKS):
        raise ValueError(f"names: expected at most {len(LOOKS)} that plots can tell apart, got {len(names)}")
    owned = dict(zip(OWNERS, LOOKS, strict=False))
    left = iter((*LOOKS[len(OWNERS) :], *(owned[name] for name in OWNERS if name not in names)))
    return {name: dict(owned[name] if name in owned else next(left)) for name in names}


def look(implementation: str) -> dict[str, Any]:
    """Return the colour and the marker of an implementation, or of something external; ValueError if it is neither."""
    found = looks(ORDER)
    if implementation not in found:
        raise ValueError(f"implementation: expected one of {', '.join(found)}; got {implementation!r}")
    return found[implementation]


def plain(axis: Axis, steps: tuple[int, ...] = (1,)) -> None:
    """Give a logarithmic axis figures as people write them, at these steps of each power of ten.

    Where fewer than two of them are in view, they are those of a linear axis. What is drawn has to be there already.
    """
    low, high = axis.get_view_interval()
    decades = LogLocator(subs=steps)
    seen = sum(low <= value <= high for value in decades.tick_values(low, high))
    axis.set_major_locator(decades if seen > 1 else MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_minor_formatter(NullFormatter())


def svg(figure: Figure) -> str:
    """Return a figure as SVG text, which holds no date."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
