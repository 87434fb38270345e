"""Sizes that differ in one letter alone are a sweep, whose plot and table show the same figures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from suite.candidates.names import BASELINE
from suite.cases.case import SIZES
from suite.cases.spelling import parse, short
from suite.cases.workloads import Pass, Workload
from suite.pages.bench_tables import PEAK, TIME
from suite.pages.benchmark import Benchmark
from suite.pages.page import IMPLEMENTATION, NoFigure, Plot, page_text
from suite.pages.plots import by_factors
from suite.pages.sizes import PAGE, SIZE, Sweep, sweeps
from suite.results.examples import HERE, runs
from suite.results.names import TableName
from suite.results.status import Status
from suite.results.tables import TABLES, about_pass

Rows = list[dict[str, Any]]
#: The column of the size over which these sweeps are.
H = SIZE["H"]


def at(size: str, seconds: float, lstm: float = 0.05, name: str = "batched", **changes: Any) -> Rows:
    """Rows of a candidate at a size, with those of the baseline."""
    case = parse(size)
    workload = Workload(short(case), case, asked_for=True)
    rows = []
    for each, took in ((name, seconds), (BASELINE, lstm)):
        norm = case.layer_norm and each != BASELINE
        figures = runs(
            each, took, baseline_s=lstm, ratio=took / lstm, ratio_low=0.9 * took / lstm, ratio_high=1.1 * took / lstm
        )
        for row in figures:
            if row["pass"] in workload.passes:
                about = about_pass(workload, replace(case, layer_norm=norm), each, "float32", row["pass"])
                rows.append(row | about | {"multiply_adds": case.multiply_adds()} | HERE | changes)
    return rows


def found(rows: Rows, over: Sequence[str] = SIZES) -> list[Sweep]:
    return sweeps(Benchmark.of(pd.DataFrame(rows), TABLES[TableName.SIZES]), over)


def test_a_sweep_has_the_sizes_that_differ_in_one_letter() -> None:
    rows = [row for size in ("H64", "H128-L2", "H128", "T9-H64") for row in at(size, 0.1)]
    rows += [row for row in at("H64-norm", 0.1) if row["implementation"] != BASELINE]  # which is that of H64
    assert [(each.size, each.values, each.name) for each in found(rows)] == [
        ("T", [9, 50], "sweep-T-H64-float32"),
        ("H", [64, 128], "sweep-H-float32"),
        ("L", [1, 2], "sweep-L-H128-float32"),
    ]
    assert [each.size for each in found(rows, ["H"])] == ["H"]
    assert not found(at("H64", 0.1))
    assert not found([])
    lengths = [*at("lengths3.2", 0.1), *at("lengths4.2", 0.1)]
    assert not found(lengths)


@pytest.mark.parametrize(
    ("sizes", "step"),
    [(["B1", "B2"], "train"), (["B1-T1", "B1-T2"], "forward"), (["T1-eval", "T2-eval"], "forward")],
    ids=["trained", "one sequence", "not trained"],
)
def test_the_pass_of_a_sweep_is_the_one_that_counts(sizes: list[str], step: str) -> None:
    (sweep,) = found([row for size in sizes for row in at(size, 0.1)])
    assert (sweep.timed, {*sweep.rows["pass"]}) == (step, {step})


def test_times_are_ratios_times_the_median_of_the_baseline() -> None:
    """As the clock may have been another while the candidate ran, for the baseline beside it too."""
    rows = [*at("H64", 0.1), *at("H128", 0.3, 0.1)]
    rows = [
        row | {"median_s": 7 * row["median_s"]} if (row["implementation"], row["H"]) == ("batched", 64) else row
        for row in rows
    ]
    rows += [row for row in at("H64", 0.2, name="deferred") if row["implementation"] == "deferred"]
    (sweep,) = found(rows)
    lines = [(line[IMPLEMENTATION], line[H], line[TIME[Pass.TRAIN]]) for line in sweep.view().lines]
    expected = [
        ("batched", 64, 100),
        ("batched", 128, 300),
        (BASELINE, 64, 50),
        (BASELINE, 128, 100),
        ("deferred", 64, 200),
    ]
    assert lines == [(name, size, pytest.approx(ms)) for name, size, ms in expected]
    assert {line[PEAK[Pass.TRAIN]] for line in sweep.view().lines} == {1.0}  # MB
    assert str(sweep.growth()[0]).startswith("batched, H 64 to 128: 3.00 times, multiply-adds 2.01 times.")
    assert str(sweep.growth()[1]).startswith(f"{BASELINE}, H 64 to 128: 2.00 times, multiply-adds")
    assert len(sweep.growth()) == 2
    ratio, time = sweep.draw().axes
    assert [axes.get_title() for axes in (ratio, time)] == ["time / torch.nn.LSTM", "ms per training step"]
    of_ratio, of_time = ([np.asarray(line.get_ydata()) for line in axes.get_lines()] for axes in (ratio, time))
    assert [list(line) for line in of_ratio] == [pytest.approx([2, 3]), [1, 1]]
    assert [list(line) for line in of_time] == [pytest.approx([100, 300]), pytest.approx([50, 100])]
    bands = [np.asarray(band.get_paths()[0].vertices)[:, 1] for axes in (ratio, time) for band in axes.collections[:2]]
    of_ratio, floor, of_time, _ = ([ends.min(), ends.max()] for ends in bands)
    assert of_ratio == pytest.approx([1.8, 3.3])
    assert floor == pytest.approx([0.9, 1 / 0.9])  # as far from 1 to either side, by factors
    assert of_time == pytest.approx([90, 330])


@pytest.mark.parametrize(
    ("values", "first", "last"), [([100, 200, 300], 100, 200), ([100, 200, 400, 500], 200, 400), ([3, 5, 8], 5, 8)]
)
def test_growth_is_over_the_last_doubling_or_the_last_two_sizes(values: list[int], first: int, last: int) -> None:
    (sweep,) = found([row for value in values for row in at(f"H{value}", value / 100)])
    assert f"H {first} to {last}: {last / first:#.3g} times" in str(sweep.growth()[0])


def test_what_failed_has_no_growth_and_a_reason() -> None:
    rows = [*at("H64", 0.1), *at("H128", 0.3, status=Status.NO_MEMORY)]
    (sweep,) = found(rows)
    assert sweep.growth() == []
    parts = PAGE.content(pd.DataFrame(rows), {})
    assert not [part for part in parts if isinstance(part, Plot)], "a plot of one size"
    times = [line[TIME[Pass.TRAIN]] for line in sweep.view().lines if line[H] == 128]
    assert times == [NoFigure(Status.NO_MEMORY)] * 2


@pytest.mark.parametrize(
    ("values", "scale"),
    [([128, 256, 512, 1024], "log"), ([1, 2, 3], "linear"), ([10, 20, 30, 40], "linear"), ([64, 256], "log")],
)
def test_axes_are_logarithmic_where_sizes_grow_by_factors(values: list[int], scale: str) -> None:
    assert by_factors(values) == (scale == "log")
    (sweep,) = found([row for value in values for row in at(f"H{value}", 0.1)])
    for axes in sweep.draw().axes:
        assert (axes.get_xscale(), axes.get_yscale()) == (scale, scale)
        assert [label.get_text() for label in axes.get_xticklabels()] == [f"{value:,}" for value in values]


def test_lines_are_told_apart_without_colours() -> None:
    names = ("batched", "deferred", "batched_cpu", "row_scaled", "naive")
    rows = [row for size in ("H64", "H128") for name in names for row in at(size, 0.1, name=name)]
    once = pd.DataFrame(rows).drop_duplicates(["workload", "implementation", "pass"])
    (sweep,) = sweeps(Benchmark.of(once, TABLES[TableName.SIZES]))
    looks = {(line.get_marker(), str(line.get_linestyle())) for line in sweep.draw().axes[0].get_lines()}
    assert len({marker for marker, _ in looks}) == len(names) + 1


def test_sizes_of_one_name_are_two_places() -> None:
    """As they are once medium has changed, from which a name says how a case differs."""
    old = at("I50-S64-lengths9.7.2-dropout0.1-L2", 0.2, 0.1, workload="H512")
    new = at("I60-S64-lengths9.7.2-dropout0.1-L2", 0.6, 0.1, workload="H512", peak_bytes=5e6)
    benchmark = Benchmark.of(pd.DataFrame([*old, *new]), TABLES[TableName.SIZES])
    assert len(benchmark.rows) == len([*old, *new])
    places = {place.row["I"]: place for place in benchmark.places()}
    assert {size: len(place.rows) for size, place in places.items()} == {50: len(old), 60: len(new)}
    assert {*benchmark.rows["memory_ratio"]} == {1.0}  # each to the baseline beside it
    for size, place in places.items():
        (fastest,) = benchmark.fastest.loc[benchmark.fastest["I"] == size, "ratio"]
        (beside,) = benchmark.trained(place.row, ["batched"])["ratio"]
        assert fastest == beside == pytest.approx({50: 2, 60: 6}[size])


def test_the_page_shows_sweeps_and_every_size() -> None:
    text = page_text(PAGE.content(pd.DataFrame([*at("H64-norm", 0.1), *at("H128-norm", 0.3)])))
    assert "## H 64 to 128 (T 50, B 32, I 50, S 64, Z 4, L 1, float32, norm)" in text
    assert "(sweep-H-norm-float32.svg)" in text
    assert "## H128-norm, T 50, B 32, float32, layer norm on" in text
    assert "layer norm off" not in text
