"""Tables of the benchmark: times, memory, and their ratios to torch.nn.LSTM."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from impls import names
from suite.pages.sheets import Format, Sheet
from suite.shared.cases import BASELINE, EXTERNAL
from suite.shared.format import MB, NONE, count, percent, ranged, status, three, two
from suite.shared.pairing import Interval, noise_floor, verdict
from suite.shared.rows import BUSY, VALUES, table
from suite.shared.usage import NO_KERNEL

#: Workloads whose calls on an idle GPU wait for the host, which training hides: there the figures in a loop count.
IN_A_LOOP = ("small", "medium", "stream")
PASSES = VALUES["pass"]
_COLUMNS = [*table("bench").columns, "device"]
#: What a user would pick instead of ours: torch.compile, and HyperLSTMs of others.
ALTERNATIVES = ("compiled", *EXTERNAL)


class Leading(NamedTuple):
    """Figure of a row that counts: seconds, and their ratio to torch's LSTM."""

    seconds: float
    ratio: Interval


def in_a_loop(row: pd.Series) -> bool:
    """Whether the figure in a loop is the one that counts."""
    return bool(row["device"] == "cuda" and row["workload"] in IN_A_LOOP)


def leading(row: pd.Series) -> Leading:
    """Figure of a row that counts: of paired rounds, or in a loop, whose interval has no width."""
    if in_a_loop(row):
        return Leading(row.get("loop_s", math.nan), Interval(*[row.get("loop_ratio", math.nan)] * 3))
    return Leading(row["median_s"], interval(row))


def interval(row: pd.Series) -> Interval:
    """Paired ratio of a row to torch's LSTM."""
    return Interval(row["ratio"], row["ratio_low"], row["ratio_high"])


def _ratio(row: pd.Series) -> float:
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
        """A row that says what all of them are about."""
        return next(iter(self.rows.values()))

    def row(self, name: str, step: str) -> pd.Series:
        """Row of a candidate and pass; everything but its status is NaN if it has no figures."""
        found = self.rows.get((name, step))
        if found is not None and found["status"] == "ok":
            return found
        return pd.Series({"status": NONE if found is None else found["status"]}, index=_COLUMNS)

    def noise(self, step: str) -> float:
        """Noise floor: how far the ratios of the baseline to itself are from 1; NaN if not measured."""
        row = self.row(BASELINE, step)
        return max(noise_floor(interval(row)), noise_floor(leading(row).ratio))

    @property
    def where(self) -> str:
        """Where the figures that count were measured, as part of a column's name."""
        return " in a loop" if in_a_loop(self.first) else ""

    @property
    def ragged(self) -> bool:
        """Whether its sequences have different lengths."""
        return bool(self.first["tokens"] < self.first["T"] * self.first["B"])

    @property
    def lead(self) -> str:
        """The pass that counts: the forward pass of a single sequence, otherwise the training step."""
        return "forward" if self.first["B"] == 1 else "train"

    def verdict(self, name: str, step: str) -> str:
        """Whether the candidate is faster or slower than the baseline."""
        found, noise = leading(self.row(name, step)).ratio, self.noise(step)
        if math.isnan(found.ratio):
            return NONE
        return "no A/A run" if math.isnan(noise) else verdict(found, noise)


def groups(rows: pd.DataFrame) -> Iterator[Group]:
    """Rows of each table."""
    if rows.empty:
        return
    for _, both in rows.groupby(["dtype", "workload", "T", "B"], sort=False):
        title = "{workload}, T {T}, B {B}, {dtype}".format_map(both.iloc[0])
        for layer_norm, here in both.groupby("layer_norm"):
            found = both[(both["implementation"] == BASELINE) | (both["layer_norm"] == layer_norm)]
            by = {(row["implementation"], row["pass"]): row for _, row in found.iterrows()}
            yield Group(title, str(layer_norm), tuple(here["implementation"].unique()), by)


def fastest(rows: pd.DataFrame) -> Iterator[tuple[Group, pd.Series]]:
    """Each group with the training row of our fastest implementation, by the ratio that counts."""
    for group in groups(rows):
        timed = [row for name in names() if (row := group.row(name, "train"))["status"] == "ok"]
        if timed:
            yield group, min(timed, key=_ratio)


def time_table(group: Group) -> Sheet:
    """Table of times, ratios and memory, a line for each candidate."""
    scaled, lstm = group.row("row_scaled", group.lead), group.row(BASELINE, "train")
    formats: dict[str, Format] = {"train, MB": three} | dict.fromkeys(("/ row_scaled", "MB / LSTM"), two)
    lines = []
    for name in group.names:
        line: dict[str, Any] = {"implementation": name}
        for step in PASSES:
            row = group.row(name, step)
            for where, found in {group.where: leading(row), "": Leading(row["median_s"], interval(row))}.items():
                formats |= {f"{step}{where}, ms": three, f"{step}{where} / LSTM": ranged}
                line[f"{step}{where}, ms"] = 1e3 * found.seconds if row["status"] == "ok" else status(row)
                line[f"{step}{where} / LSTM"] = found.ratio
        peak = group.row(name, "train")["peak_bytes"]
        line["verdict"] = group.verdict(name, group.lead)
        line["/ row_scaled"] = _ratio(group.row(name, group.lead)) / _ratio(scaled)
        lines.append(line | {"train, MB": peak / MB, "MB / LSTM": peak / lstm["peak_bytes"]})
    return Sheet(lines, formats)


def work_table(group: Group) -> Sheet:
    """Table of what explains the times: rates, operator calls, saved memory, the first call, notes."""
    lines = []
    for name in group.names:
        steps = {step: row for step in PASSES if (row := group.row(name, step))["status"] == "ok"}
        if not steps:
            continue
        line: dict[str, Any] = {"implementation": name}
        for step, row in steps.items():
            line[f"{step}, GFLOP/s"] = 2e-9 * row["multiply_adds"] / row["median_s"]
            line[f"{step}, of roofline"] = row.get("share"), row.get("bound")
            line[f"{step}, calls per step"] = row["calls_per_step"]
            line[f"{step}, first call, s"] = row["first_s"]
        if (train := steps.get("train")) is not None:
            if not group.where:
                line["train in a loop, ms"] = train.get("loop_s"), train.get("loop_ratio")
            line["saved, B per token"] = train["kept_bytes"] / train["tokens"]
        line["verification"] = str(next(iter(steps.values()))["verify"])
        lines.append(line | {"notes": notes(list(steps.values()))})
    return Sheet(lines, _WORK)


_WORK: dict[str, Format] = {
    **dict.fromkeys(("forward, GFLOP/s", "train, GFLOP/s", "saved, B per token"), three),
    **dict.fromkeys(("forward, first call, s", "train, first call, s"), three),
    **dict.fromkeys(("forward, of roofline", "train, of roofline"), lambda found: f"{percent(found[0])} {found[1]}"),
    **dict.fromkeys(("forward, calls per step", "train, calls per step"), count),
    "train in a loop, ms": lambda found: f"{three(1e3 * found[0])} ({two(found[1])})",
}


def notes(rows: list[pd.Series]) -> str:
    """Reasons to doubt figures: disturbed or throttled rounds, a baseline without cuDNN, a busy machine."""
    disturbed = int(sum(row["disturbed"] for row in rows))
    throttled = sum(int(row["throttled"]) for row in rows if str(row["throttled"]) != "unknown")
    words = [f"{disturbed} disturbed"] * bool(disturbed) + [f"{throttled} throttled"] * bool(throttled)
    words += ["baseline without cuDNN"] * any(str(row.get("cudnn")).endswith(NO_KERNEL) for row in rows)
    words += ["busy machine"] * any(row.get("taken_cores", 0) > BUSY for row in rows)
    return ", ".join(words) or NONE


def without_busy(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in which those measured while other processes used the cores have a status that says so.

    A time-out then may have been their fault, too.
    """
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
            "/ row_scaled": _ratio(row) / _ratio(group.row("row_scaled", "train")),
            **{f"/ {name}": _ratio(row) / _ratio(group.row(name, "train")) for name in EXTERNAL},
            "MB / LSTM": row["peak_bytes"] / group.row(BASELINE, "train")["peak_bytes"],
        }
        for group, row in fastest(rows)
    ]
    columns = ("work / LSTM", "/ row_scaled", *(f"/ {name}" for name in EXTERNAL), "MB / LSTM")
    return Sheet(lines, {"train, ms": three, "/ LSTM": ranged, **dict.fromkeys(columns, two)})


def best(rows: pd.DataFrame) -> dict[str, tuple[float, str]]:
    """Training time / LSTM of the fastest implementation without layer norm, and its name, by workload."""
    found = fastest(without_busy(rows))
    return {group.title: (_ratio(row), row["implementation"]) for group, row in found if group.layer_norm == "off"}


def answer(rows: pd.DataFrame) -> str:
    """Sentences on each implementation that is the fastest somewhere, and on packed sequences."""
    found: dict[str, list[tuple[pd.Series, float]]] = {}
    packed: dict[str, list[float]] = {}
    for group, row in fastest(rows):
        if group.ragged:
            packed.setdefault(f"`{row['implementation']}`, {row['workload']}", []).append(_ratio(row))
        else:
            memory = row["peak_bytes"] / group.row(BASELINE, "train")["peak_bytes"]
            found.setdefault(row["implementation"], []).append((row, memory))
    total = sum(map(len, found.values()))
    sentences = []
    for name, timed in sorted(found.items(), key=lambda item: -len(item[1])):
        memories = [memory for _, memory in timed if pd.notna(memory)]
        time, work = _span([_ratio(row) for row, _ in timed]), _span([row["work"] for row, _ in timed])
        text = f"`{name}` trains fastest in {len(timed)} of {total} tables. "
        text += f"It takes {time} `torch.nn.LSTM`'s time for {work} its work"
        sentences.append(text + (f", and {_span(memories)} its memory." if memories else "."))
    if packed:
        each = "; ".join(f"{where}: {_span(ratios)}" for where, ratios in packed.items())
        lead = "Training on packed sequences of different lengths over `torch.nn.LSTM` on the same batch"
        sentences.append(f"{lead}: {each}.")
    return "\n".join(sentences)


def alternatives_answer(rows: pd.DataFrame) -> str:
    """Sentence on the speed of ours as a multiple of the fastest alternative's; empty where none was timed beside ours.

    rows: as `without_busy` returns them.
    """
    found: dict[str, list[float]] = {}
    who = Counter[str]()
    for group in groups(rows):
        for step in PASSES:
            ratios = {name: _ratio(group.row(name, step)) for name in (*names(), *ALTERNATIVES)}
            timed = {name: ratio for name, ratio in ratios.items() if not math.isnan(ratio)}
            others = [name for name in timed if name in ALTERNATIVES]
            if others and len(others) < len(timed):
                other = min(others, key=timed.__getitem__)
                ours = min(ratio for name, ratio in timed.items() if name not in ALTERNATIVES)
                found.setdefault(step, []).append(timed[other] / ours)
                who[other] += 1
    if not found:
        return ""
    (of, first), *rest = ((where, _span(found[step])) for step, where in _WHERE.items() if step in found)
    spans = f"{first} the speed of the fastest alternative {of}" + "".join(f", and {span} {of}" for of, span in rest)
    each = ", ".join(f"`{name}` in {many}" for name, many in who.most_common())
    return f"The fastest implementation has {spans}. Of {who.total()} comparisons, that alternative is {each}."


_WHERE = {"train": "in training", "forward": "in a forward pass"}


def _span(ratios: list[float]) -> str:
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
