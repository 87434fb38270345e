"""The page of peers: the time of our fastest implementation over that of what a user would pick instead."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.pages.bench_tables import figure
from suite.pages.page import Others, Page
from suite.pages.plots import INK, look, panels, plain
from suite.pages.sheets import Part, Plot, Sheet
from suite.shared.cases import ALTERNATIVES
from suite.shared.format import count, label, ranged, sizes, two

PASSES = {"train": "training step", "forward": "forward pass"}
SIZES = [*"TBHSZ", "layer_norm"]

LEAD = """`{ours}`, which "auto" picks, against what a user would pick instead, at {points} points with sizes drawn
log-uniformly from a fixed seed, in {dtype}. A ratio is the time of `{ours}` over that of the other, the median of
visits to fresh processes (in brackets a 95 % interval between them), so below 1 `{ours}` is faster. labml's module
exists only with layer norm, which half of the points have. First calls, which compile, are excluded.
"""


def lead(rows: pd.DataFrame) -> str:
    first, every = rows.iloc[0], rows.groupby(SIZES).ngroups
    text = LEAD.format(ours=first["ours"], points=every, dtype=first["dtype"])
    few = rows[rows["implementation"] == "compiled"].groupby(SIZES).ngroups
    if few < every:
        text += f"`compiled` takes tens of seconds to compile for each size, so it was timed at {few} of them.\n"
    missing = [name for name in ALTERNATIVES if name not in set(rows["implementation"])]
    libraries = rows["library"].dropna().unique() if "library" in rows else ()
    words = [f"Versions: {', '.join(libraries)}."] * bool(len(libraries))
    return text + " ".join([*words, f"Not timed: {', '.join(missing)}." * bool(missing)]).rstrip()


def summary(compared: pd.DataFrame) -> Sheet:
    """Table of how often ours is faster than each other, and of the range of the ratios."""
    groups: Any = compared.groupby(["implementation", "pass"], sort=False)["ratio"]
    lines = [
        {
            "compared with": name,
            "pass": PASSES[step],
            "points": len(ratios),
            "faster at": (ratios < 1).sum(),
            "lowest ratio": ratios.min(),
            "geometric mean": np.exp(np.log(ratios).mean()),
            "highest ratio": ratios.max(),
        }
        for (name, step), ratios in groups
    ]
    ratios = dict.fromkeys(("lowest ratio", "geometric mean", "highest ratio"), two)
    return Sheet(lines, {"points": count, "faster at": count, **ratios})


def faster(compared: pd.DataFrame) -> str:
    """List of the points at which another is faster."""
    ahead = compared[compared["ratio"] > 1].sort_values("ratio", ascending=False)
    if ahead.empty:
        return "No other is faster at any point."
    lines = [
        f"- `{row['implementation']}`, {PASSES[row['pass']]}, {sizes(row, 'TBHSZ')}, layer norm {row['layer_norm']}: "
        f"{ranged(figure(row).ratio)}"
        for _, row in ahead.iterrows()
    ]
    return "\n".join(["Another is faster at these points:", "", *lines])


def plot(compared: pd.DataFrame) -> Figure:
    """Ratio against multiply-adds, a panel for each pass; points with layer norm are hollow."""
    figure, axes = panels(1, len(PASSES), width=8.0, height=4.0)
    for panel, (step, title) in zip(axes, PASSES.items(), strict=True):
        rows = compared[compared["pass"] == step]
        for (name, norm), points in rows.groupby(["implementation", "layer_norm"], sort=False):
            style = look(name)
            style |= {"markerfacecolor": "none" if norm == "on" else style["color"], "label": label(name, norm)}
            panel.plot(points["multiply_adds"] / 1e6, points["ratio"], linestyle="", **style)
        panel.axhline(1, color=INK, linewidth=1, linestyle=":")
        panel.set(xscale="log", yscale="log", title=title, xlabel="million multiply-adds of a forward pass")
        plain(panel.xaxis)
        plain(panel.yaxis, (1, 2, 5))
    axes[0].set_ylabel(f"time of {compared['ours'].iloc[0]} / time of the other")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
    return figure


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    compared = rows.dropna(subset="ratio")
    parts: list[Part] = [lead(rows), summary(compared), faster(compared)]
    return parts + [Plot("peers", "Ratios against multiply-adds", partial(plot, compared))] * bool(len(compared))


PAGE = Page("peers", "Peers", _parts, study=True)
