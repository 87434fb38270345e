"""`nox -s report`: write all pages, plots and the report under results/, from the CSV files there."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.pages import bench, memory, paper, peers, readme, scaling, threads, verify
from suite.pages.bench_tables import fastest, ratio, without_busy
from suite.pages.page import Page
from suite.pages.sheets import Part, Sheet, markdown
from suite.pages.webpage import report_html
from suite.shared.cases import BASELINE
from suite.shared.format import dates, machine, two
from suite.shared.provenance import stale
from suite.shared.results import RESULTS, ResultsError, write_whole
from suite.shared.rows import TABLES

PAGES: tuple[Page, ...] = tuple(each.PAGE for each in (bench, verify, peers, memory, scaling, threads, paper))


FOOT = (
    "Each folder has the results of one machine, written by `nox -s verify`, `nox -s bench` and `nox -s study`. "
    "`nox -s report` writes everything but the CSV files again, and `report.html`: all pages in one, with sortable "
    "tables. *stale*: code that some rows depend on has changed since they were made."
)


def machines(results: Path) -> list[Path]:
    """Folders of the machines with results, those whose benchmark is of these sources first."""
    if not results.is_dir():
        raise ResultsError(f"{results}: expected a folder of results, got nothing of the kind.")
    return sorted((path for path in results.iterdir() if path.is_dir()), key=readme.precedence)


def index(pages: Mapping[Path, Sequence[str]]) -> list[Part]:
    """Parts of results/README.md: one table of all machines, and links to the pages of each folder."""
    lines: dict[str, dict[str, Any]] = {}
    columns, links = [], []
    for folder, names in pages.items():
        rows, called = TABLES["bench"].read(folder), folder.name
        if len(rows):
            called = f"{machine(rows.iloc[0])}, {dates(rows)}"
            called += f", {rows['cpu_capability'].iloc[0]}" * (called in columns)
            columns.append(called)
            for group, row in fastest(without_busy(rows)):
                if group.layer_norm == "off":
                    found = ratio(row), row["implementation"]
                    lines.setdefault(group.title, {"workload": group.title})[called] = found
            called += ", **stale**" * bool(stale(rows).any())
        links.append(f"- {called}: {', '.join(f'[{name}]({folder.name}/{name}.md)' for name in names)}")
    if not links:
        return ["# Results\n\nNone yet.", FOOT]
    lead = f"Training time / {BASELINE} of the fastest implementation, without layer norm; below 1 is faster."
    matrix = Sheet(list(lines.values()), dict.fromkeys(columns, lambda found: f"{two(found[0])} {found[1]}"))
    shown: list[Part] = [lead, matrix] if lines else []
    return ["# Results", *shown, "\n".join(links), FOOT]


def write_machine(folder: Path) -> None:
    """Write the pages and plots of one machine from its CSV files."""
    for page in PAGES:
        page.write(folder)


def write_tables(results: Path) -> Path:
    """Write every page under a results folder from its CSV files; return the file that contains all of them."""
    made = {folder: [page.name for page in PAGES if page.write(folder)] for folder in machines(results)}
    pages = {folder: names for folder, names in made.items() if names}
    write_whole(results / "README.md", markdown(index(pages)))
    if results == RESULTS:
        readme.write_readme(results)
    whole = results / "report.html"
    write_whole(whole, report_html(results, pages))
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m suite.report`."""
    parser = argparse.ArgumentParser(prog="nox -s report --", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    options = parser.parse_args(arguments)
    print(f"Report: {write_tables(options.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
