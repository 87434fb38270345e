"""The page of sweeps shows each size, long sequences, threads, and where another is faster."""

from dataclasses import replace
from typing import Any

import pandas as pd

from suite.pages.page import markdown
from suite.pages.sweep import PAGE, plot, random_table, slower, unfinished
from suite.shared.examples import HERE, TINY
from suite.shared.tables import STAMP, TABLES, about

Row = dict[str, Any]


def row(varied: str, n: int, name: str = "batched", norm: bool = False, **figures: Any) -> Row:
    sizes: Any = {varied: n} if varied in "TBHSZ" else {}
    case = replace(TINY, layer_norm=norm, **sizes)
    usual = {"varied": varied, "n": n, "status": "ok", "pass": "train"}
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


def test_lengths_have_the_memory_with_and_without_residuals() -> None:
    rows = [row("length", n, peak_bytes=n * 100e6, recomputed_bytes=n * 75e6) for n in (4, 2)]
    text = page([*rows, row("length", 2, "naive", peak_bytes=500e6)])
    assert "small (B 2, I 32, H 64, S 16, Z 4, L 1), float32: the memory of a training step" in text
    head = " per training step | layer norm | T 2 | T 4 |\n| --- | --- | ---: | ---: |\n| batched | off | "
    assert f"| MB{head}200 | 400 |\n| naive | off | 500 | - |" in text
    assert f"| MB without residuals{head}150 | 300 |" in text


def test_threads_have_the_times_of_each_pass_and_batch() -> None:
    times = {("train", 1, 2): 0.04, ("train", 1, 1): 0.06, ("train", 4, 1): 0.2, ("forward", 1, 2): 0.01}
    text = page([row("threads", n, B=B, median_s=s) | {"pass": step} for (step, B, n), s in times.items()])
    assert "| ms | pass | B | threads 1 | threads 2 |" in text
    assert "| batched | training step | 1 | 60.0 | 40.0 |\n| batched | training step | 4 | 200 | - |" in text
    assert "| batched | forward pass | 1 | - | 10.0 |" in text
    assert f"with 1 thread up to {HERE['threads']}," in text


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


def test_a_page_says_what_did_not_finish() -> None:
    assert unfinished(pd.DataFrame([row("T", 1)])) == ""
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
