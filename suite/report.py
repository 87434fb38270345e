"""`nox -s report`: write pages, plots and the report under results/, and the tables of README.md, from CSV files.

nox -s report
nox -s report -- --check results/<machine>     whether a folder can be handed in; writes nothing
"""

import argparse
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from suite import handed_in
from suite.candidates.names import BASELINE
from suite.pages import bench, readme, sizes, verify
from suite.pages.bench import WORKLOAD
from suite.pages.benchmark import Benchmark, Setting
from suite.pages.markdown import Markdown, escaped
from suite.pages.page import Column, Heading, Link, Linked, Page, Part, Plot, Sheet, enumerated, page_text
from suite.pages.plots import svg
from suite.pages.webpage import report_html
from suite.results.format import dates, machine, with_interval
from suite.results.names import TableName
from suite.results.provenance import stale
from suite.results.statistics import Interval, interval
from suite.results.tables import TABLES
from suite.shared.files import RESULTS, ResultsError, path_of, write_whole

PAGES = (bench.PAGE, verify.PAGE, sizes.PAGE)
LEAD = Markdown(
    f"Training time / {BASELINE} of the fastest implementation, without layer norm; below 1 is faster. In parentheses "
    f"are 95 % confidence intervals, which take three visits. */ padded*: to {BASELINE} on the padded batch, where "
    "that is faster than on packed sequences."
)
FOOT = Markdown(
    "Each folder has the results of one machine, written by `nox -s verify` and `nox -s bench`. `nox -s report` "
    "writes this page and all others again from the CSV files, and `report.html`: all pages in one, with all plots "
    "and sortable tables. *stale*: code that some rows depend on has changed since they were made. README.md shows, "
    "for each kind of device, a machine that is not stale; of several the one with the most training rows of "
    f"{WORKLOAD} that have an interval; then the newest; then the one with the most visits."
)
HAND_IN = Markdown("""## Results of your machine

Run this in a checkout without changes, and open a pull request with the folder of your machine, whose path the second
command prints. The third says what is wrong with the folder, if anything is: each row needs three visits, so give the
second more minutes where it does.

```sh
nox -s verify
nox -s bench
nox -s report -- --check results/<machine>
```
""")


def machines(results: Path) -> list[Path]:
    """Folders of machines with results; those whose benchmark is current come first."""
    if not results.is_dir():
        raise ResultsError(f"{results}: expected a folder of results, but there is none.")
    return sorted(readme.folders_of_machines(results), key=readme.precedence)


class IndexLine(NamedTuple):
    """A line of the index; to_padded: whether its ratios are to `torch.nn.LSTM` on the padded batch."""

    setting: Setting
    to_padded: bool = False

    def __str__(self) -> str:
        return f"{self.setting}, / padded" if self.to_padded else str(self.setting)


class MachinePage(NamedTuple):
    """A page of the machine that a folder is of."""

    folder: Path
    page: Page

    @property
    def file(self) -> Path:
        return self.page.path(self.folder)


class Fastest(NamedTuple):
    """The fastest implementation of a machine, and its ratio."""

    implementation: str
    ratio: Interval

    def __str__(self) -> str:
        return f"{with_interval(self.ratio)} {self.implementation}"


def index(results: Path, folders: Sequence[Path], pages: Collection[MachinePage]) -> list[Part]:
    """Parts of results/README.md: one table of all machines, and links to the pages of each folder, or else its CSV."""
    setting = Column("workload")
    columns = list[Column]()
    lines = dict[IndexLine, dict[Column, Any]]()
    links = list[Markdown | Link]()
    for folder in folders:
        label = escaped(folder.name)
        rows = TABLES[TableName.BENCH].read(folder)
        if len(rows):
            heading = _label(folder, rows, taken={column.heading for column in columns})
            label = escaped(heading)
            column = Column(heading, str, lambda fastest: float(fastest.ratio.ratio))
            columns.append(column)
            for line, fastest in _fastest(Benchmark.of(rows)).items():
                lines.setdefault(line, {setting: line})[column] = fastest
            if stale(TableName.BENCH, rows).any():
                label = Markdown(f"{label}, **stale**")
        files = [page.file for page in pages if page.folder == folder] or tables_of_project(folder)
        if files:
            of_files = [Link(file.stem, file.relative_to(results)) for file in sorted(files)]
            links += [Markdown(f"- {label}: "), *enumerated(of_files), Markdown("\n")]
    table: list[Part] = [LEAD, Sheet([setting, *columns], list(lines.values()))] if lines else []
    return [Heading("Results", level=1), *table, Linked(links), FOOT, HAND_IN]


def _label(folder: Path, rows: pd.DataFrame, taken: Collection[str]) -> str:
    """What the index calls a machine: no more than it takes to tell it from those before."""
    label = f"{machine(rows.iloc[0])}, {dates(rows)}"
    for further in (rows["cpu_capability"].iloc[0], folder.name):
        if label in taken:
            label += f", {further}"
    return label


def _fastest(benchmark: Benchmark) -> dict[IndexLine, Fastest]:
    """The fastest implementation of a machine on each line of the index."""
    none = float("nan")
    by_line = dict[IndexLine, Fastest]()
    for _, row in benchmark.fastest.iterrows():
        if not row["layer_norm"]:
            setting = Setting.of(row)
            name = row["implementation"]
            by_line[IndexLine(setting)] = Fastest(name, interval(row))
            if pd.notna(row["to_padded"]):
                by_line[IndexLine(setting, to_padded=True)] = Fastest(name, Interval(row["to_padded"], none, none))
    return by_line


def tables_of_project(folder: Path) -> list[Path]:
    """The CSV files of a machine that git does not ignore."""
    files = [table.path(folder) for table in TABLES.values() if table.of_project]
    return [file for file in files if file.exists()]


def pages_of(folder: Path, pages: Sequence[Page] = PAGES) -> dict[MachinePage, list[Part]]:
    """Parts of pages of one machine, without those of which it has no rows."""
    by_page = dict[MachinePage, list[Part]]()
    for page in pages:
        parts = page.read(folder)
        if parts:
            by_page[MachinePage(folder, page)] = parts
    return by_page


def files_of(pages: Mapping[MachinePage, Sequence[Part]]) -> dict[Path, str]:
    """Texts of pages and of the plots that are files beside them."""
    files = {page.file: page_text(parts) for page, parts in pages.items()}
    for page, parts in pages.items():
        for part in parts:
            if isinstance(part, Plot) and part.has_file:
                files[page.folder / part.file] = svg(part.draw())
    return files


def write_machine(folder: Path, pages: Sequence[Page] = PAGES) -> list[MachinePage]:
    """Write pages of one machine and their plots from its CSV files, and nothing else; return the pages."""
    by_page = pages_of(folder, pages)
    for file, text in files_of(by_page).items():
        write_whole(file, text)
    return list(by_page)


def write_all(results: Path) -> list[Path]:
    """Write every page from the CSV files under results/, their index, the report, and README.md; return these files.

    A machine without pages whose rows are stale is in the index alone, unless README.md shows it. ResultsError names a
    damaged file, and then nothing has been written.
    """
    folders = machines(results)
    sections = dict[MachinePage, list[Part]]()
    of_readme = readme.chosen(results).values()
    for folder in folders:
        has_pages = any(page.path(folder).exists() for page in PAGES if page.of_project)
        if has_pages or _current(folder) or folder in of_readme:
            sections |= pages_of(folder)
        else:
            sections |= pages_of(folder, (sizes.PAGE,))
    of_project = [page for page in sections if page.page.of_project]
    readme_text = page_text(index(results, folders, of_project))
    parts_by_file = {page.file: parts for page, parts in sections.items()}
    report_text = report_html(results, index(results, folders, sections), parts_by_file)
    ours = {results / "README.md": readme_text, results / "report.html": report_text}
    if results == RESULTS:
        ours[readme.README] = readme.updated(results)
    for file, text in (files_of(sections) | ours).items():
        write_whole(file, text)
    return [*parts_by_file, *ours]


def _current(folder: Path) -> bool:
    """True if a benchmark or a verification of the machine is not stale."""
    for name in (TableName.BENCH, TableName.VERIFY):
        rows = TABLES[name].read(folder)
        if len(rows) and not stale(name, rows).any():
            return True
    return False


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser("nox -s report --", description=__doc__, formatter_class=raw)
    result.add_argument("--results", type=path_of, default=RESULTS, help="folder with a folder for each machine")
    result.add_argument(
        "--check", type=path_of, metavar="FOLDER", help="say whether a machine's folder can be handed in"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Write all pages, or check a folder; return the exit status."""
    options = parser().parse_args(arguments)
    if options.check is not None:
        return handed_in.report(options.check)
    for file in write_all(options.results):
        print(f"Wrote {os.path.relpath(file)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
