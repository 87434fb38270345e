"""The page of the benchmark: how long everything takes compared with an LSTM, and what explains it."""

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.bench_tables import (
    NOT_RUN,
    PLACE,
    TITLE,
    bench_summary,
    compared,
    headline,
    not_run,
    time_table,
    without_busy,
)
from suite.pages.page import Others, Page
from suite.pages.plots import bar_plot
from suite.pages.sheets import Part, Plot, Sheet
from suite.shared.cases import BASELINE, PADDED
from suite.shared.format import count, percent, significant3, sizes
from suite.shared.tables import MEANING

#: The workload of the plot and of the README's table, in float32 without layer norm.
WORKLOAD = "medium"

READ = f"""## How to read this

A time is that of a forward pass without gradient, or of a training step: forward, mean square, backward, without an
optimiser. It is the median of visits, each in a fresh process, in which rounds of the implementation and of
`{BASELINE}` with the same I, H, L, T and B alternate. */ LSTM* is the median ratio of the visits, with a 95 %
confidence interval between them; below 1 is faster than the LSTM, which has neither a hypernetwork nor layer norm.
*work / LSTM* is the ratio of multiply-adds. */ row_scaled*, */ compiled*, */ labml* and */ jax* are ratios of times to
theirs; `compiled` is `batched` with its step through `torch.compile`, and labml's module exists only with layer norm.

The row of `{BASELINE}` compares the baseline with itself; how far its interval reaches from 1 is the noise floor. A
verdict is about the training step or, where B is 1, the forward pass. *faster* and *slower* mean that the whole
interval is beyond the noise floor; otherwise it is *undecided*.

Every timing includes the input projection and any per-call packing or allocation; so does the baseline's. Building,
compiling and loading are excluded. An implementation is *refused* if its verification on this machine failed or is
stale, or if it fails a check at the sizes of the workload in the first visit.

On a GPU, each call starts on an idle device with an empty cache. *in a loop* is a call among others that do not wait
for one another, as in training. On small, medium and stream this figure comes first and is the one that counts.
float32 is IEEE float32 for all, cuDNN included; *tf32* is float32 with products in TF32, for all.

*Ragged* workloads are packed sequences with lengths uniform in [T/4, T]. The lengths differ from round to round, and
are the same for both sides of a round and in every visit. Only implementations whose time follows the number of tokens
are timed on them. `{PADDED}` runs all steps of all rows, which can take less time than `{BASELINE}` on packed ones.

"""
#: Columns of the tables, by the columns of bench.csv that they are made of.
GLOSSARY = {"train, MB": "peak_bytes", "of roofline": "share"}
NOTES = """\
- *notes*: a round is *disturbed* if its baseline took 1.5 times the median of the visit.
  *baseline without cuDNN*: a profiled pass of the baseline on a GPU ran no kernel of
  cuDNN. *busy machine*: other processes took more than a quarter of a core that the pass needs, so the row counts in no
  summary. *one visit*, *two visits*: too few for an interval. *unverified*, *stale*, *red*: see the page *verify*.
- Operator calls, saved memory, first calls and rates are in bench.csv; suite/shared/tables.toml explains its columns.
"""
HARDWARE = """## The hardware

*of roofline* is relative to these rates: the faster one of torch.mm and oneDNN on square matrices, and a large copy,
whose bytes are read and written; each the best of some rounds.
"""
TWICE = """## The same code twice

Of two runs of the same code, one after the other, {differ} of {rows} rows differ as `nox -s compare` sees it: their
intervals do not overlap, and the ratios differ by more than 20 % and the noise floor.
"""


def readme_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Training rows of `WORKLOAD` in float32 without layer norm, as `compared` gives them."""
    every = compared(without_busy(rows))
    every = every[(every["workload"] == WORKLOAD) & (every["dtype"] == "float32") & (every["layer_norm"] == "off")]
    training: pd.DataFrame = every[every["pass"] == "train"]
    return training


def training(rows: pd.DataFrame) -> Figure:
    """Milliseconds per training step, a bar for each candidate; rows: those of `readme_rows` with figures.

    A bar is the ratio times the baseline's median over all rows, so that bars compare as ratios do.
    """
    ratios = dict(zip(rows["implementation"], rows["relative"], strict=True)) | {BASELINE: 1.0}
    lstm = 1e3 * (rows["seconds"] / rows["relative"]).median()
    return bar_plot({"": {name: lstm * ratio for name, ratio in ratios.items()}}, " ms", "ms per training step")


def training_caption(row: pd.Series) -> str:
    return f"Milliseconds per training step: {WORKLOAD} ({sizes(row, 'TBIHSZL')}), float32, without layer norm"


def speed_bars(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Times of the pass that counts as multiples of the LSTM's, by place and candidate; rows: of `compared`.

    Without the forms that are there to be read, beside which all others would be short.
    """
    counts = rows[rows["relative"].notna() & ((rows["B"] == 1) == (rows["pass"] == "forward"))]
    bars = {}
    for _, place in counts[~counts["implementation"].isin(["naive", "row_scaled"])].groupby(PLACE, sort=False):
        row = place.iloc[0]
        norm = ", norm" if row["layer_norm"] == "on" else ""
        title = f"{row['workload']}, {row['dtype']}{norm}, {row['pass']}\n{sizes(row, 'TB')}"
        bars[title] = dict(zip(place["implementation"], place["relative"], strict=True))
    return bars


def hardware_table(rows: pd.DataFrame) -> Sheet:
    lines = [
        {
            "dtype": row["dtype"],
            "matrix product, GFLOP/s": 2e-9 * row["multiply_adds_per_s"],
            "by": row["product"],
            "side": row["side"],
            "copy, GB/s": row["bytes_per_s"] / 1e9,
        }
        for _, row in rows.iterrows()
    ]
    return Sheet(lines, {"matrix product, GFLOP/s": count, "side": count, "copy, GB/s": significant3})


def twice_table(rows: pd.DataFrame) -> Sheet:
    lines = [
        {
            "workload": TITLE.format_map(row),
            "rows": row["rows"],
            "differ": row["differ"],
            "largest change of a ratio": row["largest"],
        }
        for _, row in rows.iterrows()
    ]
    return Sheet(lines, {"rows": count, "differ": count, "largest change of a ratio": percent})


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    every, parts = compared(without_busy(rows)), list[Part]()
    sentences = headline(without_busy(rows))
    parts.append("\n\n".join(f"**{each}**" for each in sentences) or "No implementation was timed.")
    if len(summary := bench_summary(without_busy(rows))):
        parts += ["## The fastest to train", summary]
    timed = readme_rows(rows).dropna(subset="relative")
    if len(timed):
        caption = f"{training_caption(timed.iloc[0])}; ratio times the median of {BASELINE}"
        parts.append(Plot(f"training-{WORKLOAD}", caption, partial(training, timed), committed=True))
    if bars := speed_bars(every):
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
    parts.append(READ + "".join(f"- *{name}*: {MEANING[of]}\n" for name, of in GLOSSARY.items()) + NOTES)
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
    return f"## {TITLE.format_map(row)}, layer norm {row['layer_norm']}\n\n{' '.join(sentences)}"


PAGE = Page("bench", "Benchmark", _parts, others=("hardware", "twice"))
