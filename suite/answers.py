"""The answer that a machine's results give, before any table: what is right, what is fastest, and what it costs."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .bench_tables import bench_summary
from .results import read
from .tables import environments, markdown
from .verify_tables import verify_table


def answer_markdown(folder: Path) -> str:
    """Return a machine's answer in Markdown: a sentence on speed, one on correctness, and the table by workload."""
    bench, verify = read(folder / "bench.csv"), read(folder / "verify.csv")
    parts = []
    if not bench.empty:
        summary = bench_summary(bench)
        parts += [fastest(summary)] if len(summary) else []
    if not verify.empty:
        parts.append(verdict(verify_table(verify)))
    if not bench.empty:
        parts += [environments(bench), markdown(summary)] if len(summary) else []
    return "\n\n".join(parts) + "\n"


def fastest(summary: pd.DataFrame) -> str:
    """Return in a sentence for each implementation that is fastest somewhere how fast it is, and in how much memory."""
    sentences = []
    for name, wins in summary.groupby("fastest", sort=False):
        costs = [
            f"{between(wins[column])} times the {what}"
            for column, what in {
                "/ nn.LSTM": "time of `torch.nn.LSTM`",
                "/ row_scaled": "time of `row_scaled`",
                "/ labml": "time of labml's module",
                "MB / nn.LSTM": "memory of `torch.nn.LSTM`",
            }.items()
            if column in wins and (wins[column] != "-").any()
        ]
        where = f"on {len(wins)} of {len(summary)} workloads"
        sentences.append(f"**`{name}` trains fastest {where}**, in {', '.join(costs[:-1])} and {costs[-1]}.")
    return " ".join(sentences)


def between(ratios: Sequence[str]) -> str:
    """Return the least and the most of figures in a table, as written there."""
    figures = sorted((ratio for ratio in ratios if ratio != "-"), key=float)
    return figures[0] if figures[0] == figures[-1] else f"{figures[0]} to {figures[-1]}"


def verdict(table: pd.DataFrame) -> str:
    """Return in a sentence what verification found."""
    ran = table[table["verdict"] != "skipped"]
    failed = ran[ran["verdict"].str.contains("FAILED")]
    cases = ran["cases"].astype(int).sum()
    names = ran["implementation"].nunique()
    if len(failed):
        which = ", ".join(failed["implementation"] + " in " + failed["dtype"])
        return f"**Verification is red**: {which}."
    worst = max(float(ratio) for ratio in ran["worst"] if ratio != "-")
    return (
        f"Verification is green: {names} implementations against the full-tensor form in float64, {cases} comparisons, "
        f"the worst error {worst:.2f} of what is allowed."
    )
