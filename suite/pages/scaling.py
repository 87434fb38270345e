"""The scaling page: rows of scaling.csv as lines against each size, with what overtakes what and where."""

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.polynomial import Polynomial

from suite.pages.page import Page, Values
from suite.pages.plots import look, panels, plain
from suite.pages.sheets import Format, Part, Sheet
from suite.pages.study_tables import latest, unfinished
from suite.shared.cases import EXTERNAL
from suite.shared.fits import crossing, fit
from suite.shared.format import GROUP, MB, count, label, percent, sizes, three

#: What is fitted, by what the table calls it: the column and the unit that it is given in.
FIGURES = {"time": ("median_s", "ms", 1e-3), "memory": ("peak_bytes", "MB", MB)}
#: Besides the constant, the terms of a fit that the table shows, by axis and figure: the unit that a coefficient
#: is given for, and how many that is. Time against H goes with the multiply-adds of a step and sample, which
#: grow with its square; memory with H for what is kept of each step and with its square for the weights and gradients.
TERMS: dict[tuple[str, str], dict[str, float]] = {
    ("H", "time"): {"million multiply-adds": 1e6},
    ("H", "memory"): {"100 of H": 1e2, "100² of H²": 1e4},
}


def work(points: pd.DataFrame, axis: str, figure: str) -> pd.Series:
    """Return what a figure is fitted against: the size itself, but for time against H the multiply-adds."""
    found: pd.Series = points["n"].astype(float)
    if (axis, figure) == ("H", "time"):
        found = points["multiply_adds"] / (points["T"] * points["B"])
    return found


def line(points: pd.DataFrame, axis: str, figure: str) -> tuple[Polynomial, float | None] | None:
    """Return the fit through the points for fitting, and its worst relative error on those held out, if any.

    None if no more points were measured for fitting than it has coefficients, so that nothing would support it.
    """
    column = FIGURES[figure][0]
    fitted, held = points[~points["held_out"]], points[points["held_out"]]
    square = len(TERMS.get((axis, figure), ())) == 2
    if len(fitted) < (4 if square else 3):
        return None
    found = fit(list(work(fitted, axis, figure)), list(fitted[column]), square=square)
    error = abs(found(work(held, axis, figure)) / held[column] - 1).max() if len(held) else None
    return found, error


def groups(rows: pd.DataFrame, axis: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield implementation, layer norm and points in ascending order, of an axis."""
    here = rows[(rows["kind"] == "point") & (rows["part"] == axis) & (rows["status"] == "ok")]
    here = here.assign(held_out=here["held_out"].astype(bool))
    for (_, _, norm, name), group in here.groupby(GROUP, sort=False):
        yield name, norm, group.sort_values("n")


def axis_table(rows: pd.DataFrame, axis: str) -> Sheet:
    """Return a line for each implementation: what does not grow with the size, what does, and how well that holds."""
    base = _base(rows)
    lines, formats = [], dict[str, Format]()
    for name, norm, points in groups(rows, axis):
        row: dict[str, Any] = {"implementation": name, "layer norm": norm}
        at_base = points[points["n"] == base[axis]]
        for figure, (_, unit, size) in FIGURES.items():
            terms = TERMS.get((axis, figure), {axis: 1.0})
            many = {f"{figure}: constant, {unit}": 1.0} | {f"{unit} per {term}": units for term, units in terms.items()}
            overhead, wrong = f"{figure}: overhead", f"{figure}: error"
            formats |= dict.fromkeys(many, three) | dict.fromkeys((overhead, wrong), percent)
            row |= dict.fromkeys((*many, overhead, wrong))
            if (found := line(points, axis, figure)) is None:
                continue
            fitted, row[wrong] = found
            for (column, units), k in zip(many.items(), fitted.coef, strict=True):
                row[column] = float(k) * units / size
            if len(at_base):
                row[overhead] = max(0.0, fitted.coef[0]) / fitted(work(at_base, axis, figure).iloc[0])
        lines.append(row)
    return Sheet(lines, formats)


def _base(rows: pd.DataFrame) -> pd.Series:
    """Return the sizes that all axes start from: on each axis the size that points of the others have."""
    points = rows[rows["kind"] == "point"]
    return pd.Series({n: points[n].mode().iloc[0] for n in "TBIHSZL"})


def crossings(rows: pd.DataFrame, axes: list[str]) -> Sheet:
    """Return where one implementation overtakes another: two lines of time cross within the range measured.

    Only where the measured times bear it out: each is clearly faster, quartile from quartile, at one end of the range.
    """
    lines = []
    for axis in axes:
        for (one, norm, a), (other, other_norm, b) in combinations(list(groups(rows, axis)), 2):
            fits = line(a, axis, "time"), line(b, axis, "time")
            if norm != other_norm or fits[0] is None or fits[1] is None:
                continue
            where = crossing(fits[0][0], fits[1][0])
            ends = a.merge(b, on="n", suffixes=("", "_other")).iloc[[0, -1]]
            faster, slower = ends["q3_s"] < ends["q1_s_other"], ends["q1_s"] > ends["q3_s_other"]
            if where is None or not ((faster.iloc[0] and slower.iloc[1]) or (slower.iloc[0] and faster.iloc[1])):
                continue
            first, then = (one, other) if faster.iloc[0] else (other, one)
            # Back from multiply-adds to the size, between the two points around it.
            n = np.interp(where, work(a, axis, "time"), a["n"])
            lines.append({"against": axis, "layer norm": norm, "up to": n, "faster": first, "from there on": then})
    return Sheet(lines, {"up to": count})


def _values(rows: pd.DataFrame) -> Values:
    points = rows[rows["kind"] == "point"].dropna(subset="n")
    axes = list(points["part"].unique())
    found = crossings(rows, axes)
    return {
        "base": f"{sizes(_base(rows), 'TBIHSZL')} ({rows['workload'].iloc[0]}, {rows['dtype'].iloc[0]})",
        "slow": f"{points['slow_s'].max():g}",
        "crossings": [found if len(found) else "Nothing overtakes anything inside the ranges measured."],
        "axes": [part for axis in axes for part in _section(rows, axis, points[points["part"] == axis])],
        "unfinished": unfinished(rows),
    }


def _section(rows: pd.DataFrame, axis: str, points: pd.DataFrame) -> list[Part]:
    held_out = points["held_out"].astype(bool)
    fitted, held = (map(str, sorted(points["n"][here].astype(int).unique())) for here in (~held_out, held_out))
    text = f"## Against {axis}\n\nFitted to {', '.join(fitted)}; held out {' and '.join(held)}."
    if axis == "H":
        text += " Time is fitted against the multiply-adds of a step and sample, memory against H and H²."
    return [text, axis_table(rows, axis), f"![Against {axis}](scaling-{axis}.svg)"]


def axis_plot(rows: pd.DataFrame, axis: str) -> Figure | None:
    """Draw time and memory against a size: points fitted filled, points held out hollow, lines thin."""
    if not list(groups(rows, axis)):
        return None
    figure, (time, memory) = panels(2, 1, width=5.2, height=3.0)
    ticks = sorted(rows[rows["part"] == axis]["n"].dropna().unique())
    for panel, (kind, (column, unit, size)) in zip((time, memory), FIGURES.items(), strict=True):
        for name, norm, points in groups(rows, axis):
            if norm == "on" and name not in EXTERNAL:
                continue
            style, n, figures, held = look(name), points["n"], points[column] / size, points["held_out"]
            panel.plot(n[~held], figures[~held], linestyle="", label=label(name, norm), **style)
            panel.plot(n[held], figures[held], linestyle="", markerfacecolor="none", **style)
            if (found := line(points, axis, kind)) is not None:
                panel.plot(n, found[0](work(points, axis, kind)) / size, color=style["color"], linewidth=1)
        panel.set(xscale="log", yscale="log", ylabel=f"training step, {unit}")
        panel.set_xticks(ticks, [f"{n:.0f}" for n in ticks])
        panel.minorticks_off()
        plain(panel.yaxis)
    memory.set(xlabel=axis)
    time.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1, handlelength=1)
    return figure


PAGE = Page("scaling", _values, latest, {f"scaling-{axis}": partial(axis_plot, axis=axis) for axis in "TBHSZ"})
