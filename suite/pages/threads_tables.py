"""The page on threads: rows of threads.csv as times and speedups, ours beside torch.nn.LSTM's."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.page import Page, Values
from suite.pages.plots import COLOURS, INK, MARKERS, panels
from suite.pages.sheets import Sheet
from suite.pages.study_tables import about, latest, unfinished
from suite.shared.cases import BASELINE
from suite.shared.words import three, two

_PASSES = {"forward": "forward", "train": "training"}


def _timed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the points that have a time."""
    found: pd.DataFrame = rows[rows["status"] == "ok"].astype({"n": int})
    return found


def _subjects(rows: pd.DataFrame) -> list[str]:
    """Return what has points: ours first, then torch's LSTM."""
    return sorted(rows["implementation"].unique(), key=lambda name: name == BASELINE)


def _curve(rows: pd.DataFrame, name: str, step: str, B: int) -> pd.Series:
    """Return median times by threads."""
    here = rows[(rows["implementation"] == name) & (rows["pass"] == step) & (rows["B"] == B)]
    found: pd.Series = here.set_index("n")["median_s"].sort_index()
    return found


def threads_table(rows: pd.DataFrame) -> Sheet:
    """Return a line for each pass, B and number of threads: times, speedups over one thread, and their ratio."""
    rows, lines = _timed(rows), []
    for step, word in _PASSES.items():
        for B in sorted(rows["B"].unique()):
            curves = {name: _curve(rows, name, step, B) for name in _subjects(rows)}
            for threads in sorted({n for curve in curves.values() for n in curve.index}):
                line: dict[str, Any] = {"pass": word, "B": int(B), "threads": int(threads)}
                times = {name: curve.get(threads) for name, curve in curves.items()}
                for name, time in times.items():
                    line[f"{name}, ms"] = None if time is None else 1e3 * time
                    line[f"{name}, speedup"] = None if time is None else curves[name].get(1) / time
                ours, theirs = next((t for n, t in times.items() if n != BASELINE), None), times.get(BASELINE)
                line["/ LSTM"] = None if ours is None or theirs is None else ours / theirs
                lines.append(line)
    names = _subjects(rows)
    formats = {f"{name}, ms": three for name in names} | {f"{name}, speedup": two for name in names}
    return Sheet(lines, {"B": str, "threads": str, **formats, "/ LSTM": two})


def speedup_plot(rows: pd.DataFrame) -> Figure | None:
    """Draw the speedup over one thread against threads: passes below each other, ours and torch's LSTM side by side."""
    rows = _timed(rows)
    if rows.empty:
        return None
    names = _subjects(rows)
    figure, axes = panels(len(_PASSES), len(names))
    most = int(rows["n"].max())
    for panel, (step, name) in zip(axes, [(step, name) for step in _PASSES for name in names], strict=True):
        panel.plot([1, most], [1, most], color=INK, linewidth=0.8, linestyle=":")
        for k, B in enumerate(sorted(rows["B"].unique())):
            curve = _curve(rows, name, step, B)
            if len(curve):
                panel.plot(curve.index, curve.iloc[0] / curve, color=COLOURS[k], marker=MARKERS[k], label=f"B {B}")
        panel.set(title=f"{name}, {_PASSES[step]}", xlabel="threads", ylabel="speedup over one thread")
        panel.set_xticks(range(1, most + 1, max(1, most // 8)))
    axes[0].legend()
    return figure


def _values(rows: pd.DataFrame) -> Values:
    row, timed = rows.iloc[0], _timed(rows)
    points = str(timed["n"].max()) if len(timed) else "0"
    words = {"about": about(row, "TIHSZL"), "threads": str(row["threads"]), "points": points}
    return {**words, "table": threads_table(rows), "unfinished": unfinished(rows)}


PAGE = Page("threads", _values, latest, {"threads": speedup_plot})
