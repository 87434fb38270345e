"""The page of the benchmark: how long everything takes compared with an LSTM, and what explains it."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from impls import names
from impls.registry import find
from suite.candidates.names import BASELINE, PADDED
from suite.cases.case import SIZES
from suite.cases.workloads import SHOWN, Pass
from suite.pages import text
from suite.pages.headline import summary
from suite.pages.plots import bar_plot
from suite.pages.ranking import decisive_pass, fastest, next_best, places, quoted, ranked, unable
from suite.results.format import (
    MB,
    NONE,
    NORM,
    count,
    heading,
    machine,
    origin,
    percent,
    ratio_text,
    setting,
    shortened,
    significant3,
    sizes,
    with_interval,
)
from suite.results.run import Run
from suite.results.statistics import interval
from suite.results.status import Ended, Status

#: The file of the plot of training.
TRAINING = f"training-{SHOWN}.svg"
#: What a plot shows beside its bars.
INTERVALS_SHOWN = (
    "lines are 95 % confidence intervals, where there were three visits or more, and the grey band is the noise floor: "
    f"{BASELINE} timed against itself"
)
#: Headings that fit a terminal of 80 columns, beside those of the pass that is judged.
SHORT = ("implementation", *(f"{timed}, ms" for timed in Pass), "verdict", "MB / LSTM", "busy")


def time_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Table of times, ratios and memory at a place, a line for each candidate."""
    decisive = decisive_pass(rows)
    of_memory = Pass.TRAIN if (rows["pass"] == Pass.TRAIN).any() else Pass.FORWARD
    headings = ["implementation"]
    for timed in Pass:
        headings += [f"{timed}, ms", f"{timed} / LSTM"]
        if timed == decisive:  # beside the figure that it judges
            headings += ["verdict", "/ padded"]
    headings += [f"{of_memory}, MB", "MB / LSTM", "of roofline", "busy"]
    lines = []
    for name, of_candidate in rows.groupby("implementation", sort=False):
        line = dict.fromkeys(headings, NONE) | {"implementation": str(name)}
        for _, row in of_candidate.iterrows():
            timed = row["pass"]
            ok = row["status"] == Status.OK
            line[f"{timed}, ms"] = significant3(1e3 * row["median_s"]) if ok else row["status"]
            line[f"{timed} / LSTM"] = figure(interval(row), with_interval) if ok else NONE
            if timed == of_memory:
                line[f"{timed}, MB"] = figure(row["peak_bytes"] / MB, significant3)
                line["MB / LSTM"] = figure(row["memory_ratio"], ratio_text)
            if timed == decisive:
                line["verdict"] = row["verdict"] or NONE
                line["/ padded"] = figure(row["to_padded"], ratio_text)
                line["of roofline"] = NONE if pd.isna(row["share"]) else f"{percent(row['share'])} {row['bound']}"
                line["busy"] = figure(row["busy"], percent)
        lines.append(line)
    return text.table_of(lines)


def figure(value: Any, write: Callable[[Any], str]) -> str:
    """Text of a figure, a dash for NaN."""
    return NONE if pd.isna(value[0] if isinstance(value, tuple) else value) else write(value)


def terminal_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of `time_table` that fit a terminal."""
    decisive = decisive_pass(rows)
    table = time_table(rows)
    shown = [*SHORT, f"{decisive} / LSTM", "/ padded"]
    if not {"/ padded", "busy"}.isdisjoint(table):  # which take the room of memory
        shown.remove("MB / LSTM")
    short: pd.DataFrame = table[[column for column in table if column in shown]]
    return short


def fastest_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Table of the implementations that train fastest, by workload."""
    lines = []
    for _, row in fastest(rows).iterrows():
        line = {
            "workload": setting(row),
            "layer norm": NORM[row["layer_norm"]],
            "fastest": row["implementation"],
            "train, ms": significant3(1e3 * row["median_s"]),
            "/ LSTM": with_interval(interval(row)),
            "work / LSTM": figure(row["work"], ratio_text),
            "next best": next_best_text(row, rows),
            "MB / LSTM": figure(row["memory_ratio"], ratio_text),
        }
        if pd.notna(row["to_padded"]):
            line["/ LSTM"] += f", padded {ratio_text(row['to_padded'])}"
        lines.append(line)
    return text.table_of(lines)


def next_best_text(row: pd.Series, rows: pd.DataFrame) -> str:
    """The fastest alternative beside a row, and its time over that of the row, by the ratios of both."""
    best = next_best(row, rows)
    return NONE if best is None else f"{ratio_text(best['ratio'] / row['ratio'])} {best['implementation']}"


def training_caption(row: pd.Series) -> str:
    return f"Time of a training step / {BASELINE}: {SHOWN} ({sizes(row, SIZES)}), {row['dtype']}, without layer norm"


def speed_panels(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By title, the rows of the pass that is judged, for each place.

    Leaves out the reference forms, beside which all other bars would be short.
    """
    literal = [name for name in names() if find(name).literal]
    panels = dict[str, pd.DataFrame]()
    for place in places(rows):
        shown = (
            place["ratio"].notna() & ~place["implementation"].isin(literal) & (place["pass"] == decisive_pass(place))
        )
        if shown.any():
            row = place[shown].iloc[0]
            norm = ", norm" if row["layer_norm"] else ""
            panels[f"{row['workload']}, {row['dtype']}{norm}, {row['pass']}\n{sizes(row, ('T', 'B'))}"] = place[shown]
    return panels


def hardware_table(rows: pd.DataFrame) -> pd.DataFrame:
    return text.table_of(
        [
            {
                "dtype": row["dtype"],
                "matrix product, GFLOP/s": count(2e-9 * row["multiply_adds_per_s"]),
                "by": row["product"],
                "side": count(row["side"]),
                "copy, GB/s": significant3(1e-9 * row["bytes_per_s"]),
            }
            for _, row in rows.iterrows()
        ]
    )


def about(rows: pd.DataFrame) -> str:
    """The sizes of a place and its noise floor."""
    row = rows.iloc[0]
    tokens = row["T"] * row["B"]
    sentences = [f"{sizes(row, ('I', 'H', 'S', 'Z', 'L'))}."]
    if row["tokens"] < tokens:
        sentences.append(f"Packed: {count(row['tokens'])} tokens instead of {count(tokens)}.")
    cut = shortened(row)
    if cut:
        sentences.append(f"Shortened: {', '.join(cut)}.")
    floors = rows.dropna(subset="floor").drop_duplicates("pass")
    if len(floors):
        shares = [f"{percent(timed['floor'])} ({timed['pass']})" for _, timed in floors.iterrows()]
        sentences.append(f"Noise floor: {', '.join(shares)}.")
    return " ".join(sentences)


def without_figures(rows: pd.DataFrame) -> Sequence[str]:
    """What was refused or failed, a sentence for each reason; rows: of a benchmark."""
    workloads: dict[tuple[str, str], dict[str, None]] = {}
    for _, row in rows[~rows["status"].isin([Status.OK, Status.NOT_RUN])].iterrows():
        workloads.setdefault((row["implementation"], str(Ended.of(row))), {})[row["workload"]] = None
    return [f"`{name}` on {', '.join(where)}: {ended}" for (name, ended), where in workloads.items()]


def page(run: Run) -> str:
    """Markdown of the page."""
    rows = ranked(run.rows)
    timed = quoted(rows, run.device, [SHOWN]).dropna(subset="ratio")
    return text.page(
        "bench.md",
        machine=machine(run),
        summary=summary(rows, run.device),
        origin=origin(run),
        fastest=fastest_table(rows),
        training=None if timed.empty else training_caption(timed.iloc[0]),
        training_file=TRAINING,
        intervals=INTERVALS_SHOWN,
        unable=unable(run.rows),
        places=[(heading(place.iloc[0]), about(place), time_table(place)) for place in places(rows)],
        failures=without_figures(run.rows),
        hardware=hardware_table(run.tables["hardware"]),
        baseline=BASELINE,
        padded=PADDED,
    )


def plots(run: Run) -> dict[str, Figure]:
    """Plots that the page shows, by the names of their files."""
    timed = quoted(ranked(run.rows), run.device, [SHOWN]).dropna(subset="ratio")
    return {} if timed.empty else {TRAINING: bar_plot({"": timed})}
