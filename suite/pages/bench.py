"""The page of the benchmark: how long everything takes compared with an LSTM, and what explains it."""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from impls import names
from impls.registry import find
from suite.candidates.names import BASELINE, PADDED
from suite.cases.case import SIZES
from suite.cases.workloads import Pass
from suite.pages.bench_tables import bench_summary, time_table
from suite.pages.benchmark import Benchmark, Place, Setting
from suite.pages.headline import summary
from suite.pages.markdown import ON_PAGE, Markdown, escaped
from suite.pages.page import Body, Column, Heading, OtherTables, Page, Part, Plot, Sheet
from suite.pages.plots import Bar, Panel, bar_plot
from suite.results.format import count, percent, shortened, significant3, sizes
from suite.results.names import TableName
from suite.results.statistics import interval
from suite.results.status import Ended, Status
from suite.results.tables import MEANING

#: The workload of the plot and of the README's table, without layer norm, in the dtype that the headline quotes
#: wherever anything was timed in it.
WORKLOAD = "medium"
#: The name of this plot, as `Plot` has it.
TRAINING = f"training-{WORKLOAD}"
#: Sizes of a batch, and of a model.
BATCH, OF_MODEL = ("T", "B"), ("I", "H", "S", "Z", "L")
#: What a plot shows beside its bars.
INTERVALS_SHOWN = "lines show 95 % confidence intervals, the grey band the noise floor"

READ = Markdown(f"""## How to read this

A time is that of a forward pass without gradient, or of a training step: forward, mean square, backward, without an
optimiser. */ LSTM* is its ratio to `{BASELINE}` with the same I, H, L, T and B, which has neither a hypernetwork nor
layer norm: the median of visits to fresh processes, with a 95 % confidence interval between them. Below 1 is faster.
*work / LSTM* is the ratio of multiply-adds, and */ compiled*, */ labml* and */ jax* are ratios of times to theirs;
`compiled` is `batched` with its step through `torch.compile`, and labml's module exists only with layer norm.

Compare rows by their ratios, and do not divide the milliseconds of two rows: they were measured minutes apart, while
the clock of the machine may have changed, and each ratio is to the rounds of `{BASELINE}` that alternated with its own.
So a bar of a plot in milliseconds is not the time of its row.

The row of `{BASELINE}` compares the baseline with itself (the A/A run); how far its interval reaches from 1 is the
noise floor. A verdict is about the ratio on its left: of the training step or, where B is 1, of the forward pass.
*faster* and *slower* mean that the whole interval is beyond the noise floor; otherwise it is *undecided*. *few visits*
are fewer than the three that an interval takes, *few A/A visits* those of the baseline against itself. *busy* is the
share of the cores that other processes had during the visits; such a row is in no headline. Times include the input
projection and any per-call packing or allocation, of the baseline too, but not building, compiling and loading.

*Ragged* workloads are packed sequences with lengths uniform in [T/4, T]. `{PADDED}` runs all steps of all rows, which
can take less time than `{BASELINE}` on packed ones; where it does, */ padded* is the ratio to it. *tf32* is float32
with products in TF32; float32 itself is IEEE for all, cuDNN included. On a GPU, a time is that of calls in a row, none
of which waits for the one before, as in training.

- *train, MB*, *forward, MB*: {MEANING["peak_bytes"]}
- *of roofline*: {MEANING["share"]}
- *refused*: the verification on this machine failed or is stale, or a visit showed that its figures cannot be right.

suite/measure/README.md says how it is measured, suite/results/tables.toml what further columns bench.csv has.
""")
HARDWARE = Markdown("""## The hardware

*of roofline* is relative to these rates: the faster one of torch.mm and oneDNN on square matrices, and a large copy,
whose bytes are read and written; each the best of some rounds.
""")
TWICE = """## The same code twice

Of two runs of the same code, {differ} of the {rows} rows with an interval in both differ as `nox -s compare` sees it:
their intervals do not overlap, and the ratios differ by more than 20 %. *largest* is the largest change of a ratio.
"""


def readme_rows(benchmark: Benchmark) -> pd.DataFrame:
    """Training rows of `WORKLOAD` without layer norm at one place.

    Of the dtypes quoted on the device, in their order, it is the first place in which anything has a figure; if none
    has, the first place.
    """
    rows = benchmark.rows
    is_shown = (rows["workload"] == WORKLOAD) & ~rows["layer_norm"] & (rows["pass"] == Pass.TRAIN)
    trained = replace(benchmark, rows=rows[is_shown])
    quoted = [place for place in trained.places() if place.row["dtype"] in benchmark.dtypes]
    quoted.sort(key=lambda place: benchmark.dtypes.index(place.row["dtype"]))
    for place in quoted:
        if place.rows["ratio"].notna().any():
            return place.rows
    return quoted[0].rows if quoted else trained.rows.iloc[:0]


def training(rows: pd.DataFrame) -> Figure:
    """Milliseconds per training step, a bar for each candidate; rows: of `readme_rows`, with figures.

    A bar is the ratio times the baseline's median over all rows, so that bars compare as ratios do.
    """
    lstm = 1e3 * (rows["median_s"] / rows["ratio"]).median()
    bars = {row["implementation"]: _bar(row, lstm) for _, row in rows.iterrows()}
    bars.setdefault(BASELINE, Bar(lstm))
    return bar_plot([Panel("", bars, rows["floor"].iloc[0], lstm)], " ms", "ms per training step")


def _bar(row: pd.Series, unit: float = 1.0) -> Bar:
    """Bar of a row's ratio, in units."""
    ratio, low, high = interval(row)
    return Bar(unit * ratio, unit * low, unit * high, busy=pd.notna(row["busy"]))


def training_caption(row: pd.Series) -> str:
    return f"Milliseconds per training step: {WORKLOAD} ({sizes(row, SIZES)}), {row['dtype']}, without layer norm"


def speed_panels(benchmark: Benchmark) -> list[Panel]:
    """Times of the pass that is judged relative to the LSTM's, a panel for each place.

    Leaves out the reference forms, beside which all other bars would be short.
    """
    literal = [name for name in names() if find(name).literal]
    panels = []
    for place in benchmark.places():
        rows = place.rows
        shown = rows["ratio"].notna() & ~rows["implementation"].isin(literal)
        judged = rows[shown & (rows["pass"] == place.decisive)]
        if len(judged):
            row = place.row
            norm = ", norm" if row["layer_norm"] else ""
            title = f"{row['workload']}, {row['dtype']}{norm}, {place.decisive}\n{sizes(row, BATCH)}"
            bars = {candidate["implementation"]: _bar(candidate) for _, candidate in judged.iterrows()}
            panels.append(Panel(title, bars, judged["floor"].iloc[0]))
    return panels


def hardware_table(rows: pd.DataFrame) -> Sheet:
    columns = {
        "dtype": Column("dtype"),
        "gflop_per_s": Column("matrix product, GFLOP/s", count),
        "product": Column("by"),
        "side": Column("side", count),
        "gb_per_s": Column("copy, GB/s", significant3),
    }
    gflop_per_s = 2e-9 * rows["multiply_adds_per_s"]
    return Sheet.of_rows(columns, rows.assign(gflop_per_s=gflop_per_s, gb_per_s=1e-9 * rows["bytes_per_s"]))


def twice_table(rows: pd.DataFrame) -> Sheet:
    """For each setting, of how many rows two runs of the same code differed; rows: of twice.csv."""
    columns = {
        "setting": Column("workload"),
        "rows": Column("rows", count),
        "differ": Column("differ", count),
        "largest": Column("largest", percent),
    }
    return Sheet.of_rows(columns, rows.assign(setting=[str(Setting.of(row)) for _, row in rows.iterrows()]))


def _body(rows: pd.DataFrame, others: OtherTables) -> Body:
    benchmark = Benchmark.of(rows)
    parts = list[Part]()
    fastest = bench_summary(benchmark)
    if len(fastest):
        parts += [Heading("The fastest to train"), fastest]
    timed = readme_rows(benchmark).dropna(subset="ratio")
    if len(timed):
        caption = f"{training_caption(timed.iloc[0])}; ratio times the median of {BASELINE}: {INTERVALS_SHOWN}"
        parts.append(Plot(TRAINING, caption, partial(training, timed), has_file=True))
    panels = speed_panels(benchmark)
    if panels:
        caption = f"Time as a multiple of that of {BASELINE}: {INTERVALS_SHOWN}"
        parts.append(Plot("speed", caption, partial(bar_plot, panels, "", f"time / {BASELINE}", columns=2)))
    parts += [*time_tables(benchmark), *without_figures(rows), READ]
    if TableName.TWICE in others:
        twice = others[TableName.TWICE]
        about_twice = TWICE.format(differ=twice["differ"].sum(), rows=twice["rows"].sum())
        parts += [Markdown(about_twice), twice_table(twice)]
    if TableName.HARDWARE in others:
        parts += [HARDWARE, hardware_table(others[TableName.HARDWARE])]
    return Body(summary_text(benchmark), parts)


def summary_text(benchmark: Benchmark) -> Markdown:
    """The summary of a benchmark, a paragraph for each sentence."""
    return Markdown("\n\n".join(ON_PAGE.strong(sentence) for sentence in summary(benchmark, ON_PAGE)))


def time_tables(benchmark: Benchmark) -> list[Part]:
    """What cannot be timed, and a table for each place."""
    parts = list[Part](Markdown(f"`{name}` was not timed: {escaped(reason)}") for name, reason in benchmark.unable)
    for place in benchmark.places():
        parts += [Heading(place.heading), _about(place), time_table(place)]
    return parts


class Failure(NamedTuple):
    """A candidate, and how its visits ended."""

    implementation: str
    ended: Ended


def without_figures(rows: pd.DataFrame) -> list[Part]:
    """A list of what was refused or failed, none without it; rows: of a benchmark."""
    workloads = defaultdict[Failure, list[str]](list)
    for row in rows.to_dict("records"):
        if row["status"] not in (Status.OK, Status.NOT_RUN):
            of_failure = workloads[Failure(row["implementation"], Ended.of(row))]
            if row["workload"] not in of_failure:
                of_failure.append(row["workload"])
    if not workloads:
        return []
    lines = []
    for (name, ended), where in workloads.items():
        failure = escaped(f"{', '.join(where)}: {ended}")
        lines.append(f"- `{name}` on {failure}")
    return [Heading("What has no figures"), Markdown("\n".join(lines))]


def _about(place: Place) -> Markdown:
    """The sizes of a place and its noise floor."""
    row = place.row
    tokens = row["T"] * row["B"]
    sentences = [f"{sizes(row, OF_MODEL)}."]
    if row["tokens"] < tokens:
        sentences.append(f"Packed: {count(row['tokens'])} tokens instead of {count(tokens)}.")
    cut = shortened(row)
    if cut:
        sentences.append(f"Shortened: {', '.join(cut)}.")
    floors = place.rows.dropna(subset="floor").drop_duplicates("pass")
    if len(floors):
        shares = [f"{percent(timed['floor'])} ({timed['pass']})" for _, timed in floors.iterrows()]
        sentences.append(f"Noise floor: {', '.join(shares)}.")
    return escaped(" ".join(sentences))


PAGE = Page(TableName.BENCH, "Benchmark", _body, others=(TableName.HARDWARE, TableName.TWICE))
