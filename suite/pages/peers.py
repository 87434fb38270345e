"""The page of peers: the time of our fastest implementation over that of what a user would pick instead."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Others, Page
from suite.pages.plots import INK, look, panels, plain
from suite.pages.sheets import Format, Part, Plot, Sheet
from suite.shared.cases import EXTERNAL
from suite.shared.format import count, label, ranged, sizes, three, two
from suite.shared.pairing import Interval

PASSES = {"train": "training step", "forward": "forward pass"}
SIZES = [*"TBHSZ", "layer_norm"]

LEAD = """`{ours}`, which "auto" picks, beside what a user would pick instead, at {points} points whose sizes were drawn
log-uniformly with a fixed seed, in {dtype}. A ratio is the time of `{ours}` over that of the other, so below 1
`{ours}` is faster: the median over interleaved rounds, with a 95 % interval. First calls, which compile, are excluded.
"""


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of others than ours, which have a ratio."""
    found: pd.DataFrame = rows.dropna(subset="ratio")
    return found


def interval(row: pd.Series) -> Interval:
    """Time of ours over that of a row's implementation."""
    return Interval(row["ratio"], row["ratio_low"], row["ratio_high"])


def lead(rows: pd.DataFrame) -> str:
    """What was compared, and what was left out."""
    first, every = rows.iloc[0], rows.groupby(SIZES).ngroups
    text = LEAD.format(ours=first["ours"], points=every, dtype=first["dtype"])
    few = rows[rows["implementation"] == "compiled"].groupby(SIZES).ngroups
    if few < every:
        text += f"`compiled` takes tens of seconds to compile for each size, so it was timed at {few} of them.\n"
    missing = [name for name in EXTERNAL if name not in set(rows["implementation"])]
    libraries = rows["library"].dropna().unique() if "library" in rows else ()
    words = [f"External code is of {', '.join(libraries)}."] * bool(len(libraries))
    return text + " ".join([*words, f"Not timed: {', '.join(missing)}." * bool(missing)]).rstrip()


def summary(rows: pd.DataFrame) -> Sheet:
    """Table of how often ours is faster than each other, and of the range of the ratios."""
    found = compared(rows)
    groups = [
        found[(found["implementation"] == name) & (found["pass"] == step)]
        for name in found["implementation"].unique()
        for step in PASSES
    ]
    lines = [
        {
            "beside": group["implementation"].iloc[0],
            "pass": PASSES[group["pass"].iloc[0]],
            "points": len(group),
            "faster at": int((group["ratio"] < 1).sum()),
            "lowest ratio": group["ratio"].min(),
            "geometric mean": float(np.exp(np.log(group["ratio"]).mean())),
            "highest ratio": group["ratio"].max(),
        }
        for group in groups
        if len(group)
    ]
    ratios = dict.fromkeys(("lowest ratio", "geometric mean", "highest ratio"), two)
    return Sheet(lines, {"points": count, "faster at": count, **ratios})


def faster(rows: pd.DataFrame) -> str:
    """List of the points at which another is faster."""
    found = compared(rows)
    found = found[found["ratio"] > 1].sort_values("ratio", ascending=False)
    if found.empty:
        return "No other is faster at any point."
    lines = [
        f"- `{row['implementation']}`, {PASSES[row['pass']]}, {sizes(row, 'TBHSZ')}, layer norm {row['layer_norm']}: "
        f"{ranged(interval(row))}"
        for _, row in found.iterrows()
    ]
    return "\n".join(["Another is faster at these points:", "", *lines])


def points(rows: pd.DataFrame, step: str) -> Sheet:
    """Table of a pass, a line for each point in the order of its work: the time of ours, and its ratio to others."""
    own = rows[(rows["implementation"] == rows["ours"]) & (rows["pass"] == step)].sort_values("multiply_adds")
    found = compared(rows[rows["pass"] == step])
    ratios = {(row["implementation"], *row[SIZES]): interval(row) for _, row in found.iterrows()}
    others, lines = found["implementation"].unique(), list[dict[str, Any]]()
    for _, row in own.iterrows():
        line = {"layer norm": row["layer_norm"], **{n: row[n] for n in "TBHSZ"}}
        line |= {"million multiply-adds": row["multiply_adds"] / 1e6, f"{row['ours']}, ms": 1e3 * row["median_s"]}
        lines.append(line | {f"/ {name}": ratios.get((name, *row[SIZES])) for name in others})
    formats: dict[str, Format] = {**dict.fromkeys("TBHSZ", count), "million multiply-adds": three}
    formats |= {f"{name}, ms": three for name in own["ours"].unique()} | {f"/ {name}": ranged for name in others}
    return Sheet(lines, formats)


def plot(found: pd.DataFrame) -> Figure:
    """Ratio against multiply-adds, a panel for each pass; points with layer norm are hollow."""
    figure, axes = panels(1, len(PASSES), width=8.0, height=4.0)
    for panel, (step, title) in zip(axes, PASSES.items(), strict=True):
        for name, norm in found[["implementation", "layer_norm"]].drop_duplicates().itertuples(index=False):
            here = found[(found["implementation"] == name) & (found["layer_norm"] == norm) & (found["pass"] == step)]
            style = look(name)
            style |= {"markerfacecolor": "none" if norm == "on" else style["color"], "label": label(name, norm)}
            panel.plot(here["multiply_adds"] / 1e6, here["ratio"], linestyle="", **style)
        panel.axhline(1, color=INK, linewidth=1, linestyle=":")
        panel.set(xscale="log", yscale="log", title=title, xlabel="million multiply-adds of a forward pass")
        plain(panel.xaxis)
        plain(panel.yaxis, (1, 2, 5))
    axes[0].set_ylabel(f"time of {found['ours'].iloc[0]} / time of the other")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
    return figure


def timed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with figures."""
    found: pd.DataFrame = rows[(rows["kind"] == "point") & (rows["status"] == "ok")]
    return found


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    here = timed(rows)
    if here.empty:
        return ["Nothing was timed."]
    parts: list[Part] = [lead(here), summary(here), faster(here)]
    if len(found := compared(here)):
        parts.append(Plot("peers", "Time over that of each other", partial(plot, found)))
    return parts + [part for step, title in PASSES.items() for part in (f"## {title.capitalize()}", points(here, step))]


PAGE = Page("peers", "Peers", _parts, study=True)
