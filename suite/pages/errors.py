"""The error budget: rows of errors.csv, as tables and a plot."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Page, Values
from suite.pages.plots import INK, look, panels
from suite.pages.sheets import Sheet
from suite.shared.cases import ORDER
from suite.shared.format import two


def multiples_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each dtype and implementation: median and largest multiple by T, and where the largest is."""
    lines = []
    steps = [f"T {T}" for T in sorted(rows["T"].unique())]
    for (dtype, name), group in rows[rows["verdict"] != "not run"].groupby(["dtype", "implementation"], sort=False):
        worst = group.loc[group["multiple"].idxmax()]
        line: dict[str, Any] = {"dtype": dtype, "implementation": name, **dict.fromkeys(steps)}
        line |= {f"T {T}": (here.median(), here.max()) for T, here in group.groupby("T")["multiple"]}
        line["largest on"] = f"{worst['tensor']}, T {worst['T']}, norm {worst['layer_norm']}"
        line["verdict"] = "pass" if (group["verdict"] == "pass").all() else "FAIL"
        lines.append(line)
    return Sheet(lines, dict.fromkeys(steps, lambda found: ", ".join(map(two, found))))


def drift_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each dtype, layer norm off and on: the naive form's own errors by T."""
    lines, steps = [], [f"T {T}" for T in rows["T"].unique()]
    own = rows[(rows["implementation"] == ORDER[0]) & (rows["verdict"] != "not run")]
    for (dtype, layer_norm), group in own.groupby(["dtype", "layer_norm"], sort=False):
        line: dict[str, Any] = {"dtype": dtype, "layer norm": layer_norm}
        for T, here in group.groupby("T"):
            gradients = here[here["tensor"].str.startswith("grad ")]["error"]
            out = here[here["tensor"] == "out"]["error"].iloc[0]
            line[f"T {T}"] = (out, gradients.median()) if len(gradients) else (out,)
        lines.append(line)
    return Sheet(lines, dict.fromkeys(steps, lambda found: ", ".join(map("{:.1e}".format, found))))


def tensors_table(ran: pd.DataFrame) -> Sheet:
    """Return one line for each tensor: the largest multiple of each implementation over T, layer norm off and on."""
    largest = ran.pivot_table("multiple", "tensor", "implementation", "max")[ran["implementation"].unique()]
    lines = largest.rename(lambda tensor: tensor.replace("layers.0.", "")).reset_index()
    return Sheet(lines.to_dict("records"), dict.fromkeys(largest, two))


def missing(rows: pd.DataFrame) -> str:
    """Say which implementations were not run in which dtype, and why."""
    skipped = rows[rows["verdict"] == "not run"].drop_duplicates(["implementation", "dtype"])
    return "\n".join(f"- {row['implementation']}, {row['dtype']}: {row['reason']}" for _, row in skipped.iterrows())


def errors_lead(rows: pd.DataFrame) -> str:
    """Return the sentence that the page is for."""
    ran = rows[rows["verdict"] != "not run"]
    if ran.empty:
        return "Nothing was run."
    worst = ran.loc[ran["multiple"].idxmax()]
    return (
        f"{(ran['verdict'] == 'pass').sum()} of {len(ran)} errors are within the rule; the largest is "
        f"{worst['multiple']:.2f} times what the full-tensor form errs in the same dtype: {worst['implementation']}, "
        f"{worst['tensor']}, {worst['dtype']}, T {worst['T']}."
    )


def _values(rows: pd.DataFrame) -> Values:
    by_dtype = rows[rows["verdict"] != "not run"].groupby("dtype", sort=False)
    return {
        "lead": errors_lead(rows),
        "multiples": multiples_table(rows),
        "missing": missing(rows),
        "drift": drift_table(rows),
        "tensors": [part for dtype, ran in by_dtype for part in (f"### {dtype}", tensors_table(ran))],
    }


def errors_plot(rows: pd.DataFrame) -> Figure:
    """Draw the error of the output and the median error of the gradients against T, with layer norm, by dtype."""
    ran = rows[(rows["layer_norm"] == "on") & (rows["verdict"] != "not run")]
    figure, axes = panels(max(ran["dtype"].nunique(), 1), 2, height=2.4)
    for (dtype, own), left, right in zip(ran.groupby("dtype", sort=False), axes[::2], axes[1::2], strict=False):
        for name, group in own.groupby("implementation", sort=False):
            parts = group["tensor"] == "out", group["tensor"].str.startswith("grad ")
            for axis, part in zip((left, right), parts, strict=True):
                axis.plot(group[part].groupby("T")["error"].median(), label=name, markersize=5, **look(name))
        left.set(xscale="log", yscale="log", title=f"{dtype}: out", ylabel="relative error", xlabel="steps T")
        right.set(xscale="log", yscale="log", title=f"{dtype}: gradients, median", xlabel="steps T")
        for axis in (left, right):
            least, most = axis.dataLim.intervaly
            if least <= most:  # whole decades, lest a tenth more look like a gulf
                axis.set_ylim(10 ** np.floor(np.log10(least)), 10 ** np.ceil(np.log10(most)))
        if dtype == "float64":
            right.set_axis_off()
            right.set_title("")
            right.text(0, 0.5, "no reference wider than float64\nfor gradients", transform=right.transAxes, color=INK)
    lines = {line.get_label(): line for axis in axes for line in axis.lines}
    figure.legend(handles=lines.values(), loc="outside lower center", ncols=3)
    return figure


PAGE = Page("errors", _values, plots={"errors": errors_plot})
