"""The page of the benchmark: how long everything takes compared with an LSTM, and what explains it."""

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from impls.registry import IMPLS
from suite.pages.bench_tables import Group, answer, bench_summary, groups, time_table, without_busy, work_table
from suite.pages.page import Others, Page
from suite.pages.plots import bars, look, panels
from suite.pages.sheets import Columns, Part, Plot, Sheet
from suite.shared.cases import BASELINE
from suite.shared.format import count, percent, sizes, three
from suite.shared.rows import VALUES, table

#: The workload of the plot and of the README's table, in float32 without layer norm.
WORKLOAD = "medium"
COMPILED = {impl.name: f"{impl.name} (torch.compile)" for impl in IMPLS if impl.compiles_each_size}

READ = f"""## How to read this

A time is the median of rounds of a forward pass without gradient, or of a training step: forward, mean square,
backward, without an optimiser. Each round follows one of `{BASELINE}` with the same I, H, L, T and B in the same
process. */ LSTM* is the median ratio of these pairs, with a 95 % confidence interval; below 1 is faster than the LSTM,
which has neither a hypernetwork nor layer norm. *work / LSTM* is the ratio of multiply-adds.

The row of `{BASELINE}` compares the baseline with itself; the distance of its ratio from 1 is the noise floor. *faster*
and *slower* mean that the whole interval is beyond the noise floor; otherwise a verdict is *undecided*.

Every timing includes the input projection and any per-call packing or allocation; so does the baseline's. Building,
compiling and loading are excluded. Only implementations verified on this machine, with these sources, are timed, and
each is checked at the sizes of the workload just before: one that fails is *refused*.

On a GPU, a round starts on an idle device with an empty cache, and short calls follow without waiting for one another.
float32 is IEEE float32 for all, cuDNN included; *tf32* is float32 with products in TF32, for all.

*Ragged* workloads are packed sequences with lengths uniform in [T/4, T], the same for both sides of a round. Only
implementations whose time follows the number of tokens are timed on them.

"""
#: Columns of the tables, by the columns of bench.csv that they are made of.
GLOSSARY = {
    "train, MB": "peak_bytes",
    "saved, B per token": "kept_bytes",
    "first call, s": "first_s",
    "calls per step": "calls_per_step",
    "of roofline": "share",
    "verification": "verify",
}
NOTES = """\
- *notes*: a round is *disturbed* if its baseline took 1.5 times the median, *throttled* if the GPU's clock fell below
  0.9 of its highest. *busy machine*: other processes used more than a quarter of a core, so the row counts in no
  answer.
"""
HARDWARE = """## The hardware

*of roofline* is relative to these rates: the faster one of torch.mm and oneDNN on square matrices, and a large copy,
whose bytes are read and written; each the best of half a second.
"""


def headline(rows: pd.DataFrame) -> pd.DataFrame:
    """Training steps of `WORKLOAD` in float32 without layer norm that count, those without a figure included."""
    found = without_busy(rows)
    found = found[(found["workload"] == WORKLOAD) & (found["dtype"] == "float32") & (found["layer_norm"] == "off")]
    training: pd.DataFrame = found[found["pass"] == "train"]
    return training


def training(rows: pd.DataFrame) -> Figure:
    """Milliseconds per training step, a bar for each candidate; rows: those of `headline` with figures.

    A bar is the paired ratio times the baseline's median over all processes, so that bars compare as ratios do.
    """
    lstm = 1e3 * (rows["median_s"] / rows["ratio"]).median()
    times = dict(zip(rows["implementation"], rows["ratio"] * lstm, strict=True)) | {BASELINE: lstm}
    names = sorted(times, key=lambda name: times[name])
    figure, (axes,) = panels(1, 1, width=6.4, height=0.9 + 0.34 * len(names))
    lengths = {COMPILED.get(name, name): times[name] for name in names}
    bars(axes, lengths, [look(name)["color"] for name in names], "ms")
    axes.set(xlabel="ms per training step")
    return figure


def training_caption(row: pd.Series) -> str:
    return f"Milliseconds per training step: {WORKLOAD} ({sizes(row, 'TBIHSZL')}), float32, without layer norm"


def hardware_table(rows: pd.DataFrame) -> Sheet:
    columns: Columns = {
        "dtype": "dtype",
        "matrix product, GFLOP/s": (lambda row: 2e-9 * row["multiply_adds_per_s"], count),
        "by": "product",
        "side": ("side", count),
        "copy, GB/s": (lambda row: row["bytes_per_s"] / 1e9, three),
    }
    return Sheet.of(rows, columns)


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    counted, parts = without_busy(rows), list[Part]()
    parts.append(f"**{found}**" if (found := answer(counted)) else "Nothing of ours was timed.")
    if len(summary := bench_summary(counted)):
        parts += ["## The fastest to train", summary]
    timed = headline(rows)
    if len(timed := timed[timed["status"] == "ok"]):
        caption = f"{training_caption(timed.iloc[0])}; paired ratio times the median of {BASELINE}"
        parts.append(Plot(f"training-{WORKLOAD}", caption, partial(training, timed)))
    parts += [part for group in groups(rows) for part in _section(group)]
    without = rows[rows["status"] != "ok"].groupby(["implementation", "status"], sort=False)["workload"].unique()
    reasons = [f"- `{name}` on {', '.join(where)}: {reason}" for (name, reason), where in without.items()]
    parts += ["\n".join(["## What was not run\n", *reasons])] * bool(reasons)
    columns = table("bench").columns
    parts.append(READ + "".join(f"- *{name}*: {columns[of]}\n" for name, of in GLOSSARY.items()) + NOTES)
    if "hardware" in others:
        parts += [HARDWARE, hardware_table(others["hardware"])]
    return parts


def _section(group: Group) -> list[Part]:
    row: Any = group.first
    shortened = f" Shortened: {row['shortened']}." if isinstance(row["shortened"], str) and row["shortened"] else ""
    floors = [f"{percent(floor)} ({step})" for step in VALUES["pass"] if pd.notna(floor := group.noise(step))]
    noise = f" Noise floor: {', '.join(floors)}." if floors else ""
    tokens = row["T"] * row["B"]
    packed = f" Packed: {count(row['tokens'])} tokens instead of {count(tokens)}." if row["tokens"] < tokens else ""
    heading = f"## {group.title}, layer norm {group.layer_norm}\n\n{sizes(row, 'IHSZL')}.{packed}{shortened}{noise}"
    work = work_table(group)
    return [heading, time_table(group), *[work] * bool(len(work))]


PAGE = Page("bench", "Benchmark", _parts, others=("hardware",))
