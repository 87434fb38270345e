"""Tables of the benchmark: times, memory, and their ratios to torch.nn.LSTM."""

from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

import pandas as pd

from suite.candidates.names import ALTERNATIVES
from suite.cases.workloads import Pass
from suite.pages.benchmark import NORM, Benchmark, Place, Setting
from suite.pages.page import IMPLEMENTATION, VERDICT, Column, NoFigure, Sheet
from suite.results.format import MB, percent, ratio_text, significant3, with_interval
from suite.results.statistics import Interval, interval
from suite.results.status import Bound, Status


class Roofline(NamedTuple):
    """Share of the rate of the hardware at which a pass ran, and which rate it is."""

    share: float
    bound: Bound

    def __str__(self) -> str:
        return f"{percent(self.share)} {self.bound}"


#: By which lines are sorted.
_RATIO = attrgetter("ratio")


def ratio_column(heading: str) -> Column:
    """Column of ratios to `torch.nn.LSTM` with their intervals."""
    return Column(heading, with_interval, _RATIO)


MEMORY = Column("MB / LSTM", ratio_text)
ROOFLINE = Column("of roofline", str, attrgetter("share"))
BUSY = Column("busy", percent)
#: Columns of a table, by the pass that they are about.
TIME = {timed: Column(f"{timed}, ms", significant3) for timed in Pass}
RATIO = {timed: ratio_column(f"{timed} / LSTM") for timed in Pass}
TO_PADDED = {timed: Column(f"{timed} / padded", ratio_text) for timed in Pass}
PEAK = {timed: Column(f"{timed}, MB", significant3) for timed in Pass}


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
    trains = (place.rows["pass"] == Pass.TRAIN).any()
    of_memory = Pass.TRAIN if trains else Pass.FORWARD
    lines = []
    for name, of_candidate in place.rows.groupby("implementation", sort=False):
        line: dict[Column, Any] = {IMPLEMENTATION: name}
        rows = {Pass(row["pass"]): row for _, row in of_candidate.iterrows()}
        for timed, row in rows.items():
            line[TIME[timed]] = milliseconds(row, row["median_s"])
            line[RATIO[timed]] = ratio_of(row)
        if of_memory in rows:
            line[PEAK[of_memory]] = rows[of_memory]["peak_bytes"] / MB
            line[MEMORY] = rows[of_memory]["memory_ratio"]
        if place.decisive in rows:
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


def terminal_table(place: Place) -> Sheet:
    """The columns of `time_table` that fit a terminal of 80 columns."""
    decisive = place.decisive
    columns = [IMPLEMENTATION, *TIME.values(), RATIO[decisive], VERDICT, TO_PADDED[decisive], MEMORY, BUSY]
    return replace(time_table(place), columns=columns)
