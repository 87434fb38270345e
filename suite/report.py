"""`nox -s report`: write pages, plots and the report under results/, and the tables of README.md, from CSV files."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suite.pages import bench, readme, verify
from suite.pages.bench_tables import TITLE, fastest
from suite.pages.page import Part, Plot, Sheet, markdown
from suite.pages.plots import svg
from suite.pages.webpage import report_html
from suite.shared.cases import BASELINE
from suite.shared.files import RESULTS, ResultsError, path_of, write_whole
from suite.shared.format import dates, machine, ratio_text
from suite.shared.provenance import stale
from suite.shared.tables import TABLES

PAGES = (bench.PAGE, verify.PAGE)
FOOT = (
    "Each folder has the results of one machine, written by `nox -s verify` and `nox -s bench`. `nox -s report` "
    "writes this page and all others again from the CSV files, and `report.html`: all pages in one, with all plots "
    "and sortable tables. *stale*: code that some rows depend on has changed since they were made."
)


def machines(results: Path) -> list[Path]:
    """Folders of machines with results; those whose benchmark is current come first."""
    if not results.is_dir():
        raise ResultsError(f"{results}: expected a folder of results, but there is none.")
    return sorted((path for path in results.iterdir() if any(path.glob("*.csv"))), key=readme.precedence)


def index(folders: Sequence[Path]) -> list[Part]:
    """Parts of results/README.md: one table of all machines, and links to the pages of each folder."""
    lines: dict[str, dict[str, Any]] = {}
    columns, links = [], []
    for folder in folders:
        rows, label = TABLES["bench"].read(folder), folder.name
        if len(rows):
            label = f"{machine(rows.iloc[0])}, {dates(rows)}"
            if label in columns:
                label += f", {rows['cpu_capability'].iloc[0]}"
            for _, row in fastest(rows).iterrows():
                if row["layer_norm"] == "off":
                    line = lines.setdefault(TITLE.format_map(row), {"workload": TITLE.format_map(row)})
                    line[label] = row["ratio"], row["implementation"]
            columns.append(label)
            if stale(rows).any():
                label += ", **stale**"
        files = sorted(folder.glob("*.md")) or sorted(folder.glob("*.csv"))
        links.append(f"- {label}: {', '.join(f'[{file.stem}]({folder.name}/{file.name})' for file in files)}")
    lead = f"Training time / {BASELINE} of the fastest implementation, without layer norm; below 1 is faster."
    table = Sheet(list(lines.values()), dict.fromkeys(columns, lambda value: f"{ratio_text(value[0])} {value[1]}"))
    summary: list[Part] = [lead, table] if lines else []
    return ["# Results", *summary, "\n".join(links), FOOT]


def write_machine(folder: Path) -> dict[Path, list[Part]]:
    """Write the pages and plots of one machine from its CSV files, and nothing else; return the parts by page."""
    pages = {folder / f"{page.name}.md": parts for page in PAGES if (parts := page.read(folder))}
    for file, parts in pages.items():
        write_whole(file, markdown(parts))
        for plot in parts:
            if isinstance(plot, Plot) and plot.committed:
                write_whole(folder / f"{plot.name}.svg", svg(plot.draw()))
    return pages


def write_all(results: Path) -> list[Path]:
    """Write every page from the CSV files under results/, their index, the report, and README.md; return these files.

    A machine without pages whose rows are stale is in the index alone. ResultsError names a damaged file.
    """
    folders, sections = machines(results), dict[Path, list[Part]]()
    for folder in folders:
        if any(folder.glob("*.md")) or _current(folder):
            sections |= write_machine(folder)
    overview, whole, parts = results / "README.md", results / "report.html", index(folders)
    write_whole(overview, markdown(parts))
    write_whole(whole, report_html(parts, sections))
    files = [*sections, overview, whole]
    if results == RESULTS:
        readme.write_readme(results)
        files.append(readme.README)
    return files


def _current(folder: Path) -> bool:
    """True if a benchmark or a verification of the machine is not stale."""
    return any(len(rows := TABLES[name].read(folder)) and not stale(rows).any() for name in ("bench", "verify"))


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser("nox -s report --", description=__doc__)
    result.add_argument("--results", type=path_of, default=RESULTS, help="folder with a folder for each machine")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `python -m suite.report`."""
    for file in write_all(parser().parse_args(arguments).results):
        print(f"Wrote {os.path.relpath(file)}")


if __name__ == "__main__":
    main()
