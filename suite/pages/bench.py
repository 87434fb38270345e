"""The page of the benchmark: how long everything takes compared with an LSTM, and what explains it."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.bench_tables import (
    HEADING,
    NOT_RUN,
    PLACE,
    TITLE,
    bench_summary,
    compared,
    headline,
    not_run,
    time_table,
)
from suite.pages.page import Others, Page, Part, Plot, Sheet
from suite.pages.plots import bar_plot
from suite.shared.cases import BASELINE, PADDED
from suite.shared.format import count, percent, significant3, sizes
from suite.shared.tables import MEANING

#: The workload of the plot and of the README's table, in float32 without layer norm.
WORKLOAD = "medium"

READ = f"""## How to read this

A time is that of a forward pass without gradient, or of a training step: forward, mean square, backward, without an
optimiser. */ LSTM* is its ratio to `{BASELINE}` with the same I, H, L, T and B, which has neither a hypernetwork nor
layer norm: the median of visits to fresh processes, with a 95 % confidence interval between them. Below 1 is faster.
*work / LSTM* is the ratio of multiply-adds, and */ compiled*, */ labml* and */ jax* are ratios of times to theirs;
`compiled` is `batched` with its step through `torch.compile`, and labml's module exists only with layer norm.

The row of `{BASELINE}` compares the baseline with itself; how far its interval reaches from 1 is the noise floor. A
verdict is about the training step or, where B is 1, the forward pass. *faster* and *slower* mean that the whole
interval is beyond the noise floor; otherwise it is *undecided*. *few visits* are fewer than the three that an interval
takes. Times include the input projection and any per-call packing or allocation, of the baseline too, but not building,
compiling and loading.

*Ragged* workloads are packed sequences with lengths uniform in [T/4, T]. `{PADDED}` runs all steps of all rows, which
can take less time than `{BASELINE}` on packed ones. *tf32* is float32 with products in TF32; float32 itself is IEEE for
all, cuDNN included. On a GPU, a time is that of calls in a row, none of which waits for the one before, as in training.

- *train, MB*: {MEANING["peak_bytes"]}
- *of roofline*: {MEANING["share"]}
- *refused*: the verification on this machine failed or is stale, or a check at the sizes of the workload failed.

suite/measure/README.md says how it is measured, suite/shared/tables.toml what further columns bench.csv has.
"""
HARDWARE = """## The hardware

*of roofline* is relative to these rates: the faster one of torch.mm and oneDNN on square matrices, and a large copy,
whose bytes are read and written; each the best of some rounds.
"""
TWICE = """## The same code twice

Of two runs of the same code, one after the other, {differ} of {rows} rows differ as `nox -s compare` sees it: their
intervals do not overlap, and the ratios differ by more than 20 %. *largest* is the largest change of a ratio.
"""


def readme_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Training rows of `WORKLOAD` in float32 without layer norm, as `compared` gives them."""
    place = {"workload": WORKLOAD, "dtype": "float32", "layer_norm": "off", "pass": "train"}
    return compared(rows).merge(pd.DataFrame([place]))


def training(rows: pd.DataFrame) -> Figure:
    """Milliseconds per training step, a bar for each candidate; rows: of `readme_rows`, with figures.

    A bar is the ratio times the baseline's median over all rows, so that bars compare as ratios do.
    """
    ratios = dict(zip(rows["implementation"], rows["ratio"], strict=True)) | {BASELINE: 1.0}
    lstm = 1e3 * (rows["median_s"] / rows["ratio"]).median()
    return bar_plot({"": {name: lstm * ratio for name, ratio in ratios.items()}}, " ms", "ms per training step")


def training_caption(row: pd.Series) -> str:
    return f"Milliseconds per training step: {WORKLOAD} ({sizes(row, 'TBIHSZL')}), float32, without layer norm"


def speed_bars(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Times of the pass that counts relative to the LSTM's, by place and candidate; rows: of `compared`.

    Leaves out the reference forms, beside which all other bars would be short.
    """
    counts = rows[rows["ratio"].notna() & ((rows["B"] == 1) == (rows["pass"] == "forward"))]
    bars = {}
    for _, place in counts[~counts["implementation"].isin(["naive", "row_scaled"])].groupby(PLACE, sort=False):
        row = place.iloc[0]
        norm = ", norm" if row["layer_norm"] == "on" else ""
        title = f"{row['workload']}, {row['dtype']}{norm}, {row['pass']}\n{sizes(row, 'TB')}"
        bars[title] = dict(zip(place["implementation"], place["ratio"], strict=True))
    return bars


def hardware_table(rows: pd.DataFrame) -> Sheet:
    product, copy = "matrix product, GFLOP/s", "copy, GB/s"
    figures = {product: 2e-9 * rows["multiply_adds_per_s"], copy: 1e-9 * rows["bytes_per_s"], "by": rows["product"]}
    lines = rows.assign(**figures)[["dtype", product, "by", "side", copy]].to_dict("records")
    return Sheet(lines, {product: count, "side": count, copy: significant3})


def twice_table(rows: pd.DataFrame) -> Sheet:
    titled = rows.assign(workload=[TITLE.format_map(row) for _, row in rows.iterrows()])
    lines = titled[["workload", "rows", "differ", "largest"]].to_dict("records")
    return Sheet(lines, {"rows": count, "differ": count, "largest": percent})


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    lead = "\n\n".join(f"**{sentence}**" for sentence in headline(rows))
    parts = list[Part]([lead or "No implementation was timed."])
    if len(summary := bench_summary(rows)):
        parts += ["## The fastest to train", summary]
    timed = readme_rows(rows).dropna(subset="ratio")
    if len(timed):
        caption = f"{training_caption(timed.iloc[0])}; ratio times the median of {BASELINE}"
        parts.append(Plot(f"training-{WORKLOAD}", caption, partial(training, timed), committed=True))
    if bars := speed_bars(compared(rows)):
        caption = f"Time as a multiple of that of {BASELINE}"
        parts.append(Plot("speed", caption, partial(bar_plot, bars, "", f"time / {BASELINE}", columns=2)))
    parts += not_run(rows)
    for _, place in compared(rows).groupby(PLACE, sort=False):
        parts += [_heading(place), time_table(place)]
    failed = rows[(rows["status"] != "ok") & ~rows["status"].str.startswith(NOT_RUN)]
    without = failed.groupby(["implementation", "status"], sort=False)["workload"].unique()
    if len(without):
        lines = [f"- `{name}` on {', '.join(where)}: {status}" for (name, status), where in without.items()]
        parts.append("\n".join(["## What has no figures\n", *lines]))
    parts.append(READ)
    if "twice" in others:
        twice = others["twice"]
        parts += [TWICE.format(differ=twice["differ"].sum(), rows=twice["rows"].sum()), twice_table(twice)]
    if "hardware" in others:
        parts += [HARDWARE, hardware_table(others["hardware"])]
    return parts


def _heading(place: pd.DataFrame) -> str:
    """Title of the section of a place, its sizes and its noise floor."""
    row, tokens = place.iloc[0], place["T"].iloc[0] * place["B"].iloc[0]
    sentences = [f"{sizes(row, 'IHSZL')}."]
    if row["tokens"] < tokens:
        sentences.append(f"Packed: {count(row['tokens'])} tokens instead of {count(tokens)}.")
    if pd.notna(row["shortened"]) and row["shortened"]:
        sentences.append(f"Shortened: {row['shortened']}.")
    floors = place.dropna(subset="floor").drop_duplicates("pass")
    if len(floors):
        each = [f"{percent(floor)} ({step})" for step, floor in zip(floors["pass"], floors["floor"], strict=True)]
        sentences.append(f"Noise floor: {', '.join(each)}.")
    return f"## {HEADING.format_map(row)}\n\n{' '.join(sentences)}"


PAGE = Page("bench", "Benchmark", _parts, others=("hardware", "twice"))
