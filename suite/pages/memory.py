"""The memory page: rows of memory.csv as a ledger, as lengths that fit, and as the naive form's weight tensor."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.polynomial import Polynomial

from suite.pages.page import Page, Values, page_of
from suite.pages.plots import COLOURS, INK, look, panels, plain
from suite.pages.sheets import Columns, Part, Sheet
from suite.pages.study_tables import about, latest, unfinished
from suite.shared.cases import EXTERNAL, ORDER
from suite.shared.fits import fit
from suite.shared.format import GROUP, MB, count, label, sizes, status, three, two

#: The parts of a training step, by what they are called.
PARTS = {
    "parameters": "parameter_bytes",
    "gradients": "gradient_bytes",
    "saved": "kept_bytes",
    "workspace": "workspace_bytes",
}
#: What else the ledger shows of a step, where rows have it.
BESIDE = {
    "peak without residuals": "recomputed_bytes",
    "reserved": "reserved_bytes",
}


def ledger_table(rows: pd.DataFrame) -> Sheet:
    """Return what a training step consists of, a line for each implementation."""
    lines = []
    for _, row in rows[rows["kind"] == "step"].iterrows():
        line: dict[str, Any] = {"implementation": row["implementation"], "layer norm": row["layer_norm"]}
        ok = row["status"] == "ok"
        line |= {f"{name}, MB": row[column] / MB for name, column in PARTS.items() if ok}
        line["peak, MB"] = row["peak_bytes"] / MB if ok else status(row)
        line["saved, B a step and sample"] = row["kept_bytes"] / (row["T"] * row["B"]) if ok else None
        lines.append(line | {f"{name}, MB": row[column] / MB for name, column in BESIDE.items() if column in rows})
    megabytes = [f"{name}, MB" for name in (*PARTS, "peak", *BESIDE)]
    return Sheet(lines, dict.fromkeys(megabytes, three) | {"saved, B a step and sample": count})


def longest_table(rows: pd.DataFrame) -> Sheet:
    """Return the longest T that fits as predicted, and what runs just under and just over it came to."""
    under, over = (rows[rows["kind"] == kind] for kind in ("under", "over"))
    both = under.merge(over, on=GROUP, suffixes=("", "_over"))
    fits = (both["status"] == "ok") & (both["peak_bytes"] <= both["limit_bytes"])
    exceeds = (both["status_over"] == "out of memory") | (both["peak_bytes_over"] > both["limit_bytes"])
    columns: Columns = {
        "implementation": "implementation",
        "layer norm": "layer_norm",
        "limit, MB": (lambda row: row["limit_bytes"] / MB, three),
        "longest T, predicted": ("longest", count),
        "a run under": (lambda row: (row["T"], row["status"], row["peak_bytes"]), _came_to),
        "a run over": (lambda row: (row["T_over"], row["status_over"], row["peak_bytes_over"]), _came_to),
        "confirmed": "confirmed",
    }
    return Sheet.of(both.assign(confirmed=np.where(fits & exceeds, "yes", "NO")), columns)


def _came_to(run: tuple[int, str, float]) -> str:
    T, status, peak = run
    return f"{count(T)}: {f'{three(peak / MB)} MB' if status == 'ok' else status}"


def tensor_table(rows: pd.DataFrame) -> Sheet:
    """Return what the naive form takes against n_z, in multiples of the weights that its tensor is made of."""
    columns: Columns = {
        "n_z": ("Z", count),
        "weights, kB": (lambda row: row["weight_bytes"] / 1e3, count),
        "n_z times them, kB": (lambda row: row["Z"] * row["weight_bytes"] / 1e3, count),
        "forward, kB": (lambda row: row["forward_bytes"] / 1e3, count),
        "forward / weights": (lambda row: row["forward_bytes"] / row["weight_bytes"], two),
        "train, kB": (lambda row: row["peak_bytes"] / 1e3, count),
        "train / weights": (lambda row: row["peak_bytes"] / row["weight_bytes"], two),
    }
    return Sheet.of(rows[rows["kind"] == "tensor"].sort_values("Z"), columns)


def tensor_line(rows: pd.DataFrame, column: str) -> Polynomial:
    """Return the line of a column against n_z, in multiples of the weights."""
    tensor = rows[rows["kind"] == "tensor"]
    return fit(list(tensor["Z"]), list(tensor[column] / tensor["weight_bytes"]))


def _values(rows: pd.DataFrame) -> Values:
    under, steps, tensor = (rows[rows["kind"] == kind] for kind in ("under", "step", "tensor"))
    found: dict[str, list[Part]] = {"longest": [], "step": [], "tensor": []}
    if len(under) and len(longest := longest_table(rows)):
        limit = three(under["limit_bytes"].iloc[0] / MB)
        words = {"limit": limit, "about": about(under.iloc[0], "BIHSZL")}
        found["longest"] = page_of("memory_longest", table=longest, **words)
    if len(steps):
        found["step"] = page_of("memory_step", table=ledger_table(rows), about=about(steps.iloc[0]))
    if len(tensor):
        words = {name: two(tensor_line(rows, f"{name}_bytes").coef[1]) for name in ("forward", "peak")}
        words["sizes"] = sizes(tensor.iloc[0], "TBIHSL")
        found["tensor"] = page_of("memory_tensor", table=tensor_table(rows), **words)
    return {**found, "unfinished": unfinished(rows)}


def peak_against_steps(rows: pd.DataFrame) -> Figure | None:
    """Draw the peak against T: lengths measured, the line fitted, and the runs about the limit."""
    measured = rows[rows["kind"].isin(["length", "under", "over"]) & (rows["status"] == "ok")]
    if measured.empty:
        return None
    figure, (axes,) = panels(1, 1, width=5.2, height=4.2)
    shown = measured[(measured["layer_norm"] == "off") | measured["implementation"].isin(EXTERNAL)].sort_values("T")
    for name in measured["implementation"].unique():
        points, style = shown[shown["implementation"] == name].set_index("T"), look(name)
        peaks, measured_at = points["peak_bytes"] / MB, points["kind"] == "length"
        axes.plot(peaks, color=style["color"], linewidth=1.2, marker="")
        axes.plot(peaks[measured_at], linestyle="", label=name, **style)
        axes.plot(peaks[~measured_at], linestyle="", markerfacecolor="none", **style)
    for limit in measured["limit_bytes"].dropna().unique():
        axes.axhline(limit / MB, linestyle=":", linewidth=1.2, color=INK)
    axes.set(xscale="log", yscale="log", xlabel="T, steps", ylabel="peak of a training step, MB")
    plain(axes.xaxis)
    plain(axes.yaxis)
    axes.legend(fontsize=9)
    return figure


def step_parts(rows: pd.DataFrame) -> Figure | None:
    """Draw the parts of a training step as bars on top of one another."""
    steps = rows[(rows["kind"] == "step") & (rows["status"] == "ok")]
    if steps.empty:
        return None
    figure, (axes,) = panels(1, 1, width=5.2, height=1.2 + 0.32 * len(steps))
    labels = list(map(label, steps["implementation"], steps["layer_norm"]))
    left = pd.Series(0.0, index=steps.index)
    for (name, column), colour in zip(PARTS.items(), COLOURS[4::-1], strict=False):
        axes.barh(labels, steps[column] / MB, left=left, color=colour, label=name, height=0.7)
        left += steps[column] / MB
    axes.invert_yaxis()
    # The naive form would leave nothing of the others to see: a bar that is cut off has its figure beside it.
    end = 1.3 * float(steps.loc[steps["implementation"] != ORDER[0], "peak_bytes"].max()) / MB
    if math.isfinite(end):
        axes.set_xlim(0, end)
        for place, whole in enumerate(left):
            if whole > end:
                axes.annotate(f"{whole:,.0f} MB", (end, place), ha="right", va="center", color="#0d1117", fontsize=9)
    axes.set(xlabel="MB")
    axes.legend(fontsize=9, ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1.0), columnspacing=1, handlelength=1)
    return figure


def tensor_plot(rows: pd.DataFrame) -> Figure | None:
    """Draw what the naive form takes against n_z, beside n_z times the weights."""
    tensor = rows[rows["kind"] == "tensor"].sort_values("Z")
    if tensor.empty:
        return None
    figure, (axes,) = panels(1, 1, width=5.2, height=3.4)
    style: dict[str, Any] = look("naive") | {"linewidth": 1.2}
    axes.plot(tensor["Z"], tensor["peak_bytes"] / MB, label="training step", **style)
    axes.plot(tensor["Z"], tensor["forward_bytes"] / MB, label="forward pass", markerfacecolor="none", **style)
    axes.plot(tensor["Z"], tensor["Z"] * tensor["weight_bytes"] / MB, "--", color=INK, label="n_z times the weights")
    axes.set(xlabel="n_z", ylabel="MB of the naive form", xlim=(0, None), ylim=(0, None))
    axes.legend(fontsize=9)
    return figure


PLOTS = {"memory-against-T": peak_against_steps, "memory-parts": step_parts, "memory-tensor": tensor_plot}
PAGE = Page("memory", _values, latest, PLOTS)
