"""In a plot every name has its own colour, and bars are ratios."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer

from suite.candidates.names import BASELINE, ORDER
from suite.cases.workloads import Pass
from suite.pages.bench import plots, speed_panels
from suite.pages.plots import bar_plot, colour, line_plot, styles, svg
from suite.pages.ranking import ranked
from suite.results.example_runs import benchmark, timed
from suite.results.statistics import Interval


def test_every_name_has_its_own_colour() -> None:
    style_of = styles(["mine", *ORDER, "yours"])
    assert len({*map(colour, style_of.values())}) == len(ORDER) + 2
    assert styles(ORDER[2:4])[ORDER[3]] == style_of[ORDER[3]]


def test_two_files_have_two_looks() -> None:
    two = {1: Interval(1, 0.9, 1.1), 2: Interval(1, 0.9, 1.1)}
    lines = line_plot({"": {"mine": two, "yours": two}}, "T").axes[0].get_lines()
    for look in ("color", "marker"):
        of_mine, of_yours = (getattr(line, f"get_{look}")() for line in lines)
        assert of_mine != of_yours
    figure = bar_plot({"a": training("mine", 1), "b": training("yours", 1)})
    of_mine, of_yours = (bars_of(axes).patches[0].get_facecolor() for axes in figure.axes)
    assert of_mine != of_yours


def training(name: str, ratio: float) -> pd.DataFrame:
    """Rows of a training step."""
    rows = ranked(benchmark(*timed(name, 0.05 * ratio)).rows)
    of_training: pd.DataFrame = rows[rows["pass"] == Pass.TRAIN]
    return of_training


def bars_of(axes: Axes) -> BarContainer:
    """Return the bars of a panel, from the top."""
    assert axes.yaxis_inverted()
    (bars,) = (each for each in axes.containers if isinstance(each, BarContainer))
    return bars


def lengths(axes: Axes) -> dict[str, float]:
    """Return the lengths of the bars of a panel, by label, from the top."""
    labels = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(labels, [bar.get_width() for bar in bars_of(axes).patches], strict=True))


def whiskers(axes: Axes) -> list[list[float]]:
    """Return both ends of the interval of each bar of a panel that has one, from the top."""
    (lines,) = bars_of(axes).errorbar.lines[2]  # type: ignore[union-attr]
    return [list(line[:, 0]) for line in lines.get_segments() if len(line) and not np.isnan(line).any()]


def bands(axes: Axes) -> list[list[float]]:
    """Return both ends of each band behind the bars."""
    behind = [patch for patch in axes.patches if patch not in bars_of(axes).patches]
    return [[patch.get_x(), patch.get_x() + patch.get_width()] for patch in behind]  # type: ignore[attr-defined]


def test_training_bars_are_the_ratios_of_the_table() -> None:
    # The clock was half as fast while `batched` ran, for the baseline beside it too.
    rows = timed("batched", 0.2, ratio=2.0, ratio_low=1.5, ratio_high=2.25) + timed("deferred", 0.15)
    rows += timed(BASELINE, 0.05, ratio=0.98, ratio_low=0.96, ratio_high=1.1)
    rows += timed("compiled", 0.1, layer_norm=True) + timed("naive", 9.0, dtype="bfloat16") + timed("jax", 0)
    rows += timed("mine", 0.2, ratio_low=None, ratio_high=None)  # of a file outside the project
    medium = [row | {"workload": "medium"} for row in rows] + timed("labml", 0.1)
    (figure,) = plots(benchmark(*medium)).values()
    (axes,) = figure.axes
    assert lengths(axes) == pytest.approx({BASELINE: 0.98, "batched": 2, "deferred": 3, "mine": 4})
    assert [text.get_text() for text in axes.texts] == ["0.98", "2.00", "3.00", "4.00"]
    lstm, batched, deferred = whiskers(axes)
    assert lstm == pytest.approx([0.96, 1.1])
    assert batched == pytest.approx([1.5, 2.25])
    assert deferred == pytest.approx([3 * 0.99, 3 * 1.01])
    (band,) = bands(axes)
    assert band == pytest.approx([1 / 1.1, 1.1])


def test_speed_has_a_panel_for_each_place_and_the_pass_that_counts() -> None:
    rows = timed("batched", 0.1, B=1)[:1] + timed("batched", 0.4, B=1)[1:] + timed("compiled", 0.2, layer_norm=True)
    rows += timed(BASELINE, 0.05) + timed("naive", 0.3) + timed("jax", 0)
    panels = speed_panels(ranked(benchmark(*rows).rows))
    assert {title: dict(zip(of["implementation"], of["ratio"], strict=True)) for title, of in panels.items()} == {
        "small, float32, forward\nT 3, B 1": {"batched": 2.0},
        "small, float32, norm, train\nT 3, B 2": {"compiled": 4.0, BASELINE: 1.0},
        "small, float32, train\nT 3, B 2": {BASELINE: 1.0},
    }
    figure = bar_plot(panels, columns=2)
    assert [axes.get_title() for axes in figure.axes] == [*panels, ""]
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    assert list(lengths(figure.axes[1])) == [BASELINE, "compiled (torch.compile)"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["1.00", "4.00"]
    assert bands(figure.axes[0]) == []  # where the baseline was not timed against itself
    assert bands(figure.axes[1])[0] == pytest.approx([0.99, 1.01], abs=1e-3)
    assert whiskers(figure.axes[1])[1] == pytest.approx([4 * 0.99, 4 * 1.01])
    heights = [axes.get_position().height for axes in figure.axes]
    assert heights[0] == pytest.approx(heights[1])
    assert heights[0] > heights[2]
    figure.draw_without_rendering()
    upper, lower = (axes.get_tightbbox() for axes in figure.axes[::2])
    assert upper is not None
    assert lower is not None
    assert not upper.overlaps(lower)


def test_bars_from_a_busy_machine_are_marked() -> None:
    panels = speed_panels(ranked(benchmark(*timed("batched", 0.1, busy=0.4), *timed(BASELINE, 0.05)).rows))
    assert [text.get_text() for text in bar_plot(panels).axes[0].texts] == ["1.00", "2.00, busy"]


@pytest.mark.parametrize(("longest", "end"), [(100.0, 13.0), (41.0, 13.0), (39.0, 50.7)], ids=str)
def test_a_much_longer_bar_is_cut_off(longest: float, end: float) -> None:
    (axes,) = bar_plot({"": pd.concat([training("jax", 1), training("naive", longest), training("batched", 10)])}).axes
    assert len(whiskers(axes)) == (3 if end > longest else 2)
    assert axes.get_xlim()[1] == pytest.approx(end)
    assert axes.texts[-1].get_text().endswith(" (cut off)") == (end < longest)


def test_a_plot_is_the_same_svg_each_time_without_a_background() -> None:
    text = svg(bar_plot({"a": training("batched", 1)}))
    assert text == svg(bar_plot({"a": training("batched", 1)}))
    assert not any(colour in text for colour in ("#ffffff", "#000000"))
