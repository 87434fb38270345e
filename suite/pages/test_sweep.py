"""The page of sweeps shows each size, the longest sequence, speedups, and where another is faster."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from suite.pages.page import markdown
from suite.pages.sweep import PAGE, length_table, longest, plot, random_table, slower, threads_table, unfinished
from suite.shared.examples import HERE, TINY
from suite.shared.tables import STAMP, TABLES, about

Row = dict[str, Any]


def row(varied: str, n: int, name: str = "batched", norm: bool = False, **figures: Any) -> Row:
    sizes: Any = {varied: n} if varied in "TBHSZ" else {}
    case = replace(TINY, layer_norm=norm, **sizes)
    usual = {"varied": varied, "n": n, "status": "ok", "pass": "train", "taken_cores": 0.0}
    return HERE | about(case, name, "float32") | usual | figures


def page(rows: list[Row]) -> str:
    return markdown(PAGE.content(pd.DataFrame(rows, columns=[*TABLES["sweep"].columns, *STAMP])))


def test_each_size_has_its_times_and_peaks() -> None:
    rows = [row("T", 4, "jax", True, median_s=0.5)]
    rows += [row(v, n, median_s=n / 1e3, peak_bytes=n * 2e6) for v in "TH" for n in (16, 4)]
    rows += [row("T", 4, "naive", median_s=9.0, status="time-out")]
    text = page(rows)
    assert "## Against T\n\nA training step of small (B 2, I 32, H 64, S 16, Z 4, L 1), float32, with T varied." in text
    assert "A training step of small (T 3, B 2, I 32, S 16, Z 4, L 1), float32, with H varied." in text
    assert "| ms per training step | layer norm | T 4 | T 16 |" in text
    assert text.count("| batched | off | 4.00 | 16.0 |") == 2
    assert text.count("| batched | off | 8.00 | 32.0 |") == 2
    assert "| jax | on | 500 | - |\n| batched |" in text
    assert "| naive |" not in text
    assert "Not complete: T, naive, layer norm off: time-out." in text
    figure = plot(pd.DataFrame([*rows[:5], row("T", 4, "deferred", True, median_s=0.1)]))
    assert [axes.get_ylabel()[-2:] + axes.get_xlabel() for axes in figure.axes] == ["msT", "MBT", "msH", "MBH"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}  # type: ignore[union-attr]
    assert lines == {"batched": [[4, 4], [16, 16]], "jax, norm": [[4, 500]]}


@pytest.mark.parametrize(
    ("peaks", "T"), [([50e6, 200e6, 300e6], 6), ([50e6, 200e6], math.nan), ([50e6, 250e6], 4), ([300e6], 2)], ids=str
)
def test_the_longest_sequence_is_between_its_neighbours(peaks: list[float], T: float) -> None:
    assert longest(pd.Series([2, 4, 8][: len(peaks)]), pd.Series(peaks)) == pytest.approx(T, nan_ok=True)


def test_lengths_over_the_limit_give_the_longest() -> None:
    rows = [row("length", n, peak_bytes=n * 100e6, recomputed_bytes=n * 75e6) for n in (1, 2, 4)]
    rows += [row("length", n, "naive", peak_bytes=n * 500e6) for n in (1, 2)]
    assert [list(line.values()) for line in length_table(pd.DataFrame(rows)).words()] == [
        ["batched", "off", "2", "3"], ["naive", "off", "1", "-"],
    ]  # fmt: skip
    assert "small (B 2, I 32, H 64, S 16, Z 4, L 1), float32: a training step at lengths that double." in page(rows)


def test_a_speedup_is_over_one_thread_of_the_same_pass_and_batch() -> None:
    times = {("train", 1, 2): 0.04, ("train", 1, 1): 0.06, ("train", 4, 1): 0.2, ("forward", 1, 2): 0.01}
    rows = [row("threads", n, B=B, median_s=s) | {"pass": step} for (step, B, n), s in times.items()]
    lines = [" | ".join(line.values()) for line in threads_table(pd.DataFrame(rows)).words()]
    assert lines == [
        "training step | 1 | batched | 1 | 60.0 | 1.00", "training step | 1 | batched | 2 | 40.0 | 1.50",
        "training step | 4 | batched | 1 | 200 | 1.00", "forward pass | 1 | batched | 2 | 10.0 | -",
    ]  # fmt: skip
    assert f"with 1 thread up to {HERE['threads']}," in page(rows)


def at_random(*ratios: float) -> list[Row]:
    """Return rows of points at which what auto takes needs these multiples of another's time."""
    return [
        row("random", n, "jax", ratio=ratio, ratio_low=0.9 * ratio, ratio_high=1.1 * ratio)
        for n, ratio in enumerate(ratios)
    ]


def test_points_where_another_is_faster_are_named() -> None:
    rows = [*at_random(0.5, 1.5, 1.0, 2.0), row("random", 0, "batched_cpu"), row("random", 0, "batched_cpu", True)]
    text = page(rows)
    named = "- `jax`, training step, T 3, B 2, H 64, S 16, Z 4, layer norm off: {}\n"
    assert named.format("2.00 (1.80-2.20)") + named.format("1.50 (1.35-1.65)") in f"{text}\n"
    assert text.count(named[:20]) == 2
    assert slower(pd.DataFrame(at_random(0.5, 1.0))) == "No other is faster at any point."
    assert "at 5 points" in text
    (line,) = random_table(pd.DataFrame(at_random(0.5, 1.0, 2.0, 0.8))).words()
    assert list(line.values()) == ["jax", "training step", "4", "2", "0.50", "0.95", "2.00"]
    assert "| jax | training step | 4 | 1 | 0.50 | 1.11 | 2.00 |" in text


def test_a_page_says_which_rows_other_processes_slowed() -> None:
    rows = [row(varied, 1, taken_cores=cores) for varied, cores in (("T", 0.25), ("B", 0.26), ("H", 0.9), ("H", 0.8))]
    assert unfinished(pd.DataFrame(rows)) == "Not reliable, because other processes used the cores: B, H.\n"
    assert unfinished(pd.DataFrame(rows[:1])) == ""
    failed = [
        row("T", 1, status="out of memory"),
        row("T", 2, status="crashed"),
        row("B", 1, norm=True, status="time-out"),
    ]
    assert unfinished(pd.DataFrame(failed)) == (
        "Not complete: T, batched, layer norm off: crashed; B, batched, layer norm on: time-out.\n"
    )


def test_the_page_is_about_the_workload_and_dtype_of_the_last_run() -> None:
    old = [row("T", 4, median_s=1.0) | {"dtype": "bfloat16"}, row("T", 4, median_s=2.0) | {"workload": "medium"}]
    text = page([*old, row("T", 4, median_s=3.0)])
    assert "| batched | off | 3,000 |" in text
    assert "1,000" not in text
    assert "2,000" not in text
    assert "Nothing was measured." in page([row("T", 4, status="refused: red")])
