"""The scaling page: rows of scaling.csv as lines against each size, with what overtakes what and where."""

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import pandas as pd

from .fits import Line, crossing, fit, worst_error
from .study_tables import MB, digits, label, ordered, unfinished
from .tables import environments, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUP = ["workload", "dtype", "layer_norm", "implementation"]
#: What is fitted, by what the table calls it: the column and the unit that it is given in.
FIGURES = {"time": ("median_s", "ms", 1e-3), "memory": ("peak_bytes", "MB", MB)}


def work(points: pd.DataFrame, axis: str, figure: str) -> pd.Series:
    """Return what a line is fitted against: the size itself, but for H the work that grows with its square.

    Time against H is fitted against the multiply-adds of a step and sample, memory against H^2.
    """
    if axis != "H":
        return points["n"].astype(float)
    return points["multiply_adds"] / (points["T"] * points["B"]) if figure == "time" else points["n"] ** 2.0


def unit(axis: str, figure: str) -> str:
    """Return what the slope of a line is given for."""
    if axis != "H":
        return f"{axis}"
    return "million multiply-adds" if figure == "time" else "1000 of H²"


def scale(axis: str, figure: str) -> float:
    """Return how many of `work` that is."""
    if axis != "H":
        return 1
    return 1e6 if figure == "time" else 1e3


def line(points: pd.DataFrame, axis: str, figure: str) -> tuple[Line, float | None] | None:
    """Return the line through the points for fitting, and its worst relative error on those held out, if any.

    None if fewer than three points were measured for fitting: two give a line that nothing supports.
    """
    column = FIGURES[figure][0]
    fitted, held = points[~points["held_out"]], points[points["held_out"]]
    if len(fitted) < 3:
        return None
    found = fit(list(work(fitted, axis, figure)), list(fitted[column]))
    error = worst_error(found, list(work(held, axis, figure)), list(held[column])) if len(held) else None
    return found, error


def groups(rows: pd.DataFrame, axis: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield implementation, layer norm and points in ascending order, of an axis."""
    here = rows[(rows["kind"] == "point") & (rows["part"] == axis) & (rows["status"] == "ok")]
    here = here.assign(held_out=here["held_out"].astype(bool))
    for (_, _, norm, name), group in ordered(here).groupby(GROUP, sort=False):
        yield str(name), str(norm), group.sort_values("n")


def axis_table(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Return a line for each implementation: what does not grow with the size, what does, and how well that holds."""
    base = _base(rows)
    lines = []
    for name, norm, points in groups(rows, axis):
        row = {"implementation": name, "layer norm": norm}
        for figure, (_, name_of_unit, size) in FIGURES.items():
            per = f"{name_of_unit} per {unit(axis, figure)}"
            found = line(points, axis, figure)
            at_base = points[points["n"] == base[axis]]
            if found is None or at_base.empty:
                row |= {
                    f"{figure}: constant, {name_of_unit}": "-",
                    per: "-",
                    f"{figure}: overhead": "-",
                    f"{figure}: error": "-",
                }
                continue
            fitted, error = found
            row |= {
                f"{figure}: constant, {name_of_unit}": digits(fitted.constant / size),
                per: digits(fitted.slope * scale(axis, figure) / size),
                f"{figure}: overhead": f"{fitted.overhead(work(at_base, axis, figure).iloc[0]):.0%}",
                f"{figure}: error": "-" if error is None else f"{error:.0%}",
            }
        lines.append(row)
    return pd.DataFrame(lines)


def _base(rows: pd.DataFrame) -> pd.Series:
    """Return the sizes that all axes start from: on each axis the size that points of the others have."""
    points = rows[rows["kind"] == "point"]
    return pd.Series({n: points[n].mode().iloc[0] for n in "TBIHSZL"})


def crossings(rows: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Return where one implementation overtakes another: two lines of time cross within the range measured.

    Only where the measured times agree: one is faster at the first size of both, the other at the last.
    """
    lines = []
    for axis in axes:
        for (one, norm, a), (other, other_norm, b) in combinations(list(groups(rows, axis)), 2):
            lines_found = line(a, axis, "time"), line(b, axis, "time")
            if norm != other_norm or lines_found[0] is None or lines_found[1] is None:
                continue
            both = a.merge(b, on="n", suffixes=("", "_other"))
            faster = (both["median_s"] < both["median_s_other"]).tolist()
            where = crossing(lines_found[0][0], lines_found[1][0])
            if where is None or faster[0] == faster[-1]:
                continue
            first, then = (one, other) if faster[0] else (other, one)
            n = _size_at(where, a, axis)
            lines.append(
                {"against": axis, "layer norm": norm, "up to": f"{n:.0f}", "faster": first, "from there on": then}
            )
    return pd.DataFrame(lines)


def _size_at(where: float, points: pd.DataFrame, axis: str) -> float:
    """Return the size at which `work` has a value, between the two points around it."""
    import numpy as np

    return float(np.interp(where, work(points, axis, "time"), points["n"]))


def scaling_markdown(rows: pd.DataFrame) -> str:
    """Return scaling.md: what overtakes what first, then a table and a plot for each size."""
    from .study_scaling import FITTED, HELD_OUT, SLOW

    axes = [axis for axis in FITTED if (rows["part"] == axis).any()]
    base = _base(rows)
    sizes = ", ".join(f"{n} {base[n]}" for n in "TBIHSZL")
    parts = [
        f"# Scaling\n\n{environments(rows)}\n\nA training step against one size at a time, the others as in {sizes} "
        f"({rows['workload'].iloc[0]}, {rows['dtype'].iloc[0]}). Time is the median of rounds that take turns between "
        "implementations, memory the peak of torch's allocator. Lines are fitted by least squares of relative errors "
        "to four sizes and held against two that they have not seen, one between and one beyond: *error* is the "
        "larger one there. *overhead* is the share at the base sizes that does not grow with the size in question: "
        "the constant. A negative constant means growth faster than the line's. An implementation goes no further "
        f"once a step takes {SLOW} s.\n"
    ]
    found = crossings(rows, axes)
    parts.append(
        "## What overtakes what\n\nWhere two fitted lines cross inside the range measured, and the times at its ends "
        "agree.\n"
    )
    parts.append(f"{markdown(found)}\n" if len(found) else "Nothing overtakes anything inside the ranges measured.\n")
    for axis in axes:
        against = {"time": "multiply-adds of a step and sample", "memory": "H²"}
        fitted = ", ".join(map(str, FITTED[axis]))
        held = " and ".join(map(str, HELD_OUT[axis]))
        how = f" Time is fitted against {against['time']}, memory against {against['memory']}." if axis == "H" else ""
        parts.append(
            f"## Against {axis}\n\nFitted to {fitted}; held out {held}.{how}\n\n{markdown(axis_table(rows, axis))}\n\n"
            f"![Against {axis}](scaling-{axis}.svg)\n"
        )
    parts.append(f"{unfinished(rows)}Point by point: [scaling.csv](scaling.csv).\n")
    return "\n".join(parts)


def axis_plot(rows: pd.DataFrame, axis: str) -> "Figure | None":
    """Draw time and memory against a size: points fitted filled, points held out hollow, lines thin."""
    from .plots import look, panels

    if not list(groups(rows, axis)):
        return None
    figure, (time, memory) = panels(2, 1, width=5.2, height=3.0)
    for name, norm, points in groups(rows, axis):
        if norm == "on" and name != "labml":
            continue
        style = look(name)
        for panel, kind in ((time, "time"), (memory, "memory")):
            column, _, size = FIGURES[kind]
            held = points["held_out"]
            panel.plot(points["n"][~held], points[column][~held] / size, linestyle="", label=label(name, norm), **style)
            panel.plot(points["n"][held], points[column][held] / size, linestyle="", markerfacecolor="none", **style)
            found = line(points, axis, kind)
            if found is not None:
                panel.plot(
                    points["n"], work(points, axis, kind).map(found[0].at) / size, color=style["color"], linewidth=1
                )
    for panel, kind in ((time, "time"), (memory, "memory")):
        ticks = sorted(rows[rows["part"] == axis]["n"].dropna().unique())
        panel.set(xscale="log", yscale="log", ylabel=f"training step, {FIGURES[kind][1]}")
        panel.set_xticks(ticks, [f"{n:.0f}" for n in ticks])
        panel.minorticks_off()
    memory.set(xlabel=axis)
    time.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1, handlelength=1)
    return figure
