"""The answer that a machine's results give, before any table: what is right, what is fastest, and what it costs."""

from pathlib import Path

import pandas as pd

from suite.pages.bench_tables import answer, bench_summary
from suite.pages.verify_tables import verify_table
from suite.shared.rows import table as result_table
from suite.shared.tables import environments, markdown


def answer_markdown(folder: Path) -> str:
    """Return a machine's answer in Markdown: a sentence on speed, one on correctness, and the table by workload."""
    bench, verify = (result_table(name).read(folder) for name in ("bench", "verify"))
    summary = bench_summary(bench) if len(bench) else bench
    parts = [f"**{answer(bench)}**"] if len(summary) else []
    parts += [verdict(verify_table(verify))] if len(verify) else []
    parts += [environments(bench), markdown(summary)] if len(summary) else []
    return "\n\n".join(parts) + "\n"


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
