"""What a benchmark says in sentences: the headline, or why there is none, and where the machine had two states."""

from collections.abc import Sequence
from statistics import median

import pandas as pd

from suite.candidates.catalogue import alternatives, find
from suite.candidates.names import BASELINE, PADDED
from suite.cases.workloads import Pass
from suite.pages.benchmark import Benchmark
from suite.pages.markdown import Markup
from suite.results.format import significant3, size_of_whole, with_interval
from suite.results.statistics import FEWEST, interval, quotient, two_states

#: What a pass is called in sentences.
PASS_TITLES = {Pass.TRAIN: "training step", Pass.FORWARD: "forward pass"}


def quoted(benchmark: Benchmark) -> pd.DataFrame:
    """The rows of `fastest` that the headline is about: `of_headline` in the first of `dtypes`; without these, all."""
    ours = benchmark.of_headline
    in_first: pd.DataFrame = ours[ours["dtype"].isin(benchmark.dtypes[:1])]
    return in_first if len(in_first) else benchmark.fastest


def headline(benchmark: Benchmark, markup: Markup) -> list[str]:
    """Training time relative to the LSTM and speedup over the fastest alternative, a sentence for each row of `quoted`.

    Rows without an interval, or from a busy machine, have none.
    """
    sentences = []
    for _, row in quoted(benchmark).iterrows():
        if _known(row):
            place = markup.escape(in_words(row))
            slowdown = _slowdown(row, benchmark, markup)
            speedup = _speedup(row, benchmark, markup)
            training_step = f"a training step of {markup.code(row['implementation'])}"
            sentences.append(f"{place}: {training_step} takes {slowdown}, and {speedup}.")
    return sentences


def summary(benchmark: Benchmark, markup: Markup) -> list[str]:
    """The headline, or a sentence that says why there is none; and where the machine had two states."""
    sentences = headline(benchmark, markup) or [_why_no_headline(benchmark)]
    return [*sentences, *states(benchmark, markup)]


def _why_no_headline(benchmark: Benchmark) -> str:
    ours = quoted(benchmark)
    if ours.empty:
        return "No implementation was timed in training."
    if ours["busy"].notna().all():
        return "No headline: other processes kept the machine busy."
    return f"No headline: an interval takes {FEWEST} visits."


def states(benchmark: Benchmark, markup: Markup) -> list[str]:
    """Where the machine changed between two states during a run, a sentence for each workload.

    There an interval is as wide as the states differ, however many visits there are.
    """
    changing = benchmark.rows.assign(two=benchmark.rows["baseline_s_visits"].map(two_states)).dropna(subset="two")
    sentences = list[str]()
    for _, row in changing.drop_duplicates(benchmark.table.setting).iterrows():
        fast, slow = row["two"]
        fast_ms = significant3(1e3 * median(fast))
        slow_ms = significant3(1e3 * median(slow))
        setting = markup.escape(_setting_in_words(row))
        timed = f"a {PASS_TITLES[row['pass']]} of {markup.code(BASELINE)}"
        sentences.append(
            f"{setting}: the machine had two states, in which {timed} took {fast_ms} and {slow_ms} ms "
            f"({len(fast)} and {len(slow)} visits); intervals there are as wide as these differ."
        )
    return sentences


def _known(row: pd.Series) -> bool:
    """True if a row may be quoted: it has an interval, and the machine was not busy."""
    return bool(pd.notna(row["ratio_low"]) and pd.isna(row["busy"]))


def in_words(row: pd.Series) -> str:
    """A place in a sentence, such as "char-ptb (T 10 of 100, B 64 of 128, float32, layer norm)"."""
    return _setting_in_words(row, ["layer norm"] if row["layer_norm"] else [])


def _setting_in_words(row: pd.Series, about: Sequence[str] = ()) -> str:
    """A setting in a sentence, with further words about it."""
    words = [size_of_whole(row, "T"), size_of_whole(row, "B"), row["dtype"], *about]
    return f"{row['workload']} ({', '.join(words)})"


def _slowdown(row: pd.Series, benchmark: Benchmark, markup: Markup) -> str:
    """Time relative to the LSTM: on a padded batch where that is faster than on packed sequences."""
    padded = benchmark.trained(row, [PADDED])
    if pd.notna(row["to_padded"]) and _known(padded.iloc[0]):
        ratio = quotient(interval(row), interval(padded.iloc[0]))
        end = f"one of {markup.code(BASELINE)} on the padded batch, which is faster than on packed sequences"
        return f"{with_interval(ratio)} times as long as {end}"
    return f"{with_interval(interval(row))} times as long as one of {markup.code(BASELINE)}"


def _speedup(row: pd.Series, benchmark: Benchmark, markup: Markup) -> str:
    """Speedup over the fastest of the alternatives."""
    others = [name for name in alternatives() if name != row["implementation"]]
    timed = benchmark.trained(row, others)
    if timed.empty:
        return "no alternative was timed"
    best = timed.loc[timed["ratio"].idxmin()]
    title = _title(best["implementation"], markup)
    what = "the only alternative timed there"
    if len(timed) > 1:
        titles = [_title(name, markup) for name in timed["implementation"]]
        what = f"the fastest alternative timed there (of {', '.join(titles)})"
    if pd.isna(best["ratio_low"]):
        return f"has no interval yet of its speedup over {title}, {what}"
    if pd.notna(best["busy"]):
        return f"was not compared with {title}, {what}, on a quiet machine"
    speedup = quotient(interval(best), interval(row))
    return f"is {with_interval(speedup)} times as fast as with {title}, {what}"


def _title(name: str, markup: Markup) -> str:
    """What a candidate is called in sentences: ours by a name in the code."""
    candidate = find(name)
    if candidate.called or candidate.of_others:
        return markup.escape(candidate.called or name)
    return markup.code(name)
