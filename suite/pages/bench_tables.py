"""Figures and tables of the benchmark: times, memory, and their ratios to torch.nn.LSTM."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from impls import names
from suite.candidates.catalogue import alternatives, find
from suite.candidates.names import ALTERNATIVES, BASELINE, PADDED
from suite.cases.workloads import Pass, of_whole
from suite.pages.page import Format, NoFigure, Sheet
from suite.results.format import MB, NONE, percent, ratio_text, significant3, with_interval
from suite.results.statistics import FEWEST, interval, quotient, two_states
from suite.results.status import Status
from suite.results.tables import TABLES

#: Columns that make a place, at which candidates are compared; and its title, without layer norm and with it.
PLACE = ["dtype", "workload", "T", "B", "layer_norm"]
TITLE = "{workload}, T {T}, B {B}, {dtype}"
#: Layer norm in words.
NORM = {False: "off", True: "on"}
#: Workloads that the headline quotes, without layer norm, and by kind of device its dtype, the first that was timed.
QUOTED = ("medium", "char-ptb")
DTYPES = {"cpu": ("float32",), "cuda": ("bfloat16", "float32")}
#: A pass in words.
STEP = {Pass.TRAIN: "training step", Pass.FORWARD: "forward pass"}
#: Columns without a value where a row has no figures.
_FIGURES = ["ratio", "ratio_low", "ratio_high", "median_s", "peak_bytes", "share", "work"]
#: Columns of `Benchmark` with ratios of times to the alternatives.
VS = {name: f"vs_{name}" for name in ALTERNATIVES}
#: By column of a table, its heading.
HEADINGS: Mapping[str, str] = {
    "layer_norm": "layer norm",
    "ratio": "/ LSTM",
    "work": "work / LSTM",
    **{column: f"/ {name}" for name, column in VS.items()},
    "vs_padded": "/ padded",
    "memory_ratio": "MB / LSTM",
    "roofline": "of roofline",
    **{f"{step}_ms": f"{step}, ms" for step in Pass},
    **{f"{step}_ratio": f"{step} / LSTM" for step in Pass},
    **{f"{step}_vs_padded": f"{step} / padded" for step in Pass},
    **{f"{step}_mb": f"{step}, MB" for step in Pass},
}
#: By column of a table that has figures, how they are written.
FORMATS: Mapping[str, Format] = {
    "ratio": with_interval,
    "work": ratio_text,
    **dict.fromkeys(VS.values(), ratio_text),
    "vs_padded": ratio_text,
    "memory_ratio": ratio_text,
    "roofline": lambda value: f"{percent(value[0])} {value[1]}",
    "busy": percent,
    **{f"{step}_ms": significant3 for step in Pass},
    **{f"{step}_ratio": with_interval for step in Pass},
    **{f"{step}_vs_padded": ratio_text for step in Pass},
    **{f"{step}_mb": significant3 for step in Pass},
}


def heading(row: pd.Series) -> str:
    """Title of a place with its layer norm."""
    return f"{TITLE.format_map(row)}, layer norm {NORM[row['layer_norm']]}"


def leading(rows: pd.DataFrame) -> Pass:
    """The pass that counts: forward of one sequence alone, as a model serves it, or without training."""
    return Pass.FORWARD if (rows["B"] == 1).all() or Pass.TRAIN not in set(rows["pass"]) else Pass.TRAIN


@dataclass(frozen=True)
class Place:
    """Rows of a `Benchmark` at one place."""

    rows: pd.DataFrame

    @property
    def row(self) -> pd.Series:
        """The first row."""
        first: pd.Series = self.rows.iloc[0]
        return first

    @property
    def heading(self) -> str:
        return heading(self.row)

    @property
    def lead(self) -> Pass:
        return leading(self.rows)


@dataclass(frozen=True)
class Benchmark:
    """Rows of a benchmark, beside one another.

    rows: of what can run here, without figures where the status is not ok, and with columns that compare them.
        `torch.nn.LSTM`, padded or not, has no layer norm and is at both places of a workload, or at the only one.

        - floor: the noise floor, how far the interval of `torch.nn.LSTM` against itself reaches from 1; NaN without it.
        - verdict: whether it is faster or slower than `torch.nn.LSTM`.
        - vs_compiled and others of VS: ratios of times to the alternatives.
        - vs_padded: to `torch.nn.LSTM` on a padded batch, where that is faster than on packed sequences.
        - memory_ratio: of the peak memory to that of `torch.nn.LSTM`.
    unable: why something cannot run here, a sentence for each reason.
    device: kind of device; "" without rows.
    """

    rows: pd.DataFrame
    unable: Sequence[str]
    device: str

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Benchmark":
        """The benchmark of rows of bench.csv."""
        rows = TABLES["bench"].filled(rows)
        device = str(next(iter(rows["device"]), ""))
        not_run = rows["status"] == Status.NOT_RUN
        reasons = rows["detail"][not_run].unique()
        rows = _at_places(rows[~not_run])
        rows = rows.astype(dict.fromkeys([*_FIGURES, "busy"], float))
        rows.loc[rows["status"] != Status.OK, _FIGURES] = np.nan
        rows = _with_verdicts(_with_floor(rows))
        return cls(_with_ratios(rows), list(reasons), device)

    @property
    def dtypes(self) -> Sequence[str]:
        """The dtypes of its device, of which the first is quoted."""
        return DTYPES[self.device]

    def places(self) -> Iterator[Place]:
        """The places, in the order of the rows."""
        for _, rows in self.rows.groupby(PLACE, sort=False):
            yield Place(rows)

    @cached_property
    def fastest(self) -> pd.DataFrame:
        """The training row of our fastest implementation at each place."""
        ours = self.rows["implementation"].isin(names())
        trains = self.rows["pass"] == Pass.TRAIN
        timed = self.rows[ours & trains & self.rows["ratio"].notna()]
        first: pd.DataFrame = timed.loc[timed.groupby(PLACE, sort=False)["ratio"].idxmin()]
        return first

    def trained(self, beside: pd.Series, candidates: Sequence[str]) -> pd.DataFrame:
        """Training rows of candidates at the place of a training row, which have a figure."""
        where = [*PLACE, "pass"]
        of_candidates = self.rows["implementation"].isin(candidates)
        timed = self.rows[of_candidates & self.rows["ratio"].notna()]
        there: pd.DataFrame = timed[(timed[where] == beside[where]).all(axis=1)]
        return there


def _with_floor(rows: pd.DataFrame) -> pd.DataFrame:
    low = _beside(rows, BASELINE, "ratio_low")
    high = _beside(rows, BASELINE, "ratio_high")
    return rows.assign(floor=np.maximum(high, 1 / low) - 1)


def _with_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    against_itself = _beside(rows, BASELINE, "ratio").notna()
    verdicts = []
    for (_, row), has_noise in zip(rows.iterrows(), against_itself, strict=True):
        verdicts.append(_verdict(row, has_noise))
    return rows.assign(verdict=verdicts)


def _with_ratios(rows: pd.DataFrame) -> pd.DataFrame:
    columns = {column: rows["ratio"] / _beside(rows, name, "ratio") for name, column in VS.items()}
    padded = _beside(rows, PADDED, "ratio")
    columns["vs_padded"] = (rows["ratio"] / padded).where(padded < 1)
    columns["memory_ratio"] = rows["peak_bytes"] / _beside(rows, BASELINE, "peak_bytes")
    return rows.assign(**columns)


def _at_places(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with those of the baselines, which have no layer norm, at each place of their workload."""
    has_norm = rows["layer_norm"]
    of_baseline = rows["implementation"].isin((BASELINE, PADDED))
    workload = [rows[column] for column in PLACE[:-1]]
    norm_beside = has_norm.groupby(workload).transform("any")
    plain_beside = (~has_norm & ~of_baseline).groupby(workload).transform("any")
    at_norm = of_baseline & norm_beside
    without = rows[~(at_norm & ~plain_beside)]
    every: pd.DataFrame = pd.concat([without, rows[at_norm].assign(layer_norm=True)], ignore_index=True)
    return every


def _beside(rows: pd.DataFrame, name: str, column: str) -> pd.Series:
    """For each row, the value of a column in the row of another candidate at the same place and of the same pass."""
    where = [*PLACE, "pass"]
    values = rows[rows["implementation"] == name].set_index(where)[column]
    beside: pd.Series = values.reindex(pd.MultiIndex.from_frame(rows[where])).set_axis(rows.index)
    return beside


def _verdict(row: pd.Series, against_itself: bool) -> str:
    """`faster` or `slower` than the baseline if the whole interval is beyond the noise floor.

    against_itself: whether the baseline was timed against itself at the place of the row.
    """
    if pd.isna(row["ratio"]):
        return NONE
    if pd.isna(row["ratio_low"]):
        return "few visits"
    if pd.isna(row["floor"]):
        return "few A/A visits" if against_itself else "no A/A run"
    if row["ratio_high"] < 1 / (1 + row["floor"]):
        return "faster"
    return "slower" if row["ratio_low"] > 1 + row["floor"] else "undecided"


def time_table(place: Place) -> Sheet:
    """Table of times, ratios and memory, a line for each candidate."""
    lines = []
    for name, of_candidate in place.rows.groupby("implementation", sort=False):
        line: dict[str, Any] = {"implementation": name}
        rows = {row["pass"]: row for _, row in of_candidate.iterrows()}
        for step, row in rows.items():
            line[f"{step}_ms"] = 1e3 * row["median_s"] if row["status"] == Status.OK else NoFigure(row["status"])
            line[f"{step}_ratio"] = interval(row)
            if step == place.lead:  # beside the figure that it judges
                line["verdict"] = row["verdict"]
                line[f"{step}_vs_padded"] = row["vs_padded"]
        most = Pass.TRAIN if Pass.TRAIN in rows else Pass.FORWARD
        line[f"{most}_mb"] = rows[most]["peak_bytes"] / MB
        line["memory_ratio"] = rows[most]["memory_ratio"]
        of_lead = rows[place.lead]
        line["roofline"] = (of_lead["share"], of_lead["bound"])
        line["busy"] = of_lead["busy"]
        lines.append(line)
    return Sheet(lines, FORMATS, HEADINGS)


def bench_summary(benchmark: Benchmark) -> Sheet:
    """Table of the implementations that train fastest, by workload."""
    lines = []
    for _, row in benchmark.fastest.iterrows():
        line = {
            "workload": TITLE.format_map(row),
            "layer_norm": NORM[row["layer_norm"]],
            "fastest": row["implementation"],
            "train_ms": 1e3 * row["median_s"],
            "ratio": interval(row),
        }
        for column in ("work", *VS.values(), "vs_padded", "memory_ratio"):
            line[column] = row[column]
        lines.append(line)
    return Sheet(lines, FORMATS, HEADINGS)


def quoted(benchmark: Benchmark) -> pd.DataFrame:
    """The rows of `fastest` that the headline is about: QUOTED in the dtype of the device; without these, all rows."""
    ours = benchmark.fastest
    if ours.empty:
        return ours
    plain = ours[ours["workload"].isin(QUOTED) & ~ours["layer_norm"]]
    for dtype in benchmark.dtypes:
        of_dtype: pd.DataFrame = plain[plain["dtype"] == dtype]
        if len(of_dtype):
            return of_dtype
    return ours


def headline(benchmark: Benchmark) -> list[str]:
    """Training time relative to the LSTM and speedup over the fastest alternative, a sentence for each row of `quoted`.

    Rows without an interval, or from a busy machine, have none.
    """
    sentences = []
    for _, row in quoted(benchmark).iterrows():
        if _known(row):
            slowdown = _slowdown(row, benchmark)
            speedup = _speedup(row, benchmark)
            step = f"a training step of `{row['implementation']}`"
            sentences.append(f"{in_words(row)}: {step} takes {slowdown}, and {speedup}.")
    return sentences


def summary(benchmark: Benchmark) -> list[str]:
    """The headline, or a sentence that says why there is none; and where the machine had two states."""
    sentences = headline(benchmark) or [_why_no_headline(benchmark)]
    return [*sentences, *states(benchmark)]


def _why_no_headline(benchmark: Benchmark) -> str:
    ours = quoted(benchmark)
    if ours.empty:
        return "No implementation was timed in training."
    if ours["busy"].notna().any():
        return "No headline: other processes kept the machine busy."
    return f"No headline: an interval takes {FEWEST} visits."


def states(benchmark: Benchmark) -> list[str]:
    """Where the machine changed between two states during a run, a sentence for each workload.

    There an interval is as wide as the states differ, however many visits there are.
    """
    sentences = dict[tuple[Any, ...], str]()
    for _, row in benchmark.rows.iterrows():
        two = two_states(row["baseline_s_visits"])
        if two is None:
            continue
        fast, slow = two
        step = STEP[row["pass"]]
        fast_ms = significant3(1e3 * median(fast))
        slow_ms = significant3(1e3 * median(slow))
        sentences.setdefault(
            tuple(row[PLACE[:-1]]),
            f"{row['workload']} (T {row['T']}, B {row['B']}, {row['dtype']}): the machine had two states, in which a "
            f"{step} of `{BASELINE}` took {fast_ms} and {slow_ms} ms ({len(fast)} and {len(slow)} visits); "
            "intervals there are as wide as these differ.",
        )
    return [*sentences.values()]


def _known(row: pd.Series) -> bool:
    """True if a row may be quoted: it has an interval, and the machine was not busy."""
    return bool(pd.notna(row["ratio_low"]) and pd.isna(row["busy"]))


def in_words(row: pd.Series) -> str:
    """A place in a sentence, such as "char-ptb (T 10 of 100, B 64 of 128, float32, layer norm)"."""
    about = [of_whole(row["workload"], size, row[size]) or f"{size} {row[size]}" for size in ("T", "B")]
    about.append(row["dtype"])
    if row["layer_norm"]:
        about.append("layer norm")
    return f"{row['workload']} ({', '.join(about)})"


def _slowdown(row: pd.Series, benchmark: Benchmark) -> str:
    """Time relative to the LSTM: on a padded batch where that is faster than on packed sequences."""
    padded = benchmark.trained(row, [PADDED])
    if pd.notna(row["vs_padded"]) and _known(padded.iloc[0]):
        ratio = quotient(interval(row), interval(padded.iloc[0]))
        end = f"one of `{BASELINE}` on the padded batch, which is faster than on packed sequences"
        return f"{with_interval(ratio)} times as long as {end}"
    return f"{with_interval(interval(row))} times as long as one of `{BASELINE}`"


def _speedup(row: pd.Series, benchmark: Benchmark) -> str:
    """Speedup over the fastest of the alternatives."""
    others = [name for name in alternatives() if name != row["implementation"]]
    timed = benchmark.trained(row, others)
    if timed.empty:
        return "no alternative was timed"
    best = timed.loc[timed["ratio"].idxmin()]
    title = find(best["implementation"]).title
    what = "the only alternative timed there"
    if len(timed) > 1:
        titles = [find(name).title for name in timed["implementation"]]
        what = f"the fastest alternative timed there (of {', '.join(titles)})"
    if not _known(best):
        return f"has no interval yet of its speedup over {title}, {what}"
    speedup = quotient(interval(best), interval(row))
    return f"is {with_interval(speedup)} times as fast as with {title}, {what}"


def bench_view(benchmark: Benchmark) -> dict[str, Sheet]:
    """Tables of a run with the columns that fit a terminal of 80 columns, by heading."""
    views = {}
    for place in benchmark.places():
        columns = ["implementation", *(f"{step}_ms" for step in Pass)]
        columns += [f"{place.lead}_ratio", "verdict", f"{place.lead}_vs_padded"]
        columns += ["memory_ratio", "busy"]
        views[place.heading] = time_table(place).only(columns)
    return views
