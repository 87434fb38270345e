"""The page of threads: times and speedups, those of our fastest implementation and torch.nn.LSTM's."""

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Others, Page, about
from suite.pages.plots import COLOURS, INK, MARKERS, panels
from suite.pages.sheets import Part, Plot, Sheet
from suite.shared.cases import BASELINE
from suite.shared.format import three, two

_PASSES = {"forward": "forward", "train": "training"}

LEAD = """{about}: a forward pass without gradient and a training step without an optimiser, with 1 thread up to
{threads}, the number that torch uses by default. Times are medians of visits to fresh processes, in each of which
rounds of the two candidates alternate. A speedup is the time with one thread over that with more."""


def _times(rows: pd.DataFrame) -> pd.DataFrame:
    """Median times by pass, B and threads, a column for each candidate, ours first."""
    medians = rows.astype({"n": int}).pivot_table("median_s", ["pass", "B", "n"], "implementation")
    ours_first: pd.DataFrame = medians[sorted(medians, key=lambda name: name == BASELINE)]
    return ours_first


def threads_table(rows: pd.DataFrame) -> Sheet:
    """Table of times, speedups and ratios, a line for each pass, B and number of threads."""
    times, lines = _times(rows), []
    for (step, B, threads), (_, row) in zip(times.index.to_list(), times.iterrows(), strict=True):
        line: dict[str, Any] = {"pass": _PASSES[step], "B": B, "threads": threads}
        for name, one in times.loc[(step, B)].iloc[0].items():
            line |= {f"{name}, ms": 1e3 * row[name], f"{name}, speedup": one / row[name]}
        lines.append(line | {"/ LSTM": row.iloc[0] / row[BASELINE] if BASELINE in row.index[1:] else None})
    formats = {f"{name}, ms": three for name in times} | {f"{name}, speedup": two for name in times}
    return Sheet(lines, {"B": str, "threads": str, **formats, "/ LSTM": two})


def speedup_plot(rows: pd.DataFrame) -> Figure:
    """Speedup over one thread: a row of panels for each pass, a column for each candidate."""
    times = _times(rows)
    figure, axes = panels(len(_PASSES), len(times.columns))
    most = max(times.index.unique("n"))
    for panel, (step, name) in zip(axes, [(step, name) for step in _PASSES for name in times], strict=True):
        panel.plot([1, most], [1, most], color=INK, linewidth=0.8, linestyle=":")
        measured = times[name].dropna()
        for k, B in enumerate(times.index.unique("B")):
            if (step, B) in measured.index:
                curve = measured.loc[(step, B)]
                panel.plot(curve.index, curve.iloc[0] / curve, color=COLOURS[k], marker=MARKERS[k], label=f"B {B}")
        panel.set(title=f"{name}, {_PASSES[step]}", xlabel="threads", ylabel="speedup over one thread")
        panel.set_xticks(range(1, most + 1, max(1, most // 8)))
    axes[0].legend()
    return figure


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    row = rows.iloc[0]
    lead = LEAD.format(about=about(row, "TIHSZL"), threads=row["threads"])
    plot = Plot("threads", "Speedup over one thread", partial(speedup_plot, rows))
    return [lead, threads_table(rows), plot]


PAGE = Page("threads", "Threads", _parts, study=True)
