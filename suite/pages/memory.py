"""The page of memory: the longest sequence that trains, the parts of a training step, the naive form's weights."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Others, Page, about
from suite.pages.plots import INK, look, panels, plain
from suite.pages.sheets import Part, Plot, Sheet
from suite.shared.cases import ALTERNATIVES
from suite.shared.format import GROUP, MB, count, sizes, three, two

#: Parts of a training step, and its peaks, by name; a device without a caching allocator reserves nothing.
PARTS = {
    "parameters": "parameter_bytes",
    "gradients": "gradient_bytes",
    "saved": "kept_bytes",
    "workspace": "workspace_bytes",
    "peak": "peak_bytes",
    "peak without residuals": "recomputed_bytes",
    "reserved": "reserved_bytes",
}

LEAD = "The memory that training takes, as torch's allocator counts it, without the input and an optimiser."
LONGEST = """## The longest sequence that trains in {limit} MB

{about}: one training step, parameters excluded. The longest T is predicted from the peaks of the two longest sequences
below the limit. It is *confirmed* if a sequence 1 % shorter stayed within the limit and one 1 % longer exceeded it.
"""
STEP = """## The parts of a training step

{about}. *saved* is the memory held between forward and backward, output included. *workspace* is the rest of the peak,
which excludes the parameters; it is 0 if saved memory and gradients never exist completely at the same time. *peak
without residuals* is the peak if the forward pass saves only states.
"""
TENSOR = """## The weights of the naive form

The naive form builds weight tensors n_z times as large as the weights, and training adds part of their gradient. At
sizes where these dominate ({sizes}):
"""


def ledger_table(rows: pd.DataFrame) -> Sheet:
    """Parts of a training step, a line for each implementation."""
    columns = {f"{name}, MB": column for name, column in PARTS.items() if column in rows}
    lines = [
        {"implementation": row["implementation"], "layer norm": row["layer_norm"]}
        | {name: row[column] / MB for name, column in columns.items()}
        | {"saved, B per token": row["kept_bytes"] / (row["T"] * row["B"])}
        for _, row in rows[rows["kind"] == "step"].iterrows()
    ]
    return Sheet(lines, dict.fromkeys(columns, three) | {"saved, B per token": count})


def longest_table(rows: pd.DataFrame) -> Sheet:
    """Longest T that fits, and whether runs just below and just above it confirmed that."""
    under, over = (rows[rows["kind"] == kind] for kind in ("under", "over"))
    both = under.merge(over, on=GROUP, suffixes=("", "_over"))
    right = (both["peak_bytes"] <= both["limit_bytes"]) & (both["peak_bytes_over"] > both["limit_bytes"])
    columns = {"implementation": "implementation", "layer_norm": "layer norm", "longest": "longest T"}
    lines = both[[*columns]].rename(columns=columns).assign(confirmed=np.where(right, "yes", "NO"))
    return Sheet(lines.to_dict("records"), {"longest T": count})


def tensor_table(rows: pd.DataFrame) -> Sheet:
    """Memory of the naive form against n_z, as multiples of the weights."""
    lines = [
        {
            "n_z": row["Z"],
            "weights, kB": row["weight_bytes"] / 1e3,
            "forward pass / weights": row["forward_bytes"] / row["weight_bytes"],
            "training step / weights": row["peak_bytes"] / row["weight_bytes"],
        }
        for _, row in rows[rows["kind"] == "tensor"].sort_values("Z").iterrows()
    ]
    ratios = dict.fromkeys(("forward pass / weights", "training step / weights"), two)
    return Sheet(lines, {"n_z": count, "weights, kB": count, **ratios})


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    parts: list[Part] = [LEAD]
    under, steps, tensor = (rows[rows["kind"] == kind] for kind in ("under", "step", "tensor"))
    if len(under) and len(longest := longest_table(rows)):
        limit, row = three(under["limit_bytes"].iloc[0] / MB), under.iloc[0]
        plot = Plot("memory-against-T", "Peak of a training step against T", partial(peak_plot, rows))
        parts += [LONGEST.format(limit=limit, about=about(row, "BIHSZL")), longest, plot]
    if len(steps):
        parts += [STEP.format(about=about(steps.iloc[0])), ledger_table(rows)]
    if len(tensor):
        parts += [TENSOR.format(sizes=sizes(tensor.iloc[0], "TBIHSL")), tensor_table(rows)]
    return parts


def peak_plot(rows: pd.DataFrame) -> Figure:
    """Peak against T: lengths measured, hollow if they test the prediction, and the limit."""
    measured = rows[rows["kind"].isin(["length", "under", "over"])]
    figure, (axes,) = panels(1, 1, width=5.2, height=4.2)
    subset = measured[(measured["layer_norm"] == "off") | measured["implementation"].isin(ALTERNATIVES)].sort_values(
        "T"
    )
    for name in measured["implementation"].unique():
        points, style = subset[subset["implementation"] == name].set_index("T"), look(name)
        peaks, length = points["peak_bytes"] / MB, points["kind"] == "length"
        axes.plot(peaks, color=style["color"], linewidth=1.2, marker="")
        axes.plot(peaks[length], linestyle="", label=name, **style)
        axes.plot(peaks[~length], linestyle="", markerfacecolor="none", **style)
    for limit in measured["limit_bytes"].dropna().unique():
        axes.axhline(limit / MB, linestyle=":", linewidth=1.2, color=INK)
    axes.set(xscale="log", yscale="log", xlabel="T", ylabel="peak of a training step, MB")
    plain(axes.xaxis)
    plain(axes.yaxis)
    axes.legend(fontsize=9)
    return figure


PAGE = Page("memory", "Memory", _parts, study=True)
