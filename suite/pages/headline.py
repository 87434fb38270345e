"""What a benchmark says in sentences: the headline, or why there is none, and where the machine had two states."""

from collections.abc import Sequence
from statistics import median

import pandas as pd

from impls import names
from suite.candidates.catalogue import alternatives, find
from suite.candidates.names import BASELINE, PADDED
from suite.cases.workloads import Pass
from suite.pages.benchmark import Benchmark
from suite.results.columns import SETTING
from suite.results.format import significant3, size_of_whole, with_interval
from suite.results.statistics import FEWEST, interval, quotient, two_states

#: What a pass is called in sentences.
PASS_TITLES = {Pass.TRAIN: "training step", Pass.FORWARD: "forward pass"}


def headline(benchmark: Benchmark, device: str) -> list[str]:
    """Training time relative to the LSTM and speedup over the fastest alternative, a sentence for each quoted row.

    Rows without an interval, or from a busy machine, have none.
    """
    sentences = []
    for _, row in benchmark.quoted(device).iterrows():
        if pd.notna(row["ratio_low"]) and pd.isna(row["busy"]):
            training_step = f"a training step of `{row['implementation']}`"
            slowdown = _slowdown(row, benchmark)
            sentences.append(f"{in_words(row)}: {training_step} takes {slowdown}, and {_speedup(row, benchmark)}.")
    return sentences


def summary(benchmark: Benchmark, device: str) -> list[str]:
    """The headline, or a sentence that says why there is none; and where the machine had two states."""
    return [*(headline(benchmark, device) or [_why_no_headline(benchmark, device)]), *states(benchmark)]


def _why_no_headline(benchmark: Benchmark, device: str) -> str:
    ours = benchmark.quoted(device)
    if ours.empty:
        return "No implementation was timed in training."
    if ours["busy"].notna().all():
        return "No headline: other processes kept the machine busy."
    return f"No headline: an interval takes {FEWEST} visits."


def states(benchmark: Benchmark) -> list[str]:
    """Where the machine changed between two states during a run, a sentence for each workload.

    There an interval is as wide as the states differ, however many visits there are.
    """
    changing = benchmark.rows.assign(two=benchmark.rows["baseline_s_visits"].map(two_states)).dropna(subset="two")
    sentences = list[str]()
    for _, row in changing.drop_duplicates(list(SETTING)).iterrows():
        fast, slow = row["two"]
        fast_ms = significant3(1e3 * median(fast))
        slow_ms = significant3(1e3 * median(slow))
        sentences.append(
            f"{in_words(row.drop('layer_norm'))}: the machine had two states, in which a {PASS_TITLES[row['pass']]} of "
            f"`{BASELINE}` took {fast_ms} and {slow_ms} ms ({len(fast)} and {len(slow)} visits); intervals there are "
            "as wide as these differ."
        )
    return sentences


def in_words(row: pd.Series) -> str:
    """A place in a sentence, such as "char-ptb (T 10 of 100, B 64 of 128, float32, layer norm)"."""
    about: Sequence[str] = ["layer norm"] if row.get("layer_norm") else []
    words = [size_of_whole(row, "T"), size_of_whole(row, "B"), row["dtype"], *about]
    return f"{row['workload']} ({', '.join(words)})"


def _slowdown(row: pd.Series, benchmark: Benchmark) -> str:
    """Time relative to the LSTM: on a padded batch where that is faster than on packed sequences."""
    ratio, what = interval(row), f"`{BASELINE}`"
    if pd.notna(row["to_padded"]):
        ratio = quotient(ratio, interval(benchmark.beside(row, [PADDED]).iloc[0]))
        what += " on the padded batch, which is faster than on packed sequences"
    return f"{with_interval(ratio)} times as long as one of {what}"


def _speedup(row: pd.Series, benchmark: Benchmark) -> str:
    """Speedup over the fastest of the alternatives."""
    best = benchmark.next_best(row)
    if best is None:
        return "no alternative was timed"
    timed = benchmark.beside(row, [name for name in alternatives() if name != row["implementation"]])
    title = _title(best["implementation"])
    what = "the only alternative timed there"
    if len(timed) > 1:
        what = f"the fastest alternative timed there (of {', '.join(map(_title, timed['implementation']))})"
    if pd.isna(best["ratio_low"]):
        return f"has no interval yet of its speedup over {title}, {what}"
    if pd.notna(best["busy"]):
        return f"was not compared with {title}, {what}, on a quiet machine"
    return f"is {with_interval(quotient(interval(best), interval(row)))} times as fast as with {title}, {what}"


def _title(name: str) -> str:
    """What a candidate is called in sentences: ours by a name in the code."""
    return f"`{name}`" if name in names() else find(name).called or name
