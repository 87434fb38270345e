"""The page of training on text: what each model has learned after the same time, and how fast."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Others, Page
from suite.pages.plots import look, panels, plain
from suite.pages.sheets import Columns, Part, Plot, Sheet
from suite.shared.format import GROUP, count, label, percent, sizes

LEAD = """Character models (embedding of {classes}, recurrent layer, softmax over {classes} classes) that train on
Python's language reference: {dtype}, {sizes}, Adam with learning rate {learning_rate:g}, gradients clipped at {clip:g}.
Each gets the same training time after one untimed warm-up step; evaluation time is excluded. Bits per character are
those of the last {held_out_share} of the text, which is not trained on. All HyperLSTMs start from the same values, so
with the same layer norm their curves differ by speed alone; one more has recurrent dropout, as the paper's models do.
Of the two LSTMs, one has the same width and the other as many parameters. Nothing was tuned, and after longer training
the order may differ."""


def text_table(rows: pd.DataFrame) -> Sheet:
    """Last checkpoint of each model, the best first."""
    ends = rows.sort_values("seconds", kind="stable").groupby(GROUP, sort=False).tail(1)
    columns: Columns = {
        "model": "implementation",
        "layer norm": "layer_norm",
        "H": ("width", count),
        "parameters": ("parameters", count),
        "characters / s": (lambda row: row["characters"] / row["seconds"], count),
        "steps": ("steps", count),
        "seconds": ("seconds", "{:.1f}".format),
        "bits per character": ("bits", "{:.3f}".format),
    }
    return Sheet.of(ends[ends["steps"] > 0].sort_values("bits", kind="stable"), columns)


def text_curve(rows: pd.DataFrame) -> Figure:
    """Bits per character against seconds of training, from the first checkpoint on."""
    figure, (axes,) = panels(1, 1, width=5.2, height=4.4)
    for (_, _, norm, name), curve in rows[rows["steps"] > 0].groupby(GROUP, sort=False):
        curve = curve.sort_values("seconds")
        own, *variant = name.split(",")  # a variant has the look of the candidate itself, but hollow
        style = look(own) | {"linestyle": "--" if norm == "on" else ":" if variant else "-"}
        face = "none" if variant else style["color"]
        axes.plot(curve["seconds"], curve["bits"], label=label(name, norm), markerfacecolor=face, markersize=5, **style)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="bits per character, held-out text")
    plain(axes.xaxis, (1, 2, 5))
    axes.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=1)
    return figure


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    row = rows.iloc[0]
    share, words = percent(row["held_out_share"]), {"classes": count(row["I"]), "sizes": sizes(row, "TBHSZL")}
    lead = LEAD.format_map(row.to_dict() | words | {"held_out_share": share})
    plot = Plot("text-curve", "Bits per character against seconds of training", partial(text_curve, rows))
    return [lead, text_table(rows), plot, f"SHA-256 of the text: {row['sha256']}."]


PAGE = Page("text", "Training on text", _parts, study=True)
