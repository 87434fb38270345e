"""The error budget: rows of errors.csv, as tables and a plot."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from impls import names
from suite.shared.tables import environments, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DTYPES = ("float64", "float32", "bfloat16", "float16")


def _ran(rows: pd.DataFrame, dtype: str) -> dict[str, pd.DataFrame]:
    """Return the measured rows of a dtype by implementation, in ladder order."""
    here = rows[(rows["dtype"] == dtype) & (rows["verdict"] != "not run")]
    groups = {name: here[here["implementation"] == name] for name in names()}
    return {name: group for name, group in groups.items() if len(group)}


def multiples_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each dtype and implementation: median and largest multiple by T, and where the largest is."""
    lines = []
    steps = sorted(rows["T"].unique())
    for dtype in DTYPES:
        for name, group in _ran(rows, dtype).items():
            line = {"dtype": dtype, "implementation": name}
            for T in steps:
                multiples = group[group["T"] == T]["multiple"]
                line[f"T {T}"] = f"{multiples.median():.2f}, {multiples.max():.2f}" if len(multiples) else "-"
            worst = group.loc[group["multiple"].idxmax()]
            line["largest on"] = f"{worst['tensor']}, T {worst['T']}, norm {worst['layer_norm']}"
            line["verdict"] = "pass" if (group["verdict"] == "pass").all() else "FAIL"
            lines.append(line)
    return pd.DataFrame(lines)


def drift_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each dtype, layer norm off and on: the naive form's own errors by T."""
    lines = []
    for dtype in DTYPES:
        own = _ran(rows, dtype).get(names()[0], rows[:0])
        for layer_norm in own["layer_norm"].unique():
            line = {"dtype": dtype, "layer norm": layer_norm}
            for T, group in own[own["layer_norm"] == layer_norm].groupby("T"):
                gradients = group[group["tensor"].str.startswith("grad ")]["error"]
                out = group[group["tensor"] == "out"]["error"].iloc[0]
                line[f"T {T}"] = f"{out:.1e}, {gradients.median():.1e}" if len(gradients) else f"{out:.1e}"
            lines.append(line)
    return pd.DataFrame(lines).fillna("-")


def tensors_table(rows: pd.DataFrame, dtype: str) -> pd.DataFrame:
    """Return one line for each tensor: the largest multiple of each implementation over T, layer norm off and on."""
    groups = _ran(rows, dtype)
    tensors = list(dict.fromkeys(tensor for group in groups.values() for tensor in sorted(group["tensor"])))
    lines = []
    for tensor in tensors:
        largest = {name: group[group["tensor"] == tensor]["multiple"].max() for name, group in groups.items()}
        lines.append({"tensor": tensor.replace("layers.0.", "")} | {n: f"{value:.2f}" for n, value in largest.items()})
    return pd.DataFrame(lines)


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


def errors_markdown(rows: pd.DataFrame) -> str:
    """Return errors.md."""
    by_tensor = [f"### {dtype}\n\n{markdown(tensors_table(rows, dtype))}\n" for dtype in DTYPES if _ran(rows, dtype)]
    return f"""# Error budget

**{errors_lead(rows)}**

{environments(rows)}

The error of a tensor is its relative L2 distance to the full-tensor form in float64 on the same numbers; that of
float64 itself, to a forward pass in numpy's long double, so there without gradients. A multiple is that error over the
naive form's own in the same dtype, and may be 2 plus the few eps of the rule.

![relative error of the output and of the gradients, by T](errors.svg)

## Multiples of the naive form's error

Median over all tensors, then the largest; layer norm off and on.

{markdown(multiples_table(rows))}

Not run:

{missing(rows)}

## What the naive form errs

The error of the output, then the median error of all gradients.

{markdown(drift_table(rows))}

## Tensor by tensor

The largest multiple over T, layer norm off and on.

{chr(10).join(by_tensor)}
Row by row: [errors.csv](errors.csv).
"""


def errors_plot(rows: pd.DataFrame) -> "Figure":
    """Draw the error of the output and the median error of the gradients against T, with layer norm, by dtype."""
    from suite.pages.plots import INK, look, panels, style

    dtypes = [dtype for dtype in DTYPES if _ran(rows, dtype)]
    figure, axes = panels(max(len(dtypes), 1), 2, height=2.4)
    for dtype, left, right in zip(dtypes, axes[::2], axes[1::2], strict=False):
        for name, group in _ran(rows, dtype).items():
            normed = group[group["layer_norm"] == "on"]
            colour_and_marker: dict[str, Any] = {**look(name)}
            parts = normed[normed["tensor"] == "out"], normed[normed["tensor"].str.startswith("grad ")]
            for axis, part in zip((left, right), parts, strict=True):
                errors = part.groupby("T")["error"].median()
                axis.plot(errors.index, errors, label=name, markersize=5, **colour_and_marker)
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
    with style():
        figure.legend(handles=lines.values(), loc="outside lower center", ncols=3)
    return figure
