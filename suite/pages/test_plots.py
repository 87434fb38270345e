"""In a plot every name has its own colour, and bars are ratios."""

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.pages.bench import readme_rows, speed_bars, training
from suite.pages.bench_tables import compared
from suite.pages.plots import COLOUR_OF_A_FILE, COLOURS, LOOKS, bar_plot, svg
from suite.shared.cases import BASELINE, ORDER
from suite.shared.examples import runs


def test_every_name_has_its_own_colour() -> None:
    assert set(ORDER) <= set(LOOKS)
    assert COLOUR_OF_A_FILE not in LOOKS.values()
    assert len(set(COLOURS)) == len(COLOURS)


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
    figure = training(readme_rows(medium).dropna(subset="ratio"))
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


def test_a_plot_is_the_same_svg_each_time_without_a_background() -> None:
    def drawn() -> Figure:
        return bar_plot({"a": {"batched": 1.0}}, "", "x")

    text = svg(drawn())
    assert text == svg(drawn())
    assert not any(colour in text for colour in ("#ffffff", "#000000"))
