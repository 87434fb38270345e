"""Visits of a row are summarised, and an interval between them is Student's."""

import math

import numpy as np
import pytest

from suite.results.statistics import (
    Interval,
    between,
    pooled_variance,
    quotient,
    student,
    summarised,
    two_states,
)
from suite.results.status import Ended, Status


@pytest.mark.parametrize(("freedom", "coverage", "quantile"), [(2, 0.95, 4.303), (9, 0.95, 2.262), (9, 0.99, 3.250)])
def test_quantiles_are_those_of_students_table(freedom: int, coverage: float, quantile: float) -> None:
    assert student(freedom, coverage) == pytest.approx(quantile, abs=5e-4)


@pytest.mark.parametrize(
    ("pooled", "freedom", "quantile"), [(None, 2, 4.303), ((0.04, 4.0), 6, 2.447)], ids=["alone", "pooled"]
)
def test_an_interval_is_students_of_the_logarithms(
    pooled: tuple[float, float] | None, freedom: int, quantile: float
) -> None:
    """Logarithms of 1, 2 and 4 have mean log 2 and variance log(2) ** 2."""
    squares = 2 * math.log(2) ** 2
    if pooled is not None:
        squares += 4 * 0.04
    factor = math.exp(quantile * math.sqrt(squares / freedom / 3))
    assert between([1.0, 4.0, 2.0], pooled) == pytest.approx((2, 2 / factor, 2 * factor), rel=1e-3)


def test_a_quotient_has_the_errors_of_both_ratios() -> None:
    """Of two independent ones, logarithms of 3 and 4 units add up to 5, each toward the end that it moves."""
    one, other = Interval(6.0, 6 / 1.1**3, 6 * 1.1**30), Interval(2.0, 2 / 1.1**40, 2 * 1.1**4)
    assert quotient(one, other) == pytest.approx((3, 3 / 1.1**5, 3 * 1.1**50))
    assert quotient(one, Interval(2.0, 2.0, 2.0)) == pytest.approx((3, one.ratio_low / 2, one.ratio_high / 2))
    assert math.isnan(quotient(one, Interval(2.0, math.nan, math.nan)).ratio_low)


def drawn(generator: np.random.Generator, deviations: np.ndarray, visits: int) -> list[list[float]]:
    """Ratios of rows around 1 whose logarithms have these standard deviations."""
    logarithms = generator.normal(size=(len(deviations), visits)) * deviations[:, None]
    ratios: list[list[float]] = np.exp(logarithms).tolist()
    return ratios


@pytest.mark.parametrize("freedom", [2, 8])
def test_the_pooled_variance_is_that_which_the_variances_of_rows_were_drawn_with(freedom: int) -> None:
    generator = np.random.default_rng(1)
    variances = 0.01 * freedom / generator.chisquare(freedom, 4000)
    rows = [*drawn(generator, np.sqrt(variances), 5), [1.0, 9.0], [2.0, 2.0, 2.0]]
    pooled = pooled_variance(rows)
    assert pooled == pytest.approx((0.01, freedom), rel=0.1)


def test_rows_of_one_variance_count_as_all_their_visits() -> None:
    rows = [[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [3.0, 1.5, 0.75]]
    pooled = pooled_variance(rows)
    assert pooled is not None
    assert pooled[1] == pytest.approx(6)
    assert pooled_variance([*rows[:1], [1.0, 9.0], [2.0, 2.0, 2.0]]) is None


def test_intervals_have_the_ratio_of_quiet_rows_and_of_noisy_ones() -> None:
    """In nine of ten runs or more for rows of either kind, and in 95 of 100 of all."""
    generator = np.random.default_rng(2)
    noisy = np.arange(60) % 3 == 0
    deviations = np.where(noisy, 0.2, 0.03)
    hits = []
    for _ in range(30):
        rows = drawn(generator, deviations, 5)
        pooled = pooled_variance(rows)
        intervals = [between(ratios, pooled) for ratios in rows]
        hits.append([interval.ratio_low <= 1 <= interval.ratio_high for interval in intervals])
    covered = np.mean(hits, axis=0)
    assert covered[noisy].mean() > 0.9
    assert covered[~noisy].mean() > 0.95
    assert covered.mean() > 0.94


def test_fewer_than_three_visits_have_no_interval() -> None:
    assert between([2.0, 2.2])[0] == 2.1
    assert between([1.0, 1.5, 9.0])[0] == 1.5
    assert math.isnan(between([2.0, 2.2]).ratio_low)
    three = between([2.0, 2.1, 2.2])
    assert three.ratio_low < 2.0 < 2.2 < three.ratio_high


def row(status: Status = Status.OK, **figures: float | str) -> dict[str, float | str]:
    return {"workload": "small", "pass": "train", "status": status, **figures}


def test_visits_of_a_row_are_summarised() -> None:
    visits = [row(median_s=1.0, ratio=2.0, peak_bytes=7), *[row(median_s=3.0, ratio=2.2, peak_bytes=8)] * 2]
    (result,) = summarised(visits)
    assert math.isnan(summarised(visits[:2])[0]["ratio_low"])
    assert result["ratio_visits"] == (2, 2.2, 2.2)
    assert [result[name] for name in ("visits", "median_s", "ratio", "peak_bytes")] == [3, 3.0, 2.2, 7]
    assert result["ratio_low"] < 2.2 < result["ratio_high"]
    # Visits that agree by chance do not make a row certain: it has the variance of the run, too.
    others = [row(ratio=ratio) | {"T": T} for T in (1, 2) for ratio in (2.0, 2.2, 2.2)]
    assert summarised([*[row(ratio=2.0)] * 3, *others])[0]["ratio_low"] < 1.98
    (failed,) = summarised([*visits, row(Status.FAILED, detail="signal 11")])
    assert (Ended.of(failed), failed["ratio_visits"]) == (Ended(Status.FAILED, "signal 11"), (2, 2.2, 2.2))


@pytest.mark.parametrize(
    ("seconds", "states"),
    [
        ([0.62, 1.38, 0.6, 0.6, 1.51], ([0.6, 0.6, 0.62], [1.38, 1.51])),
        ([0.6, 0.6, 1.5], None),  # one visit is no state
        ([1.0, 1.01, 1.29, 1.3], None),  # too near
        ([1.0, 1.3, 1.7, 2.2, 2.9], None),  # each differs from the next
        ([1.0, 1.0], None),
        ([], None),
    ],
)
def test_two_states_are_groups_of_visits(seconds: list[float], states: tuple[list[float], list[float]] | None) -> None:
    assert two_states(seconds) == states
