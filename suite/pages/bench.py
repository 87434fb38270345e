"""The page of the benchmark: how long everything takes compared with an LSTM, and what explains it."""

from functools import partial
from statistics import median
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.bench_tables import (
    NOT_RUN,
    TITLE,
    Group,
    answer,
    bench_summary,
    groups,
    leading,
    not_run,
    time_table,
    without_busy,
)
from suite.pages.page import Others, Page
from suite.pages.plots import INK, bars, look, panels, plain
from suite.pages.sheets import Part, Plot, Sheet
from suite.shared.cases import BASELINE, ORDER
from suite.shared.format import count, percent, sizes, three
from suite.shared.tables import MEANING, PASSES

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
are timed on them.

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


def headline(rows: pd.DataFrame) -> pd.DataFrame:
    """Training steps of `WORKLOAD` in float32 without layer norm that count, those without a figure included."""
    cells = without_busy(rows)
    cells = cells[(cells["workload"] == WORKLOAD) & (cells["dtype"] == "float32") & (cells["layer_norm"] == "off")]
    training: pd.DataFrame = cells[cells["pass"] == "train"]
    return training


def training(rows: pd.DataFrame) -> Figure:
    """Milliseconds per training step, a bar for each candidate; rows: those of `headline` with figures.

    A bar is the ratio times the baseline's median over all rows, so that bars compare as ratios do.
    """
    points = {row["implementation"]: leading(row) for _, row in rows.iterrows()}
    lstm = 1e3 * median(each.seconds / each.ratio.ratio for each in points.values())
    times = {name: each.ratio.ratio * lstm for name, each in points.items()} | {BASELINE: lstm}
    names = sorted(times, key=lambda name: times[name])
    figure, (axes,) = panels(1, 1, width=6.4, height=0.9 + 0.34 * len(names))
    lengths = {name + " (torch.compile)" * (name == "compiled"): times[name] for name in names}
    bars(axes, lengths, [look(name)["color"] for name in names], "ms")
    axes.set(xlabel="ms per training step")
    return figure


def training_caption(row: pd.Series) -> str:
    return f"Milliseconds per training step: {WORKLOAD} ({sizes(row, 'TBIHSZL')}), float32, without layer norm"


def speed(rows: pd.DataFrame) -> Figure:
    """Every time as a multiple of the LSTM's, a panel for each workload."""
    timed = without_busy(rows)
    timed = timed[timed["status"] == "ok"]
    workloads = [group for _, group in timed.groupby(["dtype", "workload", "T", "B"], sort=False)]
    order = [[name for name in ORDER if (group["implementation"] == name).any()] for group in workloads]
    heights = [0.75 + 0.24 * len(names) + 0.9 / len(workloads) for names in order]
    figure, axes = panels(len(workloads), 1, width=5.2, height=heights)
    for panel, group, names in zip(axes, workloads, order, strict=True):
        for _, row in group.iterrows():
            style, train, norm = look(row["implementation"]), row["pass"] == "train", row["layer_norm"] == "on"
            style |= {"markersize": 6} if train else {"marker": "|", "markersize": 9}
            y = names.index(row["implementation"]) + (0.18 if norm else -0.18)
            face = "none" if norm else style["color"]
            panel.plot(leading(row).ratio.ratio, y, linestyle="", markerfacecolor=face, **style)
        panel.axvline(1, color=INK, linewidth=1, linestyle=":")
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set(xscale="log", title=TITLE.format_map(group.iloc[0]))
        plain(panel.xaxis, (1, 2, 5))
    axes[-1].set_xlabel(f"time / {BASELINE}")
    for marker, face, called in (("o", INK, "train"), ("o", "none", "train, layer norm"), ("|", INK, "forward")):
        axes[0].plot([], [], marker=marker, linestyle="", color=INK, markerfacecolor=face, label=called)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9)
    return figure


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
    return Sheet(lines, {"matrix product, GFLOP/s": count, "side": count, "copy, GB/s": three})


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
    counted, parts = without_busy(rows), list[Part]()
    parts.append(f"**{sentence}**" if (sentence := answer(counted)) else "No implementation was timed.")
    if len(summary := bench_summary(counted)):
        parts += ["## The fastest to train", summary]
    timed = headline(rows)
    if len(timed := timed[timed["status"] == "ok"]):
        caption = f"{training_caption(timed.iloc[0])}; ratio times the median of {BASELINE}"
        parts.append(Plot(f"training-{WORKLOAD}", caption, partial(training, timed)))
    if (counted["status"] == "ok").any():
        parts.append(Plot("speed", f"Time as a multiple of that of {BASELINE}", partial(speed, rows)))
    parts += not_run(rows)
    parts += [part for group in groups(rows) for part in _section(group)]
    failed = rows[(rows["status"] != "ok") & ~rows["status"].str.startswith(NOT_RUN)]
    without = failed.groupby(["implementation", "status"], sort=False)["workload"].unique()
    reasons = [f"- `{name}` on {', '.join(where)}: {reason}" for (name, reason), where in without.items()]
    parts += ["\n".join(["## What has no figures\n", *reasons])] * bool(reasons)
    parts.append(READ + "".join(f"- *{name}*: {MEANING[of]}\n" for name, of in GLOSSARY.items()) + NOTES)
    if "twice" in others:
        twice = others["twice"]
        parts += [TWICE.format(differ=twice["differ"].sum(), rows=twice["rows"].sum()), twice_table(twice)]
    if "hardware" in others:
        parts += [HARDWARE, hardware_table(others["hardware"])]
    return parts


def _section(group: Group) -> list[Part]:
    row: Any = group.first
    shortened = f" Shortened: {row['shortened']}." if isinstance(row["shortened"], str) and row["shortened"] else ""
    floors = [f"{percent(floor)} ({step})" for step in PASSES if pd.notna(floor := group.noise(step))]
    noise = f" Noise floor: {', '.join(floors)}." if floors else ""
    tokens = row["T"] * row["B"]
    packed = f" Packed: {count(row['tokens'])} tokens instead of {count(tokens)}." if row["tokens"] < tokens else ""
    heading = f"## {group.title}, layer norm {group.layer_norm}\n\n{sizes(row, 'IHSZL')}.{packed}{shortened}{noise}"
    return [heading, time_table(group)]


PAGE = Page("bench", "Benchmark", _parts, others=("hardware", "twice"))
