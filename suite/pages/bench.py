"""Plots of the benchmark: how long everything takes beside an LSTM, how near to the hardware, how much it errs."""

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.bench_tables import bench_values, leading, without_busy
from suite.pages.page import Page
from suite.pages.plots import INK, look, panels, plain
from suite.shared.cases import BASELINE, ORDER

#: The workload and the length of the sequences of the error budget that error and speed are held together at.
WORKLOAD, STEPS = "medium", 100


def speed(rows: pd.DataFrame) -> Figure | None:
    """Draw the ladder: for each workload every implementation's time as a multiple of the LSTM's."""
    rows = without_busy(rows)
    timed = rows[rows["status"] == "ok"]
    if timed.empty:
        return None
    workloads = [group for _, group in timed.groupby(["dtype", "workload", "T", "B"], sort=False)]
    ladders = [[name for name in ORDER if (group["implementation"] == name).any()] for group in workloads]
    heights = [0.75 + 0.24 * len(names) + 0.9 / len(workloads) for names in ladders]
    figure, axes = panels(len(workloads), 1, width=5.2, height=heights)
    for panel, group, names in zip(axes, workloads, ladders, strict=True):
        for _, row in group.iterrows():
            style, train, norm = look(row["implementation"]), row["pass"] == "train", row["layer_norm"] == "on"
            style |= {} if train else {"marker": "|"}
            face = "none" if norm else style["color"]
            y = names.index(row["implementation"]) + (0.18 if norm else -0.18)
            panel.plot(
                leading(row).ratio.ratio, y, linestyle="", markerfacecolor=face, markersize=6 if train else 9, **style
            )
        panel.axvline(1, color=INK, linewidth=1, linestyle=":")
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set(xscale="log", title="{workload}, T {T}, B {B}, {dtype}".format_map(group.iloc[0]))
        plain(panel.xaxis, (1, 2, 5))
    axes[-1].set_xlabel(f"time / {BASELINE}")
    for marker, face, called in (("o", INK, "train"), ("o", "none", "train, layer norm"), ("|", INK, "forward")):
        axes[0].plot([], [], marker=marker, linestyle="", color=INK, markerfacecolor=face, label=called)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9)
    return figure


def roofline(rows: pd.DataFrame) -> Figure | None:
    """Draw the rate that each training step reaches against its multiply-adds a byte, below what the hardware allows.

    None for rows that no ceiling was measured for.
    """
    timed = rows[(rows["status"] == "ok") & (rows["pass"] == "train")]
    timed = timed.dropna(subset=["share", "least_bytes"]) if len(timed) else timed
    if timed.empty:
        return None
    intensity, rate = timed["multiply_adds"] / timed["least_bytes"], timed["multiply_adds"] / timed["median_s"]
    roof = rate / timed["share"]
    figure, (axes,) = panels(1, 1, width=5.2, height=4.0)
    for name in ORDER:
        own = timed["implementation"] == name
        if own.any():
            axes.plot(intensity[own], rate[own] / 1e9, linestyle="", label=name, **look(name))
    order = intensity.sort_values().index
    axes.plot(intensity[order], roof[order] / 1e9, "--", color=INK, linewidth=1, label="what the hardware allows")
    axes.set(xscale="log", yscale="log", xlabel="multiply-adds a byte, by formula", ylabel="10⁹ multiply-adds / s")
    plain(axes.xaxis, (1, 2, 5))
    plain(axes.yaxis, (1, 2, 5))
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    return figure


def error_against_speed(rows: pd.DataFrame, errors: pd.DataFrame) -> Figure | None:
    """Draw how much more than the naive form each implementation errs against its time, a panel for each dtype.

    errors: rows of errors.csv. A point is the median over tensors, its line reaches to the largest. None where nothing
    was both timed and held against the naive form.
    """
    if errors.empty:
        return None
    errors = errors[(errors["T"] == STEPS) & (errors["verdict"] != "not run")]
    timed = rows[(rows["status"] == "ok") & (rows["pass"] == "train") & (rows["workload"] == WORKLOAD)]
    by = ["dtype", "layer_norm", "implementation"]
    both = timed.merge(errors.groupby(by)["multiple"].agg(["median", "max"]), on=by)
    if both.empty:
        return None
    figure, axes = panels(both["dtype"].nunique(), 1, width=5.2, height=3.6)
    for panel, (dtype, group) in zip(axes, both.groupby("dtype", sort=False), strict=True):
        for _, row in group.iterrows():
            style = look(row["implementation"])
            face, label = ("none", None) if row["layer_norm"] == "on" else (style["color"], row["implementation"])
            panel.plot([leading(row).ratio.ratio] * 2, [row["median"], row["max"]], color=style["color"], linewidth=1)
            panel.plot(
                leading(row).ratio.ratio, row["median"], linestyle="", markerfacecolor=face, label=label, **style
            )
        panel.axhline(1, color=INK, linewidth=1, linestyle=":")
        panel.set(xscale="log", xlabel=f"time of training / {BASELINE}", ylabel="error / the naive form's")
        panel.set_title(f"{WORKLOAD}, {dtype}; errors at T {STEPS}")
        plain(panel.xaxis, (1, 2, 5))
    axes[0].plot([], [], marker="o", linestyle="", color=INK, markerfacecolor="none", label="with layer norm")
    axes[0].plot([], [], color=INK, linewidth=1, label="median to largest")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


PAGE = Page(
    "bench",
    bench_values,
    plots={"speed": speed, "roofline": roofline, "error-against-speed": error_against_speed},
    beside={"error-against-speed": "errors"},
)
