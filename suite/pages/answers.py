"""The answer that a machine's results give, before any table: what is right, what is fastest, and what it costs."""

from pathlib import Path

from suite.pages.bench_tables import answer, bench_summary, without_busy
from suite.pages.sheets import Part
from suite.pages.verify_tables import verdict
from suite.shared.rows import table
from suite.shared.words import made_on


def answers(folder: Path) -> list[Part]:
    """Return a machine's answer: a sentence on speed, one on correctness, and the table by workload."""
    bench, verify = without_busy(table("bench").read(folder)), table("verify").read(folder)
    summary = bench_summary(bench)
    parts: list[Part] = [f"**{answer(bench)}**"] if len(summary) else []
    parts += [verdict(verify)] if len(verify) else []
    return [*parts, made_on(bench), summary] if len(summary) else parts
