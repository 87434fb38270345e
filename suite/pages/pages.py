"""The pages of a machine's results: each a CSV file of rows, and the Markdown and the plots that are made of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from suite.pages.bench_plots import error_against_speed, roofline, speed
from suite.pages.bench_tables import bench_page
from suite.pages.capability_tables import capabilities_page
from suite.pages.error_tables import errors_page, errors_plot
from suite.pages.fault_tables import faults_page
from suite.pages.graph_tables import graphs_page
from suite.pages.hardware_tables import hardware_page
from suite.pages.kernel_tables import kernels_page
from suite.pages.memory_tables import memory_page, peak_against_steps, step_parts, tensor_plot
from suite.pages.paper_tables import paper_page
from suite.pages.payback_tables import payback_page
from suite.pages.scaling_tables import axis_plot, scaling_page
from suite.pages.sheets import Part, markdown
from suite.pages.text_tables import text_curve, text_page
from suite.pages.threads_tables import speedup_plot, threads_page
from suite.pages.verify_tables import verify_page
from suite.shared.results import write_whole
from suite.shared.rows import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Page:
    """One page: `<name>.csv`, from it `<name>.md`, and plots in SVG.

    content: makes the page's parts of its rows.

    plots: by file name without its ending; None where the rows have nothing to draw. Those that the Markdown does not
        place come at its end.
    beside: by such a plot, the page whose rows it is given as well, none where the machine lacks that page.
    """

    name: str
    content: Callable[[pd.DataFrame], list[Part]]
    plots: Mapping[str, "Callable[..., Figure | None]"] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)

    def parts(self, folder: Path) -> list[Part]:
        """Return what the page consists of, nothing if the machine does not have it; see `write` for its plots."""
        rows = table(self.name).read(folder)
        return self.content(rows) if len(rows) else []

    def write(self, folder: Path) -> list[Part]:
        """Make the Markdown and the plots of a machine's folder again, if it has this page; return the parts."""
        parts = self.parts(folder)
        if not parts:
            return []
        rows = table(self.name).read(folder)
        for stem, plot in self.plots.items():
            from suite.pages.plots import style, svg  # matplotlib takes a second to import

            others = [table(self.beside[stem]).read(folder)] if stem in self.beside else []
            with style():
                figure = plot(rows, *others)
            if figure is None:
                continue
            write_whole(folder / f"{stem}.svg", svg(figure))
            if not any(f"({stem}.svg)" in part for part in parts if isinstance(part, str)):
                parts.append(f"![{stem}]({stem}.svg)")
        write_whole(folder / f"{self.name}.md", markdown(parts))
        return parts


#: In the order that they are listed in.
PAGES = (
    Page(
        "bench",
        bench_page,
        plots={"speed": speed, "roofline": roofline, "error-against-speed": error_against_speed},
        beside={"error-against-speed": "errors"},
    ),
    Page("verify", verify_page),
    Page("faults", faults_page),
    Page("errors", errors_page, plots={"errors": errors_plot}),
    Page("capabilities", capabilities_page),
    Page("kernels", kernels_page),
    Page("graphs", graphs_page),
    Page("hardware", hardware_page),
    Page("paper", paper_page),
    Page(
        "memory",
        memory_page,
        plots={"memory-against-T": peak_against_steps, "memory-parts": step_parts, "memory-tensor": tensor_plot},
    ),
    Page("scaling", scaling_page, plots={f"scaling-{axis}": partial(axis_plot, axis=axis) for axis in "TBHSZ"}),
    Page("threads", threads_page, plots={"threads": speedup_plot}),
    Page("payback", payback_page),
    Page("text", text_page, plots={"text-curve": text_curve}),
)
