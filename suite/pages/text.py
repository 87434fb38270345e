"""The text page: rows of text.csv as what each model has learnt after the same time, and how fast."""

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Page, Values, page_of
from suite.pages.plots import look, panels, plain
from suite.pages.sheets import Columns, Sheet
from suite.pages.study_tables import latest, unfinished
from suite.shared.format import GROUP, count, label, percent, sizes


def text_table(rows: pd.DataFrame) -> Sheet:
    """Return a line for each model, the best after its time first."""
    curves = rows[(rows["kind"] == "curve") & (rows["status"] == "ok")].sort_values("seconds", kind="stable")
    ends = curves.groupby(GROUP, sort=False).tail(1)
    columns: Columns = {
        "model": "implementation",
        "layer norm": "layer_norm",
        "H": ("width", count),
        "parameters": ("parameters", count),
        "characters / s": (lambda row: row["characters"] / row["seconds"], count),
        "steps": ("steps", count),
        "seconds": ("seconds", "{:.1f}".format),
        "bits / character": ("bits", "{:.3f}".format),
    }
    return Sheet.of(ends[ends["steps"] > 0].sort_values("bits", kind="stable"), columns)


def _values(rows: pd.DataFrame) -> Values:
    measured = rows[rows["status"] == "ok"]
    if measured.empty:
        return {"measured": "", "unfinished": unfinished(rows), "text": ""}
    row = measured.iloc[0]
    words = {"classes": count(row["I"]), "dtype": row["dtype"], "sizes": sizes(row, "TBHSZL")}
    words |= {"learning_rate": f"{row['learning_rate']:g}", "clip": f"{row['clip']:g}"}
    words |= {"held_out": percent(row["held_out_share"])}
    found = page_of("text_measured", table=text_table(rows), **words)
    return {"measured": found, "unfinished": unfinished(rows), "text": f"Text of SHA-256 {row['sha256']}. "}


def text_curve(rows: pd.DataFrame) -> Figure | None:
    """Draw bits per character against seconds of training, from the first checkpoint on."""
    measured = rows[(rows["kind"] == "curve") & (rows["status"] == "ok")]
    if measured.empty:
        return None
    figure, (axes,) = panels(1, 1, width=5.2, height=4.4)
    for (_, _, norm, name), curve in measured.groupby(GROUP, sort=False):
        curve = curve[curve["steps"] > 0].sort_values("seconds")
        own, *larger = name.split(",")  # the LSTM of another width goes by the first one's looks, but hollow
        style = look(own) | {"linestyle": "--" if norm == "on" else ":" if larger else "-"}
        face = "none" if larger else style["color"]
        axes.plot(curve["seconds"], curve["bits"], label=label(name, norm), markerfacecolor=face, markersize=5, **style)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="bits per character, held-out text")
    plain(axes.xaxis, (1, 2, 5))
    axes.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1)
    return figure


PAGE = Page("text", _values, latest, {"text-curve": text_curve})
