"""The pages of a machine's results: each a CSV file of rows, and the Markdown and the plots that are made of it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from impls import names
from suite.checks.definition.paper import MODELS
from suite.checks.module.capabilities import CAPABILITIES
from suite.pages.bench_plots import error_against_speed, roofline, speed
from suite.pages.bench_tables import bench_markdown
from suite.pages.capability_tables import capabilities_markdown
from suite.pages.error_tables import errors_markdown, errors_plot
from suite.pages.fault_tables import edits, faults_markdown
from suite.pages.kernel_tables import kernels_markdown
from suite.pages.memory_tables import memory_markdown, peak_against_steps, step_parts, tensor_plot
from suite.pages.paper_tables import paper_markdown
from suite.pages.payback_tables import payback_markdown
from suite.pages.scaling_tables import axis_plot, scaling_markdown
from suite.pages.text_tables import text_curve, text_markdown
from suite.pages.verify_tables import verify_markdown
from suite.shared.cases import TRAINING, VERIFY, VERIFY_TILES, VERIFY_TINY, WORKLOADS
from suite.shared.results import read, replace_rows, write_whole
from suite.shared.subjects import subjects
from suite.timing.ceilings import hardware_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _studied() -> dict[str, list[str]]:
    return {"workload": list(WORKLOADS), "implementation": [subject.name for subject in subjects()]}


def _cases() -> list[str]:
    return [TRAINING, *(case.id for case in VERIFY + VERIFY_TINY + VERIFY_TILES)]


@dataclass(frozen=True)
class Page:
    """One page: `<name>.csv`, from it `<name>.md`, and plots in SVG.

    key: the columns whose values a row is replaced by. known: by column, the values that still exist.
    needed: columns without which a row is of an earlier format, whose figures mean something else; such rows go.
    plots: by file name without its ending; None where the rows have nothing to draw. Those that the Markdown does not
        place come at its end.
    beside: by such a plot, the page whose rows it is given as well, none where the machine lacks that page.
    """

    name: str
    markdown: Callable[[pd.DataFrame], str]
    key: tuple[str, ...] = ()
    known: Callable[[], Mapping[str, Collection[str]]] = dict
    needed: tuple[str, ...] = ()
    plots: Mapping[str, "Callable[..., Figure | None]"] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)

    def path(self, folder: Path, part: str = "") -> Path:
        """Return the CSV file in a machine's folder, or that of a part of a sweep, such as "shard-1-of-3"."""
        return folder / f"{self.name}{'.' * bool(part)}{part}.csv"

    def rows(self, folder: Path, part: str = "") -> pd.DataFrame:
        """Return the rows of today's format in a machine's folder."""
        rows = read(self.path(folder, part), self.key)
        if rows.empty or not set(self.needed) <= set(rows):
            return pd.DataFrame() if self.needed else rows
        return rows.dropna(subset=list(self.needed))

    def put(self, folder: Path, rows: Iterable[Mapping[str, Any]], part: str = "") -> None:
        """Put rows into the page of a machine's folder, in place of those with the same key."""
        replace_rows(self.path(folder, part), rows, list(self.key), self.known(), self.needed)

    def write(self, folder: Path) -> None:
        """Make the Markdown and the plots of a machine's folder again, if it has this page."""
        rows = self.rows(folder)
        if rows.empty:
            return
        text = self.markdown(rows)
        for stem, plot in self.plots.items():
            from suite.pages.plots import style, svg  # matplotlib takes a second to import

            others = [page(self.beside[stem]).rows(folder)] if stem in self.beside else []
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
        ("workload", "T", "B", "layer_norm", "implementation", "dtype", "pass"),
        lambda: {"workload": list(WORKLOADS), "implementation": [subject.name for subject in subjects()]},
        needed=("sources",),
        plots={"speed": speed, "roofline": roofline, "error-against-speed": error_against_speed},
        beside={"error-against-speed": "errors"},
    ),
    Page(
        "verify",
        verify_markdown,
        ("implementation", "dtype", "case"),
        lambda: {"implementation": names(), "case": _cases()},
    ),
    Page("faults", faults_markdown, ("edit", "dtype"), lambda: {"edit": edits()}),
    Page(
        "errors",
        errors_markdown,
        ("implementation", "dtype", "T", "layer_norm", "tensor"),
        lambda: {"implementation": names()},
        plots={"errors": errors_plot},
    ),
    Page(
        "capabilities",
        capabilities_markdown,
        ("capability", "implementation"),
        lambda: {"capability": [capability.name for capability in CAPABILITIES], "implementation": names()},
    ),
    Page("kernels", kernels_markdown),
    Page("hardware", hardware_markdown, ("dtype",)),
    Page("paper", paper_markdown, ("model",), lambda: {"model": [model.name for model in MODELS]}),
    Page(
        "memory",
        memory_markdown,
        ("part", "workload", "layer_norm", "dtype"),
        _studied,
        plots={"memory-against-T": peak_against_steps, "memory-parts": step_parts, "memory-tensor": tensor_plot},
    ),
    Page(
        "scaling",
        scaling_markdown,
        ("part", "workload", "layer_norm", "dtype"),
        _studied,
        plots={f"scaling-{axis}": partial(axis_plot, axis=axis) for axis in "TBHSZ"},
    ),
    Page("payback", payback_markdown, ("part", "workload", "layer_norm", "dtype"), _studied),
    Page("text", text_markdown, ("part", "workload", "layer_norm", "dtype"), plots={"text-curve": text_curve}),
)


def page(name: str) -> Page:
    """Return the page of that name; ValueError lists those there are."""
    for found in PAGES:
        if found.name == name:
            return found
    raise ValueError(f"page: expected one of {', '.join(page.name for page in PAGES)}; got {name!r}")
