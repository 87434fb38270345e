"""Figures and tables of the benchmark: times, memory, and their ratios to torch.nn.LSTM."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from impls import names
from suite.candidates.catalogue import alternatives, find
from suite.candidates.names import ALTERNATIVES, BASELINE, PADDED
from suite.cases.workloads import QUOTED, Pass
from suite.pages.page import Column, NoFigure, Sheet
from suite.results.format import MB, percent, ratio_text, significant3, size_of_whole, with_interval
from suite.results.names import TableName
from suite.results.statistics import FEWEST, Interval, interval, quotient, two_states
from suite.results.status import Bound, Status
from suite.results.tables import TABLES, Table
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType


class Setting(NamedTuple):
    """A workload at a T and a B, in a dtype, as tables name it."""

    workload: str
    T: int
    B: int
    dtype: str

    @classmethod
    def of(cls, row: pd.Series) -> "Setting":
        """The setting of a row."""
        return cls(row["workload"], row["T"], row["B"], row["dtype"])

    def __str__(self) -> str:
        return f"{self.workload}, T {self.T}, B {self.B}, {self.dtype}"


class Verdict(StrEnum):
    """Whether a candidate is faster or slower than `torch.nn.LSTM`, or why that is not known."""

    FASTER = "faster"
    SLOWER = "slower"
    #: The interval reaches into the noise floor.
    UNDECIDED = "undecided"
    FEW_VISITS = "few visits"
    #: Of `torch.nn.LSTM` against itself.
    FEW_BASELINE_VISITS = "few A/A visits"
    NO_BASELINE = "no A/A run"


class Roofline(NamedTuple):
    """Share of the rate of the hardware at which a pass ran, and which rate it is."""

    share: float
    bound: Bound

    def __str__(self) -> str:
        return f"{percent(self.share)} {self.bound}"


class Unable(NamedTuple):
    """An implementation that cannot run here, and why, in a sentence."""

    implementation: str
    reason: str


#: By which lines are sorted.
_RATIO = attrgetter("ratio")


def ratio_column(heading: str) -> Column:
    """Column of ratios to `torch.nn.LSTM` with their intervals."""
    return Column(heading, with_interval, _RATIO)


#: Layer norm in words.
NORM = {False: "off", True: "on"}
#: By type of device, the dtypes that it quotes: of these the first that was timed.
DTYPES = {
    DeviceType.CPU: (Arithmetic.FLOAT32,),
    DeviceType.CUDA: (Arithmetic.BFLOAT16, Arithmetic.FLOAT32),
}
#: What a pass is called in sentences.
PASS_TITLES = {Pass.TRAIN: "training step", Pass.FORWARD: "forward pass"}
#: Columns without a value where a row has no figures.
_FIGURES = ["ratio", "ratio_low", "ratio_high", "median_s", "peak_bytes", "share", "work"]
IMPLEMENTATION = Column("implementation")
VERDICT = Column("verdict")
MEMORY = Column("MB / LSTM", ratio_text)
ROOFLINE = Column("of roofline", str, attrgetter("share"))
BUSY = Column("busy", percent)
#: Columns of a table, by the pass that they are about.
TIME = {timed: Column(f"{timed}, ms", significant3) for timed in Pass}
RATIO = {timed: ratio_column(f"{timed} / LSTM") for timed in Pass}
TO_PADDED = {timed: Column(f"{timed} / padded", ratio_text) for timed in Pass}
PEAK = {timed: Column(f"{timed}, MB", significant3) for timed in Pass}


def heading(row: pd.Series) -> str:
    """Title of the place of a row."""
    return f"{Setting.of(row)}, layer norm {NORM[row['layer_norm']]}"


def decisive_pass(rows: pd.DataFrame) -> Pass:
    """The pass whose ratio is judged: forward of one sequence alone, as a model serves it, or without training."""
    alone = (rows["B"] == 1).all()
    trains = (rows["pass"] == Pass.TRAIN).any()
    return Pass.TRAIN if trains and not alone else Pass.FORWARD


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
    def decisive(self) -> Pass:
        """The pass whose ratio is judged."""
        return decisive_pass(self.rows)


@dataclass(frozen=True)
class Benchmark:
    """Rows of a benchmark, beside one another.

    rows: of what can run here, without figures where the status is not ok, and with columns that compare them.
        The rows of `torch.nn.LSTM`, padded or not, which has no layer norm, are repeated at the place with layer norm
        wherever candidates were timed there.

        - floor: the noise floor, how far the interval of `torch.nn.LSTM` against itself reaches from 1; NaN without it.
        - verdict: a `Verdict`; None where the row has no figures.
        - to_padded: ratio of the time to that of `torch.nn.LSTM` on a padded batch, where that is faster than on packed
          sequences.
        - memory_ratio: of the peak memory to that of `torch.nn.LSTM`.
    unable: what cannot run here, an implementation once for each of its reasons.
    device: type of device; None without rows.
    table: of the rows.
    """

    rows: pd.DataFrame
    unable: Sequence[Unable]
    device: DeviceType | None
    table: Table

    @classmethod
    def of(cls, rows: pd.DataFrame, table: Table = TABLES[TableName.BENCH]) -> "Benchmark":
        """The benchmark of rows of bench.csv, or of another table that has its columns."""
        rows = table.filled(rows)
        device = DeviceType(rows["device"].iloc[0]) if len(rows) else None
        not_run = rows["status"] == Status.NOT_RUN
        unable = [Unable(row["implementation"], row["detail"]) for _, row in rows[not_run].iterrows()]
        rows = _at_places(rows[~not_run], table)
        rows = rows.astype(dict.fromkeys([*_FIGURES, "busy"], float))
        rows.loc[rows["status"] != Status.OK, _FIGURES] = np.nan
        place = table.place
        rows = _with_verdicts(_with_floor(rows, place), place)
        return cls(_with_ratios(rows, place), list(dict.fromkeys(unable)), device, table)

    @property
    def dtypes(self) -> Sequence[str]:
        """The dtypes of its device, of which the first that was timed is quoted; none without rows."""
        return DTYPES[self.device] if self.device else ()

    def places(self) -> Iterator[Place]:
        """The places, in the order of the rows."""
        for _, rows in self.rows.groupby(self.table.place, sort=False):
            yield Place(rows)

    @cached_property
    def fastest(self) -> pd.DataFrame:
        """The training row of our fastest implementation at each place."""
        ours = self.rows["implementation"].isin(names())
        trains = self.rows["pass"] == Pass.TRAIN
        timed = self.rows[ours & trains & self.rows["ratio"].notna()]
        first: pd.DataFrame = timed.loc[timed.groupby(self.table.place, sort=False)["ratio"].idxmin()]
        return first

    def trained(self, beside: pd.Series, candidates: Sequence[str]) -> pd.DataFrame:
        """Training rows of candidates at the place of a training row, which have a figure."""
        where = [*self.table.place, "pass"]
        of_candidates = self.rows["implementation"].isin(candidates)
        timed = self.rows[of_candidates & self.rows["ratio"].notna()]
        there: pd.DataFrame = timed[(timed[where] == beside[where]).all(axis=1)]
        return there


def _with_floor(rows: pd.DataFrame, place: Sequence[str]) -> pd.DataFrame:
    low = _beside(rows, place, BASELINE, "ratio_low")
    high = _beside(rows, place, BASELINE, "ratio_high")
    return rows.assign(floor=np.maximum(high, 1 / low) - 1)


def _with_verdicts(rows: pd.DataFrame, place: Sequence[str]) -> pd.DataFrame:
    has_baseline = _beside(rows, place, BASELINE, "ratio").notna()
    verdicts = [_verdict(row, has_baseline[at]) for at, row in rows.iterrows()]
    return rows.assign(verdict=verdicts)


def _with_ratios(rows: pd.DataFrame, place: Sequence[str]) -> pd.DataFrame:
    padded = _beside(rows, place, PADDED, "ratio")
    to_padded = (rows["ratio"] / padded).where(padded < 1)
    memory_ratio = rows["peak_bytes"] / _beside(rows, place, BASELINE, "peak_bytes")
    return rows.assign(to_padded=to_padded, memory_ratio=memory_ratio)


def _at_places(rows: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Rows with those of the baselines, which have no layer norm, at each place of their setting."""
    stay = []
    with_norm = []
    for _, of_setting in rows.groupby(table.setting, sort=False):
        is_baseline = of_setting["implementation"].isin((BASELINE, PADDED))
        baselines = of_setting[is_baseline]
        candidates = of_setting[~is_baseline]
        norms = set(candidates["layer_norm"])
        if True in norms:
            with_norm.append(baselines.assign(layer_norm=True))
        stay.append(candidates if norms == {True} else of_setting)
    return pd.concat([*stay, *with_norm], ignore_index=True) if stay else rows


def _beside(rows: pd.DataFrame, place: Sequence[str], name: str, column: str) -> pd.Series:
    """For each row, the value of a column in the row of another candidate at the same place and of the same pass."""
    where = [*place, "pass"]
    of_other = rows.loc[rows["implementation"] == name, [*where, column]]
    beside: pd.Series = rows[where].merge(of_other, how="left", on=where, validate="many_to_one")[column]
    return beside.set_axis(rows.index)


def _verdict(row: pd.Series, has_baseline: bool) -> Verdict | None:
    """Faster or slower than the baseline if the whole interval is beyond the noise floor.

    has_baseline: whether the baseline was timed against itself at the place of the row.
    """
    if pd.isna(row["ratio"]):
        return None
    if pd.isna(row["ratio_low"]):
        return Verdict.FEW_VISITS
    if pd.isna(row["floor"]):
        return Verdict.FEW_BASELINE_VISITS if has_baseline else Verdict.NO_BASELINE
    if row["ratio_high"] < 1 / (1 + row["floor"]):
        return Verdict.FASTER
    if row["ratio_low"] > 1 + row["floor"]:
        return Verdict.SLOWER
    return Verdict.UNDECIDED


def milliseconds(row: pd.Series, seconds: float) -> float | NoFigure:
    """Time of a row in a table; of a row without figures, its status."""
    return 1e3 * seconds if row["status"] == Status.OK else NoFigure(row["status"])


def ratio_of(row: pd.Series) -> Interval | None:
    """Ratio of a row in a table, with its interval; None for a row without figures."""
    return interval(row) if pd.notna(row["ratio"]) else None


def time_table(place: Place) -> Sheet:
    """Table of times, ratios and memory, a line for each candidate."""
    columns = [IMPLEMENTATION]
    for timed in Pass:
        columns += [TIME[timed], RATIO[timed]]
        if timed == place.decisive:  # beside the figure that it judges
            columns += [VERDICT, TO_PADDED[timed]]
    columns += [*PEAK.values(), MEMORY, ROOFLINE, BUSY]
    lines = []
    for name, of_candidate in place.rows.groupby("implementation", sort=False):
        line: dict[Column, Any] = {IMPLEMENTATION: name}
        rows = {Pass(row["pass"]): row for _, row in of_candidate.iterrows()}
        for timed, row in rows.items():
            line[TIME[timed]] = milliseconds(row, row["median_s"])
            line[RATIO[timed]] = ratio_of(row)
        most = Pass.TRAIN if Pass.TRAIN in rows else Pass.FORWARD
        line[PEAK[most]] = rows[most]["peak_bytes"] / MB
        line[MEMORY] = rows[most]["memory_ratio"]
        judged = rows[place.decisive]
        line[VERDICT] = judged["verdict"]
        line[TO_PADDED[place.decisive]] = judged["to_padded"]
        if pd.notna(judged["share"]):
            line[ROOFLINE] = Roofline(judged["share"], Bound(judged["bound"]))
        line[BUSY] = judged["busy"]
        lines.append(line)
    return Sheet(columns, lines)


def bench_summary(benchmark: Benchmark) -> Sheet:
    """Table of the implementations that train fastest, by workload."""
    setting, norm, fastest = Column("workload"), Column("layer norm"), Column("fastest")
    ratio, work = ratio_column("/ LSTM"), Column("work / LSTM", ratio_text)
    to_alternatives = {name: Column(f"/ {name}", ratio_text) for name in ALTERNATIVES}
    padded = Column("/ padded", ratio_text)
    lines = []
    for _, row in benchmark.fastest.iterrows():
        line = {
            setting: Setting.of(row),
            norm: NORM[row["layer_norm"]],
            fastest: row["implementation"],
            TIME[Pass.TRAIN]: 1e3 * row["median_s"],
            ratio: interval(row),
            work: row["work"],
            padded: row["to_padded"],
            MEMORY: row["memory_ratio"],
        }
        for _, alternative in benchmark.trained(row, ALTERNATIVES).iterrows():
            line[to_alternatives[alternative["implementation"]]] = row["ratio"] / alternative["ratio"]
        lines.append(line)
    columns = [setting, norm, fastest, TIME[Pass.TRAIN], ratio, work, *to_alternatives.values(), padded, MEMORY]
    return Sheet(columns, lines)


def quoted(benchmark: Benchmark) -> pd.DataFrame:
    """The rows of `fastest` that the headline is about: QUOTED in the dtype of the device; without these, all rows."""
    ours = benchmark.fastest
    if ours.empty:
        return ours
    without_norm = ours[ours["workload"].isin(QUOTED) & ~ours["layer_norm"]]
    for dtype in benchmark.dtypes:
        of_dtype: pd.DataFrame = without_norm[without_norm["dtype"] == dtype]
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
            training_step = f"a training step of `{row['implementation']}`"
            sentences.append(f"{in_words(row)}: {training_step} takes {slowdown}, and {speedup}.")
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
    changing = benchmark.rows.assign(two=benchmark.rows["baseline_s_visits"].map(two_states)).dropna(subset="two")
    sentences = list[str]()
    for _, row in changing.drop_duplicates(benchmark.table.setting).iterrows():
        fast, slow = row["two"]
        fast_ms = significant3(1e3 * median(fast))
        slow_ms = significant3(1e3 * median(slow))
        sentences.append(
            f"{row['workload']} (T {row['T']}, B {row['B']}, {row['dtype']}): the machine had two states, in which a "
            f"{PASS_TITLES[row['pass']]} of `{BASELINE}` took {fast_ms} and {slow_ms} ms ({len(fast)} and {len(slow)} "
            "visits); intervals there are as wide as these differ."
        )
    return sentences


def _known(row: pd.Series) -> bool:
    """True if a row may be quoted: it has an interval, and the machine was not busy."""
    return bool(pd.notna(row["ratio_low"]) and pd.isna(row["busy"]))


def in_words(row: pd.Series) -> str:
    """A place in a sentence, such as "char-ptb (T 10 of 100, B 64 of 128, float32, layer norm)"."""
    about = [size_of_whole(row, "T"), size_of_whole(row, "B"), row["dtype"]]
    if row["layer_norm"]:
        about.append("layer norm")
    return f"{row['workload']} ({', '.join(about)})"


def _slowdown(row: pd.Series, benchmark: Benchmark) -> str:
    """Time relative to the LSTM: on a padded batch where that is faster than on packed sequences."""
    padded = benchmark.trained(row, [PADDED])
    if pd.notna(row["to_padded"]) and _known(padded.iloc[0]):
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


def terminal_table(place: Place) -> Sheet:
    """The columns of `time_table` that fit a terminal of 80 columns."""
    decisive = place.decisive
    columns = [IMPLEMENTATION, *TIME.values(), RATIO[decisive], VERDICT, TO_PADDED[decisive], MEMORY, BUSY]
    return replace(time_table(place), columns=columns)
