"""The pages of a machine's results: each a CSV file of rows, and the Markdown and the plots that are made of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from suite.pages.bench_plots import error_against_speed, roofline, speed
from suite.pages.bench_tables import bench_markdown
from suite.pages.capability_tables import capabilities_markdown
from suite.pages.error_tables import errors_markdown, errors_plot
from suite.pages.fault_tables import faults_markdown
from suite.pages.hardware_tables import hardware_markdown
from suite.pages.kernel_tables import kernels_markdown
from suite.pages.memory_tables import memory_markdown, peak_against_steps, step_parts, tensor_plot
from suite.pages.paper_tables import paper_markdown
from suite.pages.payback_tables import payback_markdown
from suite.pages.scaling_tables import axis_plot, scaling_markdown
from suite.pages.text_tables import text_curve, text_markdown
from suite.pages.verify_tables import verify_markdown
from suite.shared.results import write_whole
from suite.shared.rows import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Page:
    """One page: `<name>.csv`, from it `<name>.md`, and plots in SVG.

    plots: by file name without its ending; None where the rows have nothing to draw. Those that the Markdown does not
        place come at its end.
    beside: by such a plot, the page whose rows it is given as well, none where the machine lacks that page.
    """

    name: str
    markdown: Callable[[pd.DataFrame], str]
    plots: Mapping[str, "Callable[..., Figure | None]"] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Make the Markdown and the plots of a machine's folder again, if it has this page."""
        rows = table(self.name).read(folder)
        if rows.empty:
            return
        text = self.markdown(rows)
        for stem, plot in self.plots.items():
            from suite.pages.plots import style, svg  # matplotlib takes a second to import

            others = [table(self.beside[stem]).read(folder)] if stem in self.beside else []
            with style():
                figure = plot(rows, *others)
            if figure is None:
                continue
            write_whole(folder / f"{stem}.svg", svg(figure))
            if f"({stem}.svg)" not in text:
                text += f"\n![{stem}]({stem}.svg)\n"
        write_whole(folder / f"{self.name}.md", text)


#: In the order that they are listed in.
PAGES = (
    Page(
        "bench",
        bench_markdown,
        plots={"speed": speed, "roofline": roofline, "error-against-speed": error_against_speed},
        beside={"error-against-speed": "errors"},
    ),
    Page("verify", verify_markdown),
    Page("faults", faults_markdown),
    Page("errors", errors_markdown, plots={"errors": errors_plot}),
    Page("capabilities", capabilities_markdown),
    Page("kernels", kernels_markdown),
    Page("hardware", hardware_markdown),
    Page("paper", paper_markdown),
    Page(
        "memory",
        memory_markdown,
        plots={"memory-against-T": peak_against_steps, "memory-parts": step_parts, "memory-tensor": tensor_plot},
    ),
    Page("scaling", scaling_markdown, plots={f"scaling-{axis}": partial(axis_plot, axis=axis) for axis in "TBHSZ"}),
    Page("payback", payback_markdown),
    Page("text", text_markdown, plots={"text-curve": text_curve}),
)
