"""The error budget: rows of errors.csv, as tables and a plot."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Page, Values
from suite.pages.plots import INK, look, panels
from suite.pages.sheets import Format, Sheet
from suite.shared.cases import LADDER
from suite.shared.words import two


def _pair(one: Format) -> Format:
    return lambda found: ", ".join(map(one, found))


def _ran(rows: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """Return the measured rows by dtype and implementation."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for (dtype, name), group in rows[rows["verdict"] != "not run"].groupby(["dtype", "implementation"], sort=False):
        found.setdefault(dtype, {})[name] = group
    return found


def multiples_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each dtype and implementation: median and largest multiple by T, and where the largest is."""
    lines = []
    steps = {f"T {T}": T for T in sorted(rows["T"].unique())}
    for dtype, groups in _ran(rows).items():
        for name, group in groups.items():
            worst = group.loc[group["multiple"].idxmax()]
            line: dict[str, Any] = {"dtype": dtype, "implementation": name}
            for column, T in steps.items():
                multiples = group[group["T"] == T]["multiple"]
                line[column] = (multiples.median(), multiples.max()) if len(multiples) else None
            line["largest on"] = f"{worst['tensor']}, T {worst['T']}, norm {worst['layer_norm']}"
            line["verdict"] = "pass" if (group["verdict"] == "pass").all() else "FAIL"
            lines.append(line)
    return Sheet(lines, dict.fromkeys(steps, _pair(two)))


def drift_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each dtype, layer norm off and on: the naive form's own errors by T."""
    lines = []
    own = rows[(rows["implementation"] == LADDER[0]) & (rows["verdict"] != "not run")]
    for (dtype, layer_norm), group in own.groupby(["dtype", "layer_norm"], sort=False):
        line: dict[str, Any] = {"dtype": dtype, "layer norm": layer_norm}
        for T, here in group.groupby("T"):
            gradients = here[here["tensor"].str.startswith("grad ")]["error"]
            out = here[here["tensor"] == "out"]["error"].iloc[0]
            line[f"T {T}"] = (out, gradients.median()) if len(gradients) else (out,)
        lines.append(line)
    return Sheet(lines, dict.fromkeys((f"T {T}" for T in rows["T"].unique()), _pair("{:.1e}".format)))


def tensors_table(groups: Mapping[str, pd.DataFrame]) -> Sheet:
    """Return one line for each tensor: the largest multiple of each implementation over T, layer norm off and on."""
    tensors = list(dict.fromkeys(tensor for group in groups.values() for tensor in sorted(group["tensor"])))
    lines = []
    for tensor in tensors:
        largest = {name: group[group["tensor"] == tensor]["multiple"].max() for name, group in groups.items()}
        lines.append({"tensor": tensor.replace("layers.0.", "")} | largest)
    return Sheet(lines, dict.fromkeys(groups, two))


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
    return {
        "lead": errors_lead(rows),
        "multiples": multiples_table(rows),
        "missing": missing(rows),
        "drift": drift_table(rows),
        "tensors": [part for dtype, ran in _ran(rows).items() for part in (f"### {dtype}", tensors_table(ran))],
    }


def errors_plot(rows: pd.DataFrame) -> Figure:
    """Draw the error of the output and the median error of the gradients against T, with layer norm, by dtype."""
    found = _ran(rows)
    figure, axes = panels(max(len(found), 1), 2, height=2.4)
    for (dtype, groups), left, right in zip(found.items(), axes[::2], axes[1::2], strict=False):
        for name, group in groups.items():
            normed = group[group["layer_norm"] == "on"]
            parts = normed["tensor"] == "out", normed["tensor"].str.startswith("grad ")
            for axis, part in zip((left, right), parts, strict=True):
                axis.plot(normed[part].groupby("T")["error"].median(), label=name, markersize=5, **look(name))
        left.set(xscale="log", yscale="log", title=f"{dtype}: out", ylabel="relative error", xlabel="steps T")
        right.set(xscale="log", yscale="log", title=f"{dtype}: gradients, median", xlabel="steps T")
        for axis in (left, right):
            errors = np.concatenate([line.get_ydata() for line in axis.lines] or [[1.0]])
            if errors.size:  # whole decades, lest a tenth more look like a gulf
                axis.set_ylim(10 ** np.floor(np.log10(errors.min())), 10 ** np.ceil(np.log10(errors.max())))
        if dtype == "float64":
            right.set_axis_off()
            right.set_title("")
            right.text(0, 0.5, "no reference wider than float64\nfor gradients", transform=right.transAxes, color=INK)
    lines = {line.get_label(): line for axis in axes for line in axis.lines}
    figure.legend(handles=lines.values(), loc="outside lower center", ncols=3)
    return figure


PAGE = Page("errors", _values, plots={"errors": errors_plot})
