"""In a plot no two names look alike, bars are ratios, and every axis has figures."""

import pandas as pd
import pytest

from suite.pages.bench import training
from suite.pages.plots import COLOURS, LOOKS, MARKERS, bars, panels, plain
from suite.shared.cases import BASELINE, ORDER
from suite.shared.examples import runs


def test_every_name_has_its_own_look() -> None:
    assert set(ORDER) <= set(LOOKS)
    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKERS)) == len(MARKERS)


def test_training_bars_compare_as_paired_ratios() -> None:
    # The clock was half as fast while `batched` ran, for the baseline beside it too.
    rows = runs("batched", 0.2, ratio=2.0) + runs("deferred", 0.15, ratio=3.0) + runs(BASELINE, 0.05)
    figure = training(pd.DataFrame([row for row in rows if row["pass"] == "train"]))
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    lengths = [bar.get_window_extent().width for bar in axes.patches]
    widths = dict(zip(labels, lengths, strict=True))
    assert {name: widths[name] / widths[BASELINE] for name in widths} == pytest.approx(
        {BASELINE: 1, "batched": 2, "deferred": 3}
    )


@pytest.mark.parametrize(("longest", "end"), [(100.0, 13.0), (30.0, 39.0)], ids=["cut-off", "whole"])
def test_a_much_longer_bar_is_cut_off(longest: float, end: float) -> None:
    _, (axes,) = panels(1, 1)
    bars(axes, {"a": 10.0, "b": longest}, ["red", "blue"], "ms")
    assert axes.get_xlim()[1] == pytest.approx(end)
    assert ("(cut off)" in axes.texts[1].get_text()) == (end < longest)


@pytest.mark.parametrize(
    ("values", "figures"), [((0.98, 1.24), ["1", "1.1", "1.2"]), ((0.8, 30), ["1", "2", "5", "10", "20"])], ids=str
)
def test_an_axis_has_figures_however_little_it_spans(values: tuple[float, ...], figures: list[str]) -> None:
    figure, (axes,) = panels(1, 1)
    axes.plot(values, values)
    axes.set(xscale="log")
    plain(axes.xaxis, (1, 2, 5))
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert [label.get_text() for value, label in ticks if low <= value <= high] == figures
