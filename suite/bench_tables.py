"""The benchmark tables: rows of bench.csv, as times and memory and as ratios to what people know."""

import pandas as pd

from impls import names

from .tables import environments, markdown

#: What every time is held against, by column.
BASELINES = ("row_scaled", "torch.nn.LSTM")


def bench_tables(rows: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Return one table for each workload, as sized, and layer norm off and on: a line for each implementation."""
    tables = {}
    for _, group in rows.groupby(["dtype", "workload", "T", "B"], sort=False):
        first = group.iloc[0]
        title = f"{first['workload']}, T {first['T']}, B {first['B']}, {first['dtype']}"
        for layer_norm in ("off", "on"):
            here = group[group["layer_norm"] == layer_norm]
            lines = [_bench_line(name, here, group) for name in sorted(here["implementation"].unique(), key=_place)]
            if lines:
                tables[title, layer_norm] = pd.DataFrame(lines)
    return tables


def _place(implementation: str) -> int:
    ladder = names()
    return ladder.index(implementation) if implementation in ladder else len(ladder) + (implementation == "labml")


def _bench_line(name: str, here: pd.DataFrame, group: pd.DataFrame) -> dict[str, str]:
    line = {"implementation": name}
    for step in ("forward", "train"):
        row = _only(here, name, step)
        line[f"{step}, ms"] = _figure(row, "median_s", 1e3) if row is not None else "-"
        for baseline in BASELINES:
            line[f"{step} / {baseline}"] = _ratio(row, _baseline(here, group, baseline, step), "median_s")
    for step in ("forward", "train"):
        line[f"{step}, MB"] = _figure(_only(here, name, step), "peak_bytes", 1e-6, label=False)
    line["kept, B"] = _kept(_only(here, name, "train"))
    line["first call, s"] = _figure(_only(here, name, "train"), "first_s", 1, label=False)
    for baseline in BASELINES:
        line[f"MB / {baseline}"] = _ratio(
            _only(here, name, "train"), _baseline(here, group, baseline, "train"), "peak_bytes"
        )
    return line


def _only(rows: pd.DataFrame, name: str, step: str) -> pd.Series | None:
    found = rows[(rows["implementation"] == name) & (rows["pass"] == step)]
    return found.iloc[-1] if len(found) else None


def _baseline(here: pd.DataFrame, group: pd.DataFrame, name: str, step: str) -> pd.Series | None:
    """Return the row to hold others against: of the same layer norm, but torch's LSTM, which has none, for both."""
    return _only(group if name == "torch.nn.LSTM" else here, name, step)


def _figure(row: pd.Series | None, column: str, scale: float, label: bool = True) -> str:
    """Return three digits of a figure, or why there is none."""
    if row is None or row["status"] != "ok":
        return "-" if row is None or not label else str(row["status"]).split(":")[0]
    value = row[column] * scale
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _kept(row: pd.Series | None) -> str:
    """Return the bytes kept for the backward pass, a step and sample."""
    return "-" if row is None or row["status"] != "ok" else f"{row['kept_bytes'] / (row['T'] * row['B']):.0f}"


def _two(ratio: float) -> str:
    """Return a ratio with two decimals, or three where two would say little."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"


def _ratio(row: pd.Series | None, baseline: pd.Series | None, column: str) -> str:
    if row is None or baseline is None or row["status"] != "ok" or baseline["status"] != "ok":
        return "-"
    return _two(row[column] / baseline[column])


def bench_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the answer: for each workload the implementation that trains fastest, and what that means."""
    lines = []
    for (title, layer_norm), table in bench_tables(rows).items():
        ours = table[table["implementation"].isin(names())]
        timed = ours[ours["train / row_scaled"] != "-"]
        if timed.empty:
            continue
        best = timed.loc[timed["train / row_scaled"].astype(float).idxmin()]
        peer = table[table["implementation"] == "labml"]
        timed_peer = len(peer) > 0 and peer["train / row_scaled"].iloc[0] != "-"
        lines.append(
            {
                "workload": title,
                "layer norm": layer_norm,
                "fastest": best["implementation"],
                "train, ms": best["train, ms"],
                "/ row_scaled": best["train / row_scaled"],
                "/ nn.LSTM": best["train / torch.nn.LSTM"],
                "/ labml": _two(float(best["train, ms"]) / float(peer["train, ms"].iloc[0])) if timed_peer else "-",
                "MB / nn.LSTM": best["MB / torch.nn.LSTM"],
            }
        )
    return pd.DataFrame(lines)


def bench_markdown(rows: pd.DataFrame) -> str:
    """Return bench.md: the answer first, then every table."""
    parts = [f"# Benchmark\n\n{environments(rows)}\n"]
    summary = bench_summary(rows)
    if len(summary):
        parts.append(f"## The fastest to train\n\n{markdown(summary)}\n")
    parts.append(
        "Times are medians of a forward pass without gradient and of a training step (forward, mean square, backward); "
        "memory is the most that torch's allocator held above what it held before. Ratios below 1 mean less time or "
        "memory than the baseline. `torch.nn.LSTM` has the same I, H, T, B and neither hypernetwork nor layer norm. "
        "Everything else was checked at the workload's sizes before it was timed; what was not right is *refused*, and "
        "what did not fit in the memory or time allowed says so. The first training step is given apart: what it takes "
        "longer is compiling, or capturing. *kept* is what stands between the passes, a step and sample. "
        "The naive form's weight tensor is tied to the "
        "row-scaled one, so that all compute one function; a free tensor would be n_z times as many parameters, "
        "with gradients and Adam moments to match:\n"
    )
    parts.append(f"{markdown(free_tensor(rows))}\n")
    for (title, layer_norm), table in bench_tables(rows).items():
        workload, T, B, _ = title.split(", ")
        row = rows[(rows["workload"] == workload) & (rows["T"] == int(T[2:])) & (rows["B"] == int(B[2:]))].iloc[0]
        sizes = ", ".join(f"{n} {row[n]}" for n in "IHSZL")
        shortened = f" Shortened: {row['shortened']}." if isinstance(row["shortened"], str) and row["shortened"] else ""
        heading = f"## {title}, layer norm {layer_norm}\n\n{sizes}.{shortened}\n"
        parts.append(f"{heading}\n{markdown(table)}\n")
    parts.append("Row by row, with quartiles, rounds, parameters and multiply-adds: [bench.csv](bench.csv).\n")
    return "\n".join(parts)


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
    columns = {
        "implementation": "implementation",
        "forward, ms": "forward, ms",
        "forward / torch.nn.LSTM": "/ nn.LSTM",
        "train, ms": "train, ms",
        "train / torch.nn.LSTM": "/ nn.LSTM ",
        "train, MB": "train, MB",
    }
    return {
        f"{title}, layer norm {layer_norm}": table[list(columns)].rename(columns=columns)
        for (title, layer_norm), table in bench_tables(rows).items()
    }
