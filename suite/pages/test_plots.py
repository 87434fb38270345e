"""In a plot every name has its own look, bars are ratios, and every axis has figures."""

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.pages.bench import readme_rows, speed_bars, training
from suite.pages.bench_tables import compared
from suite.pages.plots import COLOUR_OF_A_FILE, COLOURS, LOOKS, MARKERS, Panel, bar_plot, line_plot, panels, plain, svg
from suite.shared.cases import BASELINE, ORDER
from suite.shared.examples import runs


def test_every_name_has_its_own_look() -> None:
    assert set(ORDER) <= set(LOOKS)
    assert COLOUR_OF_A_FILE not in {look["color"] for look in LOOKS.values()}
    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKERS)) == len(MARKERS)


def lengths(axes: Axes) -> dict[str, float]:
    """Return the lengths of the bars of a panel, by label, from the top."""
    assert axes.yaxis_inverted()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(labels, [bar.get_window_extent().width for bar in axes.patches], strict=True))


def test_training_bars_compare_as_paired_ratios() -> None:
    # The clock was half as fast while `batched` ran, for the baseline beside it too.
    rows = runs("batched", 0.2, ratio=2.0) + runs("deferred", 0.15, ratio=3.0) + runs(BASELINE, 0.05)
    rows += runs("compiled", 0.1, layer_norm=True) + runs("naive", 9.0, dtype="bfloat16") + runs("jax", 0)
    rows += runs("mine", 0.2)  # of a file outside the project
    medium = pd.DataFrame([row | {"workload": "medium"} for row in rows] + runs("labml", 0.1))
    figure = training(readme_rows(medium).dropna(subset="relative"))
    widths = lengths(figure.axes[0])
    assert list(widths) == [BASELINE, "batched", "deferred", "mine"]
    assert [width / widths[BASELINE] for width in widths.values()] == pytest.approx([1, 2, 3, 4])
    assert [text.get_text() for text in figure.axes[0].texts] == ["50.0 ms", "100 ms", "150 ms", "200 ms"]


def test_speed_has_a_panel_for_each_place_and_the_pass_that_counts() -> None:
    rows = runs("batched", 0.1, B=1)[:1] + runs("batched", 0.4, B=1)[1:] + runs("compiled", 0.2, layer_norm=True)
    rows += runs(BASELINE, 0.05) + runs("naive", 0.3) + runs("jax", 0)
    bars = speed_bars(compared(pd.DataFrame(rows)))
    assert bars == {
        "small, float32, forward\nT 3, B 1": {"batched": 2.0},
        "small, float32, norm, train\nT 3, B 2": {"compiled": 4.0, BASELINE: 1.0},
        "small, float32, train\nT 3, B 2": {BASELINE: 1.0},
    }
    figure = bar_plot(bars, "x", "time", columns=2)
    assert [axes.get_title() for axes in figure.axes] == [*bars, ""]
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    assert list(lengths(figure.axes[1])) == [BASELINE, "compiled (torch.compile)"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["1.00x", "4.00x"]
    heights = [axes.get_position().height for axes in figure.axes]
    assert heights[0] == pytest.approx(heights[1])
    assert heights[0] > heights[2]
    figure.draw_without_rendering()
    upper, lower = (axes.get_tightbbox() for axes in figure.axes[::2])
    assert upper is not None
    assert lower is not None
    assert not upper.overlaps(lower)


@pytest.mark.parametrize(("longest", "end"), [(100.0, 13.0), (41.0, 13.0), (39.0, 50.7)], ids=str)
def test_a_much_longer_bar_is_cut_off(longest: float, end: float) -> None:
    figure = bar_plot({"": {"jax": 1.0, "naive": longest, "batched": 10.0}}, " ms", "ms")
    (axes,) = figure.axes
    assert axes.get_xlim()[1] == pytest.approx(end)
    text = f"{longest:.3g}{'.0' if longest < 99 else ''} ms{' (cut off)' if end < longest else ''}"
    assert axes.texts[-1].get_text() == text


def test_lines_go_through_the_points_in_the_look_of_their_name() -> None:
    T = pd.Series({4: 1.0, 8: 2.0}), pd.Series({4: 3.0, 16: 9.0})
    content = [Panel({"batched": T[0], "jax, norm": T[1]}, "T", "ms"), *[Panel({"batched": T[0]}, "B", "MB")] * 2]
    figure = line_plot(content)
    first = figure.axes[0]
    assert [line.get_xydata().tolist() for line in first.lines] == [[[4, 1], [8, 2]], [[4, 3], [16, 9]]]  # type: ignore[union-attr]
    assert [line.get_color() for line in first.lines] == [LOOKS[name]["color"] for name in ("batched", "jax")]
    assert [line.get_markerfacecolor() for line in first.lines] == [LOOKS["batched"]["color"], "none"]
    assert [label.get_text() for label in first.get_xticklabels()] == ["4", "8", "16"]
    assert first.get_xgridlines()[0].get_visible()
    assert not figure.legends[0].get_frame_on()
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    assert [axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes[:3]] == ["Tms", "BMB", "BMB"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["batched", "jax, norm"]


@pytest.mark.parametrize(
    ("values", "figures"), [((0.98, 1.24), ["1", "1.1", "1.2"]), ((0.8, 30), ["1", "2", "5", "10", "20"])], ids=str
)
def test_an_axis_has_figures_however_little_it_spans(values: tuple[float, ...], figures: list[str]) -> None:
    figure, (axes,) = panels(1, 1, 8.0, [3.2])
    axes.plot(values, values)
    axes.set(xscale="log")
    plain(axes.xaxis)
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert [label.get_text() for value, label in ticks if low <= value <= high] == figures


def test_a_plot_is_the_same_svg_each_time_without_a_background() -> None:
    def drawn() -> Figure:
        return bar_plot({"a": {"batched": 1.0}}, "", "x")

    text = svg(drawn())
    assert text == svg(drawn())
    assert not any(colour in text for colour in ("#ffffff", "#000000"))
