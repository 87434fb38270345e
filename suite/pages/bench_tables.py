"""The benchmark tables: rows of bench.csv, as times and memory and as ratios to what people know."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from impls import names
from suite.pages.page import Values
from suite.pages.sheets import Format, Part, Sheet
from suite.shared.cases import BASELINE, PEER
from suite.shared.load import BUSY
from suite.shared.pairing import Interval, noise_floor, verdict
from suite.shared.words import MB, NONE, count, percent, ranged, sizes, status, three, two


class Group(NamedTuple):
    """The rows of one workload, as sized, in one dtype, with layer norm off or on."""

    title: str
    layer_norm: str
    here: pd.DataFrame
    both: pd.DataFrame  # with layer norm off and on: torch's LSTM, which has none, stands beside both

    def fastest(self) -> pd.Series | None:
        """Return the row of our implementation that trains fastest, by the paired ratio."""
        timed = [row for name in names() if (row := self.timed(name, "train")) is not None]
        return min(timed, key=lambda row: row["ratio"], default=None)

    def row(self, name: str, step: str) -> pd.Series | None:
        """Return the row of a subject and pass, if there is one."""
        rows = self.both if name == BASELINE else self.here
        found = rows[(rows["implementation"] == name) & (rows["pass"] == step)]
        return found.iloc[-1] if len(found) else None

    def timed(self, name: str, step: str) -> pd.Series | None:
        """Return the row of a subject and pass, if it has figures."""
        row = self.row(name, step)
        return row if row is not None and row["status"] == "ok" else None

    def noise(self, step: str) -> float | None:
        """Return the noise floor: how far from 1 the ratio of the baseline to itself came, if that was measured."""
        twin = self.timed(BASELINE, step)
        return None if twin is None else noise_floor(interval(twin))

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
        """Return whether the subject is faster or slower than the baseline."""
        row, noise = self.timed(name, step), self.noise(step)
        if row is None:
            return NONE
        return "no A/A run" if noise is None else verdict(interval(row), noise)


def groups(rows: pd.DataFrame) -> Iterator[Group]:
    """Yield the rows of each table."""
    if rows.empty:
        return
    for _, both in rows.groupby(["dtype", "workload", "T", "B"], sort=False):
        first = both.iloc[0]
        title = f"{first['workload']}, T {first['T']}, B {first['B']}, {first['dtype']}"
        for layer_norm in ("off", "on"):
            here = both[both["layer_norm"] == layer_norm]
            if len(here):
                yield Group(title, layer_norm, here, both)


def interval(row: pd.Series) -> Interval:
    """Return the paired ratio of a row to torch's LSTM."""
    return Interval(row["ratio"], row["ratio_low"], row["ratio_high"])


def time_table(group: Group) -> Sheet:
    """Return times, as measured and as ratios, and memory: a line for each subject."""
    scaled, lstm = group.timed("row_scaled", group.lead), group.timed(BASELINE, "train")
    lines = []
    for name in group.here["implementation"].unique():
        forward, train = group.timed(name, "forward"), group.timed(name, "train")
        line: dict[str, Any] = {
            "implementation": name,
            "forward, ms": status(group.row(name, "forward")) if forward is None else 1e3 * forward["median_s"],
            "forward / LSTM": None if forward is None else interval(forward),
            "train, ms": status(group.row(name, "train")) if train is None else 1e3 * train["median_s"],
            "train / LSTM": None if train is None else interval(train),
            "verdict": group.verdict(name, group.lead),
            "/ row_scaled": over(group.timed(name, group.lead), scaled, "ratio"),
            "train, MB": None if train is None else train["peak_bytes"] / MB,
            "MB / LSTM": over(train, lstm, "peak_bytes"),
        }
        lines.append(line)
    ratios: dict[str, Format] = dict.fromkeys(("forward / LSTM", "train / LSTM"), ranged)
    ratios |= dict.fromkeys(("/ row_scaled", "MB / LSTM"), two)
    return Sheet(lines, {"forward, ms": three, "train, ms": three, "train, MB": three, **ratios})


def over(row: pd.Series | None, other: pd.Series | None, column: str) -> float | None:
    """Return the ratio of two rows' figures, None where one of them has none."""
    return None if row is None or other is None else float(row[column] / other[column])


def work_table(group: Group) -> Sheet:
    """Return what the times are made of: rates, shares of the bound, calls, memory kept, the first call."""
    lines = []
    for name in group.here["implementation"].unique():
        steps = {step: row for step in ("forward", "train") if (row := group.timed(name, step)) is not None}
        if not steps:
            continue
        line: dict[str, Any] = {"implementation": name}
        for step, row in steps.items():
            line[f"{step}, GFLOP/s"] = 2e-9 * row["multiply_adds"] / row["median_s"]
            line[f"{step}, of bound"] = figures(row, "share", "bound")
            line[f"{step}, calls a step"] = row["calls_per_step"]
        if (train := steps.get("train")) is not None:
            line["launches"] = figures(train, "launches_per_step", "mode")
            line["train in a loop, ms"] = figures(train, "loop_s", "loop_ratio")
            line["of the peak graphs, MB"] = train.get("graph_bytes", 0) / MB or None
            line["kept, B"] = train["kept_bytes"] / train["tokens"]
            line["first call, s"] = train["first_s"]
        line["checked"] = str(next(iter(steps.values()))["verify"])
        line["marks"] = marks(list(steps.values()))
        lines.append(line)
    return Sheet(lines, _WORK)


_WORK: dict[str, Format] = {
    **dict.fromkeys(
        ("forward, GFLOP/s", "train, GFLOP/s", "kept, B", "first call, s", "of the peak graphs, MB"), three
    ),
    **dict.fromkeys(("forward, of bound", "train, of bound"), lambda found: f"{percent(found[0])} {found[1]}"),
    **dict.fromkeys(("forward, calls a step", "train, calls a step"), count),
    "launches": lambda found: f"{found[0]:.1f} a step, {found[1]}",
    "train in a loop, ms": lambda found: f"{three(1e3 * found[0])} ({two(found[1])})",
}


def figures(row: pd.Series, *columns: str) -> tuple[Any, ...] | None:
    """Return the values of some columns, None where the row has no first of them."""
    return None if pd.isna(row.get(columns[0])) else tuple(row[column] for column in columns)


def marks(rows: list[pd.Series]) -> str:
    """Return how many rounds of the passes something disturbed, and whether other processes took cores."""
    disturbed = int(sum(row["disturbed"] for row in rows))
    throttled = sum(int(row["throttled"]) for row in rows if str(row["throttled"]) != "unknown")
    words = [f"{disturbed} disturbed"] * bool(disturbed) + [f"{throttled} throttled"] * bool(throttled)
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
    lines = []
    for group in groups(rows):
        if (row := group.fastest()) is None:
            continue
        lines.append(
            {
                "workload": group.title,
                "layer norm": group.layer_norm,
                "fastest": row["implementation"],
                "train, ms": 1e3 * row["median_s"],
                "/ LSTM": interval(row),
                "work / LSTM": row["work"],
                "/ row_scaled": over(row, group.timed("row_scaled", "train"), "ratio"),
                f"/ {PEER}": over(row, group.timed(PEER, "train"), "ratio"),
                "MB / LSTM": over(row, group.timed(BASELINE, "train"), "peak_bytes"),
            }
        )
    ratios = dict.fromkeys(("work / LSTM", "/ row_scaled", f"/ {PEER}", "MB / LSTM"), two)
    return Sheet(lines, {"train, ms": three, "/ LSTM": ranged, **ratios})


def answer(rows: pd.DataFrame) -> str:
    """Return the summary in a sentence for each implementation that is the fastest somewhere, and on packed batches."""
    found: dict[str, list[tuple[pd.Series, float | None]]] = {}
    for group in groups(rows):
        if (row := group.fastest()) is not None and not group.ragged:
            memory = over(row, group.timed(BASELINE, "train"), "peak_bytes")
            found.setdefault(row["implementation"], []).append((row, memory))
    total = sum(map(len, found.values()))
    sentences = []
    for best, timed in sorted(found.items(), key=lambda item: -len(item[1])):
        memories = [memory for _, memory in timed if memory is not None]
        time, work = (_span([row[column] for row, _ in timed]) for column in ("ratio", "work"))
        text = f"`{best}` trains fastest in {len(timed)} of {total} tables. "
        text += f"It takes {time} `torch.nn.LSTM`'s time for {work} its work"
        sentences.append(text + (f", and {_span(memories)} its memory." if memories else "."))
    return "\n".join([*sentences, *filter(None, [packed_answer(rows)])])


def packed_answer(rows: pd.DataFrame) -> str:
    """Return in a sentence how long a training step on packed batches takes; empty where none was timed."""
    found: dict[str, list[float]] = {}
    for group in groups(rows):
        if group.ragged and (row := group.fastest()) is not None:
            found.setdefault(f"`{row['implementation']}`, {row['workload']}", []).append(row["ratio"])
    if not found:
        return ""
    each = "; ".join(f"{where}: {_span(ratios)}" for where, ratios in found.items())
    return f"Training on packed sequences of different lengths over `torch.nn.LSTM` on the same batch: {each}."


def _span(ratios: list[float]) -> str:
    low, high = two(min(ratios)), two(max(ratios))
    return f"{low} times" if low == high else f"{low} to {high} times"


def bench_values(rows: pd.DataFrame) -> Values:
    """Return the parts of the page: the answer first, then every table, then how to read them."""
    counted = without_busy(rows)
    summary, without = bench_summary(counted), _without(rows)
    return {
        "answer": answer(counted),
        "summary": ["## The fastest to train", summary] if len(summary) else [],
        "workloads": [part for group in groups(rows) for part in _section(group)],
        "not_run": f"## What was not run\n\n{without}" if without else "",
        "free": free_tensor(rows),
    }


def _section(group: Group) -> list[Part]:
    row = group.here.iloc[0]
    shortened = f" Shortened: {row['shortened']}." if isinstance(row["shortened"], str) and row["shortened"] else ""
    floors = [f"{percent(floor)} ({step})" for step in ("forward", "train") if (floor := group.noise(step)) is not None]
    noise = f" Noise floor: {', '.join(floors)}." if floors else ""
    packed = f" Packed: {count(row['tokens'])} tokens in place of {count(row['T'] * row['B'])}." if group.ragged else ""
    heading = f"## {group.title}, layer norm {group.layer_norm}\n\n{sizes(row, 'IHSZL')}.{packed}{shortened}{noise}"
    work = work_table(group)
    return [heading, time_table(group), *[work] * bool(len(work))]


def _without(rows: pd.DataFrame) -> str:
    """Return the reasons of rows without figures, each once, with how many rows it explains."""
    lines = []
    bad = rows[rows["status"] != "ok"]
    for (name, reason), group in bad.groupby(["implementation", "status"], sort=False):
        where = ", ".join(dict.fromkeys(group["workload"]))
        lines.append(f"- `{name}` on {where}: {reason}")
    return "\n".join(lines)


def free_tensor(rows: pd.DataFrame) -> Sheet:
    """Return what a free [H, H + I, Z] weight tensor a gate would hold in float32: weights, gradients, two moments."""
    lines = []
    for workload, group in rows.groupby("workload", sort=False):
        row = group.iloc[0]
        tied = 16 * 4 * int(row["H"]) * int(row["H"] + row["I"]) / MB
        lines.append({"workload": workload, "tied, MB": tied, "n_z": row["Z"], "free, MB": tied * int(row["Z"])})
    return Sheet(lines, {"tied, MB": three, "n_z": count, "free, MB": three})


def bench_view(rows: pd.DataFrame) -> dict[str, Sheet]:
    """Return the tables of a run cut down to what fits a terminal of 80 columns."""
    columns = ["implementation", "forward, ms", "train, ms", "train / LSTM", "verdict", "MB / LSTM"]
    shorter = rows.assign(status=rows["status"].replace("out of memory", "no memory")) if len(rows) else rows
    return {
        f"{group.title}, layer norm {group.layer_norm}": time_table(group).only(columns) for group in groups(shorter)
    }
