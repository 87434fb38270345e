"""The pages of a machine's results: each a CSV file of rows, and the Markdown and the plots that are made of it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from impls import names

from .bench_tables import bench_markdown
from .cases import TRAINING, VERIFY, VERIFY_TILES, VERIFY_TINY, WORKLOADS
from .floor_tables import floor_markdown
from .hardware import hardware_markdown
from .kernel_tables import kernels_markdown
from .results import read, replace_rows, write_whole
from .subjects import subjects
from .verify_tables import verify_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _cases() -> list[str]:
    return [TRAINING, *(case.id for case in VERIFY + VERIFY_TINY + VERIFY_TILES)]


@dataclass(frozen=True)
class Page:
    """One page: `<name>.csv`, from it `<name>.md`, and plots in SVG.

    key: the columns whose values a row is replaced by. known: by column, the values that still exist.
    needed: columns without which a row is of an earlier format, whose figures mean something else; such rows go.
    plots: by file name without its ending.
    """

    name: str
    markdown: Callable[[pd.DataFrame], str]
    key: tuple[str, ...] = ()
    known: Callable[[], Mapping[str, Collection[str]]] = dict
    needed: tuple[str, ...] = ()
    plots: Mapping[str, "Callable[[pd.DataFrame], Figure]"] = field(default_factory=dict)

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
        write_whole(folder / f"{self.name}.md", self.markdown(rows))
        for stem, plot in self.plots.items():
            from .plots import svg  # matplotlib takes a second to import

            write_whole(folder / f"{stem}.svg", svg(plot(rows)))


#: In the order that they are listed in.
PAGES = (
    Page(
        "bench",
        bench_markdown,
        ("workload", "T", "B", "layer_norm", "implementation", "dtype", "pass"),
        lambda: {"workload": list(WORKLOADS), "implementation": [subject.name for subject in subjects()]},
        needed=("sources",),
    ),
    Page(
        "verify",
        verify_markdown,
        ("implementation", "dtype", "case"),
        lambda: {"implementation": names(), "case": _cases()},
    ),
    Page("kernels", kernels_markdown),
    Page("floor", floor_markdown),
    Page("hardware", hardware_markdown, ("dtype",)),
)


def page(name: str) -> Page:
    """Return the page of that name; ValueError lists those there are."""
    for found in PAGES:
        if found.name == name:
            return found
    raise ValueError(f"page: expected one of {', '.join(page.name for page in PAGES)}; got {name!r}")
