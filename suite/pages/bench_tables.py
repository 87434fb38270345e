"""The benchmark tables: rows of bench.csv, as times and memory and as ratios to what people know."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from impls import names
from suite.pages.page import Values
from suite.pages.sheets import Columns, Format, Part, Sheet
from suite.shared.cases import BASELINE, EXTERNAL
from suite.shared.format import MB, NONE, count, percent, ranged, sizes, status, three, two
from suite.shared.pairing import Interval, noise_floor, verdict
from suite.shared.rows import BUSY, PASSES, table
from suite.shared.usage import NO_KERNEL

#: Where a call on an idle GPU is charged time of the host that training hides, so that its figure in a loop leads.
IN_A_LOOP = ("small", "medium", "stream")
#: What a user would pick instead of ours: torch.compile, and HyperLSTMs of others.
ALTERNATIVES = ("compiled", *EXTERNAL)


class Leading(NamedTuple):
    """The figure of a row that counts: seconds, and their ratio to torch's LSTM."""

    seconds: float
    ratio: Interval


def in_a_loop(row: pd.Series) -> bool:
    """Return whether it is the figure in a loop that counts of a row."""
    return bool(row.get("device") == "cuda" and row["workload"] in IN_A_LOOP)


def leading(row: pd.Series) -> Leading:
    """Return the figure of a row that counts: of paired rounds, or in a loop, whose ratio has no interval."""
    if in_a_loop(row):
        seconds, ratio = row.get("loop_s", math.nan), row.get("loop_ratio", math.nan)
        return Leading(seconds, Interval(ratio, math.nan, math.nan))
    return Leading(row["median_s"], interval(row))


class Group(NamedTuple):
    """The rows of one workload, as sized, in one dtype, with layer norm off or on."""

    title: str
    layer_norm: str
    here: pd.DataFrame
    both: pd.DataFrame  # with layer norm off and on: torch's LSTM, which has none, stands beside both

    def row(self, name: str, step: str) -> pd.Series:
        """Return the row of a candidate and pass; NaN but for its status where there are no figures."""
        rows = self.both if name == BASELINE else self.here
        found = rows[(rows["implementation"] == name) & (rows["pass"] == step)]
        word = found["status"].iloc[-1] if len(found) else NONE
        return found.iloc[-1] if word == "ok" else pd.Series({"status": word}, index=list(table("bench").columns))

    def noise(self, step: str) -> float:
        """Return the noise floor: how far from 1 the ratios of the baseline to itself came; NaN if not measured."""
        row = self.row(BASELINE, step)
        return max(noise_floor(interval(row)), noise_floor(_whole(leading(row).ratio)))

    @property
    def where(self) -> str:
        """Where the figures that count were measured, in words."""
        return " in a loop" if in_a_loop(self.here.iloc[0]) else ""

    @property
    def ragged(self) -> bool:
        """Whether its sequences end at different steps."""
        row = self.here.iloc[0]
        return bool(row["tokens"] < row["T"] * row["B"])

    @property
    def lead(self) -> str:
        """The pass that counts: of one sequence alone the forward pass, else the training step."""
        return "forward" if self.here["B"].eq(1).all() else "train"

    def verdict(self, name: str, step: str) -> str:
        """Return whether the candidate is faster or slower than the baseline."""
        found, noise = _whole(leading(self.row(name, step)).ratio), self.noise(step)
        if math.isnan(found.ratio):
            return NONE
        return "no A/A run" if math.isnan(noise) else verdict(found, noise)


def groups(rows: pd.DataFrame) -> Iterator[Group]:
    """Yield the rows of each table."""
    if rows.empty:
        return
    for _, both in rows.groupby(["dtype", "workload", "T", "B"], sort=False):
        title = "{workload}, T {T}, B {B}, {dtype}".format_map(both.iloc[0])
        for layer_norm, here in both.groupby("layer_norm"):
            yield Group(title, str(layer_norm), here, both)


def fastest(rows: pd.DataFrame) -> Iterator[tuple[Group, pd.Series]]:
    """Yield each table's rows with the one of our implementation that trains fastest, by the ratio that counts."""
    for group in groups(rows):
        timed = [row for name in names() if (row := group.row(name, "train"))["status"] == "ok"]
        if timed:
            yield group, min(timed, key=lambda row: leading(row).ratio.ratio)


def interval(row: pd.Series) -> Interval:
    """Return the paired ratio of a row to torch's LSTM."""
    return Interval(row["ratio"], row["ratio_low"], row["ratio_high"])


def _whole(ratio: Interval) -> Interval:
    """Return a ratio with an interval, of no width where it has none."""
    return Interval(ratio.ratio, ratio.ratio, ratio.ratio) if math.isnan(ratio.low) else ratio


def time_table(group: Group) -> Sheet:
    """Return times, as measured and as ratios, and memory: a line for each candidate."""
    scaled, lstm = group.row("row_scaled", group.lead), group.row(BASELINE, "train")
    lines = []
    for name in group.here["implementation"].unique():
        line: dict[str, Any] = {"implementation": name}
        for step in PASSES:
            row = group.row(name, step)
            figures = {group.where: leading(row), "": Leading(row["median_s"], interval(row))}
            for where, found in figures.items():
                line[f"{step}{where}, ms"] = 1e3 * found.seconds if row["status"] == "ok" else status(row)
                line[f"{step}{where} / LSTM"] = found.ratio
        train = group.row(name, "train")
        line["verdict"] = group.verdict(name, group.lead)
        line["/ row_scaled"] = _ratio(group.row(name, group.lead)) / _ratio(scaled)
        line["train, MB"] = train["peak_bytes"] / MB
        line["MB / LSTM"] = train["peak_bytes"] / lstm["peak_bytes"]
        lines.append(line)
    formats: dict[str, Format] = {"train, MB": three} | dict.fromkeys(("/ row_scaled", "MB / LSTM"), two)
    for step in PASSES:
        for where in (group.where, ""):
            formats |= {f"{step}{where}, ms": three, f"{step}{where} / LSTM": ranged}
    return Sheet(lines, formats)


def _ratio(row: pd.Series) -> float:
    return leading(row).ratio.ratio


def work_table(group: Group) -> Sheet:
    """Return what the times are made of: rates, shares of the bound, calls, memory kept, the first call."""
    lines = []
    for name in group.here["implementation"].unique():
        steps = {step: row for step in PASSES if (row := group.row(name, step))["status"] == "ok"}
        if not steps:
            continue
        line: dict[str, Any] = {"implementation": name}
        for step, row in steps.items():
            line[f"{step}, GFLOP/s"] = 2e-9 * row["multiply_adds"] / row["median_s"]
            line[f"{step}, of bound"] = row.get("share"), row.get("bound")
            line[f"{step}, calls a step"] = row["calls_per_step"]
            line[f"{step}, first call, s"] = row["first_s"]
        if (train := steps.get("train")) is not None:
            if not group.where:
                line["train in a loop, ms"] = train.get("loop_s"), train.get("loop_ratio")
            line["kept, B"] = train["kept_bytes"] / train["tokens"]
        line["checked"] = str(next(iter(steps.values()))["verify"])
        line["marks"] = marks(list(steps.values()))
        lines.append(line)
    return Sheet(lines, _WORK)


_WORK: dict[str, Format] = {
    **dict.fromkeys(("forward, GFLOP/s", "train, GFLOP/s", "kept, B"), three),
    **dict.fromkeys(("forward, first call, s", "train, first call, s"), three),
    **dict.fromkeys(("forward, of bound", "train, of bound"), lambda found: f"{percent(found[0])} {found[1]}"),
    **dict.fromkeys(("forward, calls a step", "train, calls a step"), count),
    "train in a loop, ms": lambda found: f"{three(1e3 * found[0])} ({two(found[1])})",
}


def marks(rows: list[pd.Series]) -> str:
    """Return how many rounds of the passes something disturbed, and what else speaks against their figures."""
    disturbed = int(sum(row["disturbed"] for row in rows))
    throttled = sum(int(row["throttled"]) for row in rows if str(row["throttled"]) != "unknown")
    words = [f"{disturbed} disturbed"] * bool(disturbed) + [f"{throttled} throttled"] * bool(throttled)
    words += ["baseline without cuDNN"] * any(str(row.get("cudnn")).endswith(NO_KERNEL) for row in rows)
    words += ["busy machine"] * any(row.get("taken_cores", 0) > BUSY for row in rows)
    return ", ".join(words) or NONE


def without_busy(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows in which those made while other processes took cores have no figures, but a status that says so.

    What ran out of time then may have done so because of them.
    """
    if "taken_cores" not in rows:
        return rows
    busy = rows["status"].str.match("ok|time-out") & (rows["taken_cores"] > BUSY)
    return rows.assign(status=rows["status"].mask(busy, "busy: other processes took cores"))


def bench_summary(rows: pd.DataFrame) -> Sheet:
    """Return the answer: for each workload the implementation that trains fastest, and what that means."""
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


def answer(rows: pd.DataFrame) -> str:
    """Return the summary in a sentence for each implementation that is the fastest somewhere, and on packed batches."""
    found: dict[str, list[tuple[pd.Series, float]]] = {}
    for group, row in fastest(rows):
        if not group.ragged:
            memory = row["peak_bytes"] / group.row(BASELINE, "train")["peak_bytes"]
            found.setdefault(row["implementation"], []).append((row, memory))
    total = sum(map(len, found.values()))
    sentences = []
    for best, timed in sorted(found.items(), key=lambda item: -len(item[1])):
        memories = [memory for _, memory in timed if pd.notna(memory)]
        time, work = _span([_ratio(row) for row, _ in timed]), _span([row["work"] for row, _ in timed])
        text = f"`{best}` trains fastest in {len(timed)} of {total} tables. "
        text += f"It takes {time} `torch.nn.LSTM`'s time for {work} its work"
        sentences.append(text + (f", and {_span(memories)} its memory." if memories else "."))
    return "\n".join([*sentences, *filter(None, [packed_answer(rows)])])


def packed_answer(rows: pd.DataFrame) -> str:
    """Return in a sentence how long a training step on packed batches takes; empty where none was timed."""
    found: dict[str, list[float]] = {}
    for group, row in fastest(rows):
        if group.ragged:
            found.setdefault(f"`{row['implementation']}`, {row['workload']}", []).append(_ratio(row))
    if not found:
        return ""
    each = "; ".join(f"{where}: {_span(ratios)}" for where, ratios in found.items())
    return f"Training on packed sequences of different lengths over `torch.nn.LSTM` on the same batch: {each}."


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


def bench_values(rows: pd.DataFrame) -> Values:
    """Return the parts of the page: the answer first, then every table, then how to read them."""
    counted = without_busy(rows)
    summary = bench_summary(counted)
    without = rows[rows["status"] != "ok"].groupby(["implementation", "status"], sort=False)["workload"].unique()
    reasons = [f"- `{name}` on {', '.join(where)}: {reason}" for (name, reason), where in without.items()]
    return {
        "answer": answer(counted),
        "summary": ["## The fastest to train", summary] if len(summary) else [],
        "workloads": [part for group in groups(rows) for part in _section(group)],
        "not_run": "\n".join(["## What was not run\n", *reasons]) if reasons else "",
        "free": free_tensor(rows),
    }


def _section(group: Group) -> list[Part]:
    row = group.here.iloc[0]
    shortened = f" Shortened: {row['shortened']}." if isinstance(row["shortened"], str) and row["shortened"] else ""
    floors = [f"{percent(floor)} ({step})" for step in PASSES if pd.notna(floor := group.noise(step))]
    noise = f" Noise floor: {', '.join(floors)}." if floors else ""
    packed = f" Packed: {count(row['tokens'])} tokens in place of {count(row['T'] * row['B'])}." if group.ragged else ""
    heading = f"## {group.title}, layer norm {group.layer_norm}\n\n{sizes(row, 'IHSZL')}.{packed}{shortened}{noise}"
    work = work_table(group)
    return [heading, time_table(group), *[work] * bool(len(work))]


def free_tensor(rows: pd.DataFrame) -> Sheet:
    """Return what a free [H, H + I, Z] weight tensor a gate would hold in float32: weights, gradients, two moments."""
    each = rows.drop_duplicates("workload")
    tied = 16 * 4 * each["H"] * (each["H"] + each["I"]) / MB
    figures: Columns = {"tied, MB": ("tied", three), "n_z": ("Z", count), "free, MB": ("free", three)}
    return Sheet.of(each.assign(tied=tied, free=tied * each["Z"]), {"workload": "workload", **figures})


def bench_view(rows: pd.DataFrame) -> dict[str, Sheet]:
    """Return the tables of a run cut down to what fits a terminal of 80 columns."""
    columns = ["implementation", "forward{0}, ms", "train{0}, ms", "train{0} / LSTM", "verdict", "MB / LSTM"]
    shorter = rows.assign(status=rows["status"].replace("out of memory", "no memory")) if len(rows) else rows
    return {
        f"{group.title}, layer norm {group.layer_norm}": time_table(group).only(
            [column.format(group.where) for column in columns]
        )
        for group in groups(shorter)
    }
