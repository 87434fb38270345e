"""Tables of the benchmark: times, memory, and their ratios to torch.nn.LSTM."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from impls import names
from suite.pages.sheets import Format, Sheet
from suite.shared.cases import ALTERNATIVES, BASELINE, WORKLOADS
from suite.shared.format import MB, NONE, percent, ranged, status, three, two
from suite.shared.statistics import FEWEST, Interval, noise_floor, verdict
from suite.shared.tables import BUSY, PASSES, TABLES
from suite.shared.usage import NO_KERNEL

_COLUMNS = [*TABLES["bench"].columns, "device"]
#: Verification statuses that are no reason to doubt a figure.
RIGHT = ("verified", "checked", "external")
#: What the answer calls them, in its order.
CALLED = {"jax": "JAX", "compiled": "torch.compile", "labml": "labml"}
#: Status of what cannot run on a machine, which is no line of a table.
NOT_RUN = "not run: "
#: Name of a workload in headings.
TITLE = "{workload}, T {T}, B {B}, {dtype}"


class Figure(NamedTuple):
    """Seconds of a row, and their ratio to torch.nn.LSTM."""

    seconds: float
    ratio: Interval


def in_a_loop(row: pd.Series) -> bool:
    """True if the figure in a loop is the one that counts."""
    return bool(row["device"] == "cuda" and row["workload"] in WORKLOADS and WORKLOADS[row["workload"]].time_async)


def figure(row: pd.Series, loop: bool = False) -> Figure:
    """Figure of a row, of rounds in turns or in a loop."""
    columns = ("loop_s", "loop_ratio") if loop else ("median_s", "ratio")
    seconds, *bounds = (row.get(column, math.nan) for column in (*columns, f"{columns[1]}_low", f"{columns[1]}_high"))
    return Figure(seconds, Interval(*bounds))


def leading(row: pd.Series) -> Figure:
    """Figure of a row that counts."""
    return figure(row, in_a_loop(row))


def ratio(row: pd.Series) -> float:
    """Ratio of a row that counts."""
    return leading(row).ratio.ratio


@dataclass(frozen=True)
class Group:
    """Rows of one workload at one T and B, in one dtype, with layer norm off or on.

    rows: by implementation and pass; torch.nn.LSTM, which has no layer norm, is in both groups of a workload.
    """

    title: str
    layer_norm: str
    names: tuple[str, ...]
    rows: Mapping[tuple[str, str], pd.Series]

    @property
    def first(self) -> pd.Series:
        return next(iter(self.rows.values()))

    def row(self, name: str, step: str) -> pd.Series:
        """Row of a candidate and pass; everything but its status is NaN if it has no figures."""
        figures = self.rows.get((name, step))
        if figures is not None and figures["status"] == "ok":
            return figures
        return pd.Series({"status": NONE if figures is None else figures["status"]}, index=_COLUMNS)

    def noise(self, step: str) -> float:
        """Noise floor: how far the ratios of the baseline to itself are from 1; NaN if not measured."""
        return noise_floor(leading(self.row(BASELINE, step)).ratio)

    @property
    def where(self) -> str:
        """Where the figures that count were measured, as part of a column's name."""
        return " in a loop" if in_a_loop(self.first) else ""

    @property
    def lead(self) -> str:
        """The pass that counts: the forward pass of a single sequence, otherwise the training step."""
        return "forward" if self.first["B"] == 1 else "train"

    def verdict(self, name: str, step: str) -> str:
        """Whether the candidate is faster or slower than the baseline."""
        estimate, noise = leading(self.row(name, step)).ratio, self.noise(step)
        if math.isnan(estimate.ratio):
            return NONE
        if math.isnan(estimate.ratio_low):
            return "few visits"
        return "no A/A run" if math.isnan(noise) else verdict(estimate, noise)


def groups(rows: pd.DataFrame) -> Iterator[Group]:
    rows = rows[~rows["status"].str.startswith(NOT_RUN)] if len(rows) else rows
    if rows.empty:
        return
    for _, both in rows.groupby(["dtype", "workload", "T", "B"], sort=False):
        title = TITLE.format_map(both.iloc[0])
        for layer_norm, subset in both.groupby("layer_norm"):
            cells = both[(both["implementation"] == BASELINE) | (both["layer_norm"] == layer_norm)]
            by = {(row["implementation"], row["pass"]): row for _, row in cells.iterrows()}
            yield Group(title, str(layer_norm), tuple(subset["implementation"].unique()), by)


def fastest(rows: pd.DataFrame) -> Iterator[tuple[Group, pd.Series]]:
    """Each group with the training row of our fastest implementation, by the ratio that counts."""
    for group in groups(rows):
        timed = [row for name in names() if (row := group.row(name, "train"))["status"] == "ok"]
        if timed:
            yield group, min(timed, key=ratio)


def not_run(rows: pd.DataFrame) -> list[str]:
    """Why something cannot run here, a sentence for each reason."""
    reasons = rows["status"][rows["status"].str.startswith(NOT_RUN)].unique() if len(rows) else ()
    return [f"Not timed: {reason.removeprefix(NOT_RUN)}" for reason in reasons]


def time_table(group: Group) -> Sheet:
    """Table of times, ratios and memory, a line for each candidate."""
    scaled, lstm = group.row("row_scaled", group.lead), group.row(BASELINE, "train")
    lines = []
    for name in group.names:
        line: dict[str, Any] = {"implementation": name}
        rows = {step: group.row(name, step) for step in PASSES}
        for step, row in rows.items():
            for where in dict.fromkeys((group.where, "")):
                seconds, of_lstm = figure(row, bool(where))
                line[f"{step}{where}, ms"] = 1e3 * seconds if row["status"] == "ok" else status(row)
                line[f"{step}{where} / LSTM"] = of_lstm
        train, lead = rows["train"], rows[group.lead]
        line["verdict"] = group.verdict(name, group.lead)
        line["/ row_scaled"] = ratio(lead) / ratio(scaled)
        line |= {"train, MB": train["peak_bytes"] / MB, "MB / LSTM": train["peak_bytes"] / lstm["peak_bytes"]}
        line["of roofline"] = lead["share"], lead["bound"]
        lines.append(line | {"notes": notes([row for row in rows.values() if row["status"] == "ok"])})
    return Sheet(lines, _FORMATS)


_FORMATS: dict[str, Format] = {
    **{f"{step}{where}, ms": three for step in PASSES for where in ("", " in a loop")},
    **{f"{step}{where} / LSTM": ranged for step in PASSES for where in ("", " in a loop")},
    **dict.fromkeys(("/ row_scaled", "MB / LSTM"), two),
    "train, MB": three,
    "of roofline": lambda value: f"{percent(value[0])} {value[1]}",
}


def notes(rows: Sequence[pd.Series]) -> str:
    """Reasons to doubt figures: few visits, disturbed rounds, other processes, no verification."""
    disturbed = int(sum(row["disturbed"] for row in rows))
    visits = int(min((row["visits"] for row in rows if row["visits"] < FEWEST), default=FEWEST))
    words = ["one visit", "two visits"][visits - 1 : visits] + [f"{disturbed} disturbed"] * bool(disturbed)
    words += ["baseline without cuDNN"] * any(str(row.get("cudnn")).endswith(NO_KERNEL) for row in rows)
    words += ["busy machine"] * any(row.get("taken_cores", 0) > BUSY for row in rows)
    words += [str(each) for each in dict.fromkeys(row["verify"] for row in rows) if each not in RIGHT]
    return ", ".join(words) or NONE


def without_busy(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows, with another status for figures and time-outs of rows made while other processes used the cores."""
    if "taken_cores" not in rows:
        return rows
    busy = rows["status"].str.match("ok|time-out") & (rows["taken_cores"] > BUSY)
    return rows.assign(status=rows["status"].mask(busy, "busy: other processes took cores"))


def bench_summary(rows: pd.DataFrame) -> Sheet:
    """Table of the implementations that train fastest, by workload."""
    lines = [
        {
            "workload": group.title,
            "layer norm": group.layer_norm,
            "fastest": row["implementation"],
            "train, ms": 1e3 * leading(row).seconds,
            "/ LSTM": leading(row).ratio,
            "work / LSTM": row["work"],
            **{f"/ {name}": ratio(row) / ratio(group.row(name, "train")) for name in ("row_scaled", *ALTERNATIVES)},
            "MB / LSTM": row["peak_bytes"] / group.row(BASELINE, "train")["peak_bytes"],
        }
        for group, row in fastest(rows)
    ]
    columns = ("work / LSTM", "/ row_scaled", *(f"/ {name}" for name in ALTERNATIVES), "MB / LSTM")
    return Sheet(lines, {"train, ms": three, "/ LSTM": ranged, **dict.fromkeys(columns, two)})


def answer(rows: pd.DataFrame) -> str:
    """How fast our fastest implementation trains, beside the LSTM and the alternatives; empty if none was timed."""
    ours = list(fastest(rows))
    if not ours:
        return ""
    time, work = _span([ratio(row) for _, row in ours]), _span([row["work"] for _, row in ours])
    counts = Counter(f"`{row['implementation']}`" for _, row in ours).most_common()
    named = counts[0][0] if len(counts) == 1 else ", ".join(f"{name} on {n}" for name, n in counts)
    others, alternatives = list[float](), set[str]()
    for group, row in ours:
        timed = {name: each for name in ALTERNATIVES if (each := group.row(name, "train"))["status"] == "ok"}
        others += [min(map(ratio, timed.values())) / ratio(row)] if timed else []
        alternatives |= timed.keys()
    words = [CALLED[name] for name in CALLED if name in alternatives]
    best = f", {_span(others)} as fast as {_best_of(words)}" if others else ""
    return (
        f"The fastest implementation ({named}) trains in {time} the time of `{BASELINE}`, with {work} its "
        f"multiply-adds{best}."
    )


def _best_of(words: Sequence[str]) -> str:
    *others, last = words
    return f"the best of {', '.join(others)} and {last}" if others else last


def _span(ratios: Sequence[float]) -> str:
    low, high = two(min(ratios)), two(max(ratios))
    return f"{low} times" if low == high else f"{low} to {high} times"


def bench_view(rows: pd.DataFrame) -> dict[str, Sheet]:
    """Tables of a run with the columns that fit a terminal of 80 columns."""
    columns = ["implementation", "forward{0}, ms", "train{0}, ms", "train{0} / LSTM", "verdict", "MB / LSTM"]
    shorter = rows.assign(status=rows["status"].replace("out of memory", "no memory")) if len(rows) else rows
    return {
        f"{group.title}, layer norm {group.layer_norm}": time_table(group).only(
            [column.format(group.where) for column in columns]
        )
        for group in groups(shorter)
    }
