"""What a benchmark says in sentences, from rows of `ranked`: the headline, and where the machine had two states."""

from collections.abc import Sequence
from statistics import median

import pandas as pd

from impls import names
from suite.candidates import submission
from suite.candidates.catalogue import find
from suite.candidates.names import BASELINE, PADDED
from suite.cases.workloads import Pass
from suite.pages.ranking import at_same_place, fastest, next_best, quoted
from suite.results.columns import SETTING
from suite.results.format import ratio_text, significant3, size_of_whole, with_interval
from suite.results.statistics import FEWEST, interval, quotient, two_states
from suite.results.status import Ended, Status

#: What a pass is called in sentences.
PASS_TITLES = {Pass.TRAIN: "training step", Pass.FORWARD: "forward pass"}


def summary(rows: pd.DataFrame, device: str) -> list[str]:
    """The headline, and where the machine had two states."""
    return [*headline(rows, device), *states(rows)]


def headline(rows: pd.DataFrame, device: str) -> list[str]:
    """What `facts` says of our fastest among the quoted rows, else among all; or why there is no headline."""
    ours = fastest(rows)
    if ours.empty:
        return ["No implementation was timed in training."]
    of_headline = quoted(ours, device)
    if of_headline.empty:
        of_headline = ours
    if of_headline["busy"].notna().all():
        return ["No headline: other processes kept the machine busy."]
    sure = certain(of_headline)
    if sure.empty:
        return [f"No headline: an interval takes {FEWEST} visits."]
    return [f"{in_words(row)}: {facts(row, rows)}" for _, row in sure.iterrows()]


def certain(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that have an interval and were not measured beside a busy machine."""
    sure: pd.DataFrame = rows[rows["ratio_low"].notna() & rows["busy"].isna()]
    return sure


def facts(row: pd.Series, rows: pd.DataFrame) -> str:
    """Two sentences of a row: its training time relative to the LSTM, and the speedup over the fastest alternative."""
    return f"A training step of `{row['implementation']}` takes {_slowdown(row, rows)}. {_speedup(row, rows)}"


def states(rows: pd.DataFrame) -> list[str]:
    """Where the machine changed between two states during a run, a sentence for each workload.

    There an interval is as wide as the states differ, however many visits there are.
    """
    changing = rows.assign(two=rows["baseline_s_visits"].map(two_states)).dropna(subset="two")
    sentences = list[str]()
    for _, row in changing.drop_duplicates(list(SETTING)).iterrows():
        fast, slow = row["two"]
        fast_ms = significant3(1e3 * median(fast))
        slow_ms = significant3(1e3 * median(slow))
        sentences.append(
            f"{in_words(row.drop('layer_norm'))}: the machine had a fast and a slow state, in which a "
            f"{PASS_TITLES[row['pass']]} of `{BASELINE}` took {fast_ms} and {slow_ms} ms ({len(fast)} and {len(slow)} "
            "visits), so intervals there are wide."
        )
    return sentences


def about_files(rows: pd.DataFrame) -> list[str]:
    """How long a training step of each file of `--impl` takes, or why it was not timed, a sentence for each row."""
    sentences = list[str]()
    files = submission.files()
    ours = [name for name in names() if name not in files]
    for _, row in rows[rows["implementation"].isin(files) & (rows["pass"] == Pass.TRAIN)].iterrows():
        where = f"{row['implementation']} on {in_words(row)}"
        if row["status"] != Status.OK:
            why = str(Ended.of(row)).removesuffix(".")
            sentences.append(f"{where} has no figure: {why}.")
            continue
        if pd.notna(row["busy"]):
            reason = "other processes kept the machine busy"
            sentences.append(f"{where}: how many times as long a training step takes is not known, as {reason}.")
            continue
        others = {BASELINE: 1.0}
        for _, first in at_same_place(row, ours, rows).nsmallest(1, "ratio").iterrows():
            others[first["implementation"]] = first["ratio"]
        words = [f"{ratio_text(row['ratio'] / ratio)} times as long as one of {name}" for name, ratio in others.items()]
        sentences.append(f"{where}: a training step takes {', and '.join(words)}.")
    return sentences


def in_words(row: pd.Series) -> str:
    """A place in a sentence, such as "char-ptb (T 10 of 100, B 64 of 128, float32, layer norm)"."""
    about: Sequence[str] = ["layer norm"] if row.get("layer_norm") else []
    words = [size_of_whole(row, "T"), size_of_whole(row, "B"), row["dtype"], *about]
    return f"{row['workload']} ({', '.join(words)})"


def _slowdown(row: pd.Series, rows: pd.DataFrame) -> str:
    """Time relative to the LSTM: on a padded batch where that is faster than on packed sequences."""
    ratio, what = interval(row), f"`{BASELINE}`"
    if pd.notna(row["to_padded"]):
        ratio = quotient(ratio, interval(at_same_place(row, [PADDED], rows).iloc[0]))
        what += " on the padded batch, which is faster than on packed sequences"
    return f"{with_interval(ratio)} times as long as one of {what}"


def _speedup(row: pd.Series, rows: pd.DataFrame) -> str:
    """Speedup over the fastest of the alternatives."""
    best = next_best(row, rows)
    if best is None:
        return "No alternative was timed."
    alternative = f"{_title(best['implementation'])}, the fastest alternative"
    if pd.isna(best["ratio_low"]):
        return f"Its speedup over {alternative}, is not known: that one had too few visits."
    if pd.notna(best["busy"]):
        return f"Its speedup over {alternative}, is not known: other processes kept the machine busy."
    return f"It is {with_interval(quotient(interval(best), interval(row)))} times as fast as {alternative}."


def _title(name: str) -> str:
    """What a candidate is called in sentences."""
    if name in names():
        return f"`{name}`"
    called = find(name).called
    return f"the same model under {called}" if called else f"the same model in {name}"
