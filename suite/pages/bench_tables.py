"""The benchmark tables: rows of bench.csv, as times and memory and as ratios to what people know."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd

from impls import names
from suite.shared.cases import BASELINE, PEER
from suite.shared.pairing import Interval, noise_floor, verdict
from suite.shared.tables import environments, markdown

NONE = "-"


class Group(NamedTuple):
    """The rows of one workload, as sized, in one dtype, with layer norm off or on."""

    title: str
    layer_norm: str
    here: pd.DataFrame
    both: pd.DataFrame  # with layer norm off and on: torch's LSTM, which has none, stands beside both

    def subjects(self) -> list[str]:
        """Return what has rows here."""
        return list(self.here["implementation"].unique())

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


def figure(value: float) -> str:
    """Return three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def two(ratio: float) -> str:
    """Return a ratio with two decimals, or three where two would say little, or one where two would say too much."""
    if ratio >= 10:
        return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.1f}"
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"


def ranged(row: pd.Series) -> str:
    """Return the paired ratio of a row with its interval."""
    found = interval(row)
    return f"{two(found.ratio)} ({two(found.low)}-{two(found.high)})"


def status(row: pd.Series | None) -> str:
    """Return the first words of why a row has no figures."""
    return NONE if row is None else str(row["status"]).split(":")[0]


def cell(text: Callable[..., str], *rows: pd.Series | None) -> str:
    """Return what text makes of the rows, or that there is none where one of them has no figures."""
    return NONE if any(row is None for row in rows) else text(*rows)


def milliseconds(row: pd.Series) -> str:
    """Return a time in milliseconds."""
    return figure(row["median_s"] * 1e3)


def of(column: str) -> Callable[[pd.Series, pd.Series], str]:
    """Return what makes of two rows the ratio of their figures in a column."""
    return lambda row, other: two(row[column] / other[column])


def time_table(group: Group) -> pd.DataFrame:
    """Return times, as measured and as ratios, and memory: a line for each subject."""
    lines = []
    for name in group.subjects():
        forward, train = group.timed(name, "forward"), group.timed(name, "train")
        lines.append(
            {
                "implementation": name,
                "forward, ms": status(group.row(name, "forward")) if forward is None else milliseconds(forward),
                "forward / LSTM": cell(ranged, forward),
                "train, ms": status(group.row(name, "train")) if train is None else milliseconds(train),
                "train / LSTM": cell(ranged, train),
                "verdict": group.verdict(name, "train"),
                "/ row_scaled": cell(of("ratio"), train, group.timed("row_scaled", "train")),
                "train, MB": cell(lambda row: figure(row["peak_bytes"] / 1e6), train),
                "MB / LSTM": cell(of("peak_bytes"), train, group.timed(BASELINE, "train")),
            }
        )
    return pd.DataFrame(lines)


def work_table(group: Group) -> pd.DataFrame:
    """Return what the times are made of: rates, shares of the bound, calls, memory kept, the first call."""
    lines = []
    for name in group.subjects():
        forward, train = group.timed(name, "forward"), group.timed(name, "train")
        both = [row for row in (forward, train) if row is not None]
        if not both:
            continue
        line = {"implementation": name}
        for step, row in (("forward", forward), ("train", train)):
            line[f"{step}, GFLOP/s"] = cell(lambda row: figure(2e-9 * row["multiply_adds"] / row["median_s"]), row)
            line[f"{step}, of bound"] = cell(share, row)
            line[f"{step}, calls a step"] = cell(lambda row: f"{row['calls_per_step']:.0f}", row)
        line["launches"] = cell(launched, train)
        line["train in a loop, ms"] = cell(looped, train)
        line["of the peak graphs, MB"] = cell(in_graphs, train)
        line["kept, B"] = cell(lambda row: figure(row["kept_bytes"] / (row["T"] * row["B"])), train)
        line["first call, s"] = cell(lambda row: figure(row["first_s"]), train)
        line["checked"] = str(both[0]["verify"])
        line["marks"] = marks(both)
        lines.append(line)
    table = pd.DataFrame(lines)
    of_a_gpu = ("launches", "train in a loop, ms", "of the peak graphs, MB")
    return table.drop(columns=[name for name in of_a_gpu if len(table) and (table[name] == NONE).all()])


def share(row: pd.Series) -> str:
    """Return how near a row comes to what the hardware allows, and which of its rates bounds it."""
    if pd.isna(row.get("share")):
        return NONE
    return f"{row['share']:.0%} {row['bound']}" if row["share"] >= 0.01 else f"{row['share']:.1%} {row['bound']}"


def marks(rows: list[pd.Series]) -> str:
    """Return how many rounds of the passes something disturbed."""
    disturbed = int(sum(row["disturbed"] for row in rows))
    throttled = sum(int(row["throttled"]) for row in rows if str(row["throttled"]) != "unknown")
    words = [f"{disturbed} disturbed"] * bool(disturbed) + [f"{throttled} throttled"] * bool(throttled)
    return ", ".join(words) or NONE


def launched(row: pd.Series) -> str:
    """Return how kernels were started, if the row tells."""
    if pd.isna(row.get("launches_per_step")):
        return NONE
    return f"{row['launches_per_step']:.1f} a step, {row['mode']}"


def looped(row: pd.Series) -> str:
    """Return what a step takes in a loop that waits for none of them, and its ratio to the baseline's, if measured."""
    return NONE if pd.isna(row.get("loop_s")) else f"{figure(row['loop_s'] * 1e3)} ({two(row['loop_ratio'])})"


def in_graphs(row: pd.Series) -> str:
    """Return what CUDA graphs hold, if anything."""
    return figure(row["graph_bytes"] / 1e6) if row.get("graph_bytes", 0) > 0 else NONE


def fastest(group: Group) -> str | None:
    """Return our implementation that trains fastest, by the paired ratio."""
    found = {name: row["ratio"] for name in names() if (row := group.timed(name, "train")) is not None}
    return min(found, key=lambda name: found[name]) if found else None


def bench_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the answer: for each workload the implementation that trains fastest, and what that means."""
    lines = []
    for group in groups(rows):
        best = fastest(group)
        if best is None:
            continue
        row = group.timed(best, "train")
        lines.append(
            {
                "workload": group.title,
                "layer norm": group.layer_norm,
                "fastest": best,
                "train, ms": cell(milliseconds, row),
                "/ LSTM": cell(ranged, row),
                "work / LSTM": cell(lambda row: two(row["work"]), row),
                "/ row_scaled": cell(of("ratio"), row, group.timed("row_scaled", "train")),
                f"/ {PEER}": cell(of("ratio"), row, group.timed(PEER, "train")),
                "MB / LSTM": cell(of("peak_bytes"), row, group.timed(BASELINE, "train")),
            }
        )
    return pd.DataFrame(lines)


def answer(rows: pd.DataFrame) -> str:
    """Return the summary in a sentence for each implementation that is the fastest somewhere."""
    found: dict[str, list[Group]] = {}
    for group in groups(rows):
        best = fastest(group)
        if best is not None:
            found.setdefault(best, []).append(group)
    total = sum(map(len, found.values()))
    sentences = []
    for best, where in sorted(found.items(), key=lambda item: -len(item[1])):
        timed = [row for group in where if (row := group.timed(best, "train")) is not None]
        lstm = [group.timed(BASELINE, "train") for group in where]
        memory = [a["peak_bytes"] / b["peak_bytes"] for a, b in zip(timed, lstm, strict=True) if b is not None]
        time, work = (_span([row[column] for row in timed]) for column in ("ratio", "work"))
        text = f"`{best}` trains fastest in {len(where)} of {total} tables. "
        text += f"It takes {time} `torch.nn.LSTM`'s time for {work} its work"
        sentences.append(text + (f", and {_span(memory)} its memory." if memory else "."))
    return "\n".join(sentences)


def _span(ratios: list[float]) -> str:
    low, high = two(min(ratios)), two(max(ratios))
    return f"{low} times" if low == high else f"{low} to {high} times"


_READING = """A time is the median of rounds of a forward pass without gradient, or of a training step (forward, mean
square, backward; no optimiser). Each round, of one call or as many as take 20 ms, follows one of `torch.nn.LSTM` of the
same I, H, L, T and B in the same process, and */ LSTM* is the median of the rounds' ratios, with a 95 % interval
(bootstrap; Student's where fewer than 6 rounds fit): below 1 is faster. `torch.nn.LSTM`'s own row is the A/A run, the
baseline against its twin, and gives the noise floor. A verdict of *faster* or *slower* means that the whole interval is
beyond the noise; else it is *undecided*. Ratios to others are ratios of these ratios, since all have the same baseline:
it has neither hypernetwork nor layer norm, and *work / LSTM* says what that alone comes to in multiply-adds.

Equal work: every figure includes the products with x and whatever packs weights or makes room anew at each call, of
the baseline too. What is built, compiled, loaded or captured is left out: a pass runs until two calls in a row take
the same time within a factor of 2, on a GPU five times at least, before its rounds start. *first call* is the first on
one step and the first on all. On a GPU each call starts with an idle card and an emptied cache; *in a loop* is a call
among others that do not wait for one another, as in training, where the card hides the host's time. float32 is IEEE's
for all, cuDNN's LSTM included; *tf32* is float32 whose products have TF32's factors, for all. Everything was checked
at the workload's sizes just before it was timed: what was not right is *refused*, and what did not fit in the memory
or time allowed says so. *checked* says what verify.csv holds besides: *verified* on these very sources, *unverified*
if it has no rows of this torch, *stale* if they are of other sources; a peer is checked here alone.

Memory is the most that torch's allocator held above what it held before, and what CUDA graphs hold besides; *kept* is
what stands between the passes, a step and sample. *of bound* is the share of what the [hardware](hardware.md) allows:
the time of the least work, or of the least bytes, over the time taken. Multiply-adds and bytes are those of the
row-scaled form, by formula, for all (a training step has thrice the multiply-adds), so that the naive form's waste
shows as time. *calls a step* are operators that torch was asked for once more for each step more. A round is
*disturbed* when its baseline took 1.5 times the usual, and *throttled* when the GPU's clock after it was below 0.9 of
the fastest.
"""


def bench_markdown(rows: pd.DataFrame) -> str:
    """Return bench.md: the answer first, then every table, then how to read them."""
    parts = [f"# Benchmark\n\n{answer(rows)}\n\n{environments(rows)}\n"]
    summary = bench_summary(rows)
    if len(summary):
        parts.append(f"## The fastest to train\n\n{markdown(summary)}\n")
    for group in groups(rows):
        parts.append(_section(group))
    parts.append(f"## What was not run\n\n{_without(rows)}\n" if _without(rows) else "")
    parts.append(f"## How to read this\n\n{_READING}")
    parts.append(
        "The naive form's weight tensor is tied to the row-scaled one, so that all compute one function; a free tensor "
        "would be n_z times as many parameters, with gradients and Adam moments to match:\n\n"
        f"{markdown(free_tensor(rows))}\n"
    )
    parts.append("Row by row, with quartiles, rounds and all that a row rests on: [bench.csv](bench.csv).\n")
    return "\n".join(part for part in parts if part)


def _section(group: Group) -> str:
    row = group.here.iloc[0]
    sizes = ", ".join(f"{n} {row[n]}" for n in "IHSZL")
    shortened = f" Shortened: {row['shortened']}." if isinstance(row["shortened"], str) and row["shortened"] else ""
    floors = [f"{floor:.1%} ({step})" for step in ("forward", "train") if (floor := group.noise(step)) is not None]
    noise = f" Noise floor: {', '.join(floors)}." if floors else ""
    work = work_table(group)
    second = f"\n{markdown(work)}\n" if len(work) else ""
    heading = f"## {group.title}, layer norm {group.layer_norm}\n\n{sizes}.{shortened}{noise}\n"
    return f"{heading}\n{markdown(time_table(group))}\n{second}"


def _without(rows: pd.DataFrame) -> str:
    """Return the reasons of rows without figures, each once, with how many rows it explains."""
    lines = []
    bad = rows[rows["status"] != "ok"]
    for (name, reason), group in bad.groupby(["implementation", "status"], sort=False):
        where = ", ".join(dict.fromkeys(group["workload"]))
        lines.append(f"- `{name}` on {where}: {reason}")
    return "\n".join(lines)


def free_tensor(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what a free [H, H + I, Z] weight tensor a gate would hold in float32: weights, gradients, two moments."""
    lines = []
    for workload, group in rows.groupby("workload", sort=False):
        row = group.iloc[0]
        tied = 4 * int(row["H"]) * int(row["H"] + row["I"])
        lines.append(
            {
                "workload": str(workload),
                "tied, MB": f"{16 * tied / 1e6:.4g}",
                "n_z": str(row["Z"]),
                "free, MB": f"{16 * tied * int(row['Z']) / 1e6:.4g}",
            }
        )
    return pd.DataFrame(lines)


def bench_view(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables of a run cut down to what fits a terminal."""
    columns = ["implementation", "forward, ms", "train, ms", "train / LSTM", "verdict", "MB / LSTM"]
    return {f"{group.title}, layer norm {group.layer_norm}": time_table(group)[columns] for group in groups(rows)}
