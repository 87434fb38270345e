"""The text page: rows of text.csv as what each model has learnt after the same time, and how fast."""

from typing import TYPE_CHECKING

import pandas as pd

from suite.pages.sheets import Part, Sheet, page_of
from suite.pages.study_tables import latest, unfinished
from suite.pages.words import GROUP, count, label, made_on, percent, sizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def text_table(rows: pd.DataFrame) -> Sheet:
    """Return a line for each model, the best after its time first."""
    lines = []
    for _, curve in rows[(rows["kind"] == "curve") & (rows["status"] == "ok")].groupby(GROUP, sort=False):
        last = curve.sort_values("seconds").iloc[-1]
        if last["steps"] == 0:
            continue
        lines.append(
            {
                "model": last["implementation"],
                "layer norm": last["layer_norm"],
                "H": last["width"],
                "parameters": last["parameters"],
                "characters / s": last["characters"] / last["seconds"],
                "steps": last["steps"],
                "seconds": last["seconds"],
                "bits / character": last["bits"],
            }
        )
    counts = dict.fromkeys(("H", "parameters", "characters / s", "steps"), count)
    lines.sort(key=lambda line: line["bits / character"])
    return Sheet(lines, counts | {"seconds": "{:.1f}".format, "bits / character": "{:.3f}".format})


def text_page(rows: pd.DataFrame) -> list[Part]:
    """Return the page."""
    rows = latest(rows)
    measured = rows[rows["status"] == "ok"]
    if measured.empty:
        return [f"# Training on text\n\n{made_on(rows)}\n\n{unfinished(rows)}"]
    row = measured.iloc[0]
    words = {"classes": count(row["I"]), "dtype": row["dtype"], "sizes": sizes(row, "TBHSZL"), "sha256": row["sha256"]}
    words |= {"learning_rate": f"{row['learning_rate']:g}", "clip": f"{row['clip']:g}"}
    words |= {"held_out": percent(row["held_out_share"]), "unfinished": unfinished(rows)}
    return page_of("text", rows, table=text_table(rows), **words)


def text_curve(rows: pd.DataFrame) -> "Figure | None":
    """Draw bits per character against seconds of training, from the first checkpoint on."""
    rows = latest(rows)
    from suite.pages.plots import look, panels, plain

    measured = rows[(rows["kind"] == "curve") & (rows["status"] == "ok")]
    if measured.empty:
        return None
    figure, (axes,) = panels(1, 1, width=5.2, height=4.4)
    for _, curve in measured.groupby(GROUP, sort=False):
        name, norm = str(curve["implementation"].iloc[0]), str(curve["layer_norm"].iloc[0])
        curve = curve[curve["steps"] > 0].sort_values("seconds")
        own, *larger = name.split(",")  # the LSTM of another width goes by the first one's looks, but hollow
        style = look(own) | {"linestyle": "--" if norm == "on" else ":" if larger else "-"}
        face = "none" if larger else style["color"]
        axes.plot(curve["seconds"], curve["bits"], label=label(name, norm), markerfacecolor=face, markersize=5, **style)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="bits per character, held-out text")
    plain(axes.xaxis, (1, 2, 5))
    axes.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1)
    return figure
