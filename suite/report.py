"""`nox -s report`: make every Markdown file, every plot and the report under results/ again from the CSV files."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from suite.pages.bench_tables import answer, bench_summary, without_busy
from suite.pages.page import Page
from suite.pages.readme import precedence, write_readmes
from suite.pages.sheets import Part, markdown
from suite.pages.verify import verdict
from suite.pages.webpage import report_html
from suite.shared.format import made_on
from suite.shared.results import RESULTS, ResultsError, write_whole
from suite.shared.rows import TABLES, table

PAGES: tuple[Page, ...] = tuple(import_module(f"suite.pages.{name}").PAGE for name in TABLES)


def machines(results: Path) -> list[Path]:
    """Return the folders of the machines with results, those with a benchmark of these sources first."""
    if not results.is_dir():
        raise ResultsError(f"{results}: expected a folder of results, got nothing of the kind.")
    return sorted((path for path in results.iterdir() if path.is_dir()), key=precedence)


def answers(folder: Path) -> list[Part]:
    """Return a machine's answer: a sentence on speed, one on correctness, and the table by workload."""
    bench, verify = without_busy(table("bench").read(folder)), table("verify").read(folder)
    summary = bench_summary(bench)
    parts: list[Part] = [f"**{answer(bench)}**"] if len(summary) else []
    parts += [verdict(verify)] if len(verify) else []
    return [*parts, made_on(bench), summary] if len(summary) else parts


def index_markdown(results: Path) -> str:
    """Return results/README.md: for each machine the answer, and what pages it has."""
    parts = ["# Results\n"]
    for folder in machines(results):
        made = [page.name for page in PAGES if (folder / f"{page.name}.md").exists()]
        if made:
            pages = ", ".join(f"[{name}]({folder.name}/{name}.md)" for name in made)
            parts.append(f"## {folder.name}\n\n{markdown(answers(folder))}\nPages: {pages}.\n")
    if len(parts) == 1:
        parts.append("None yet.\n")
    parts.append(
        "One folder a machine, written by `nox -s verify`, `nox -s bench` and `nox -s study`. `nox -s report` makes "
        "all but the CSV files again, and `report.html`, one page with tables that sort.\n"
    )
    return "\n".join(parts)


def write_tables(results: Path) -> Path:
    """Make every page under a results folder again from its CSV files; return the file that holds all of them."""
    made = {folder: {page.name: page.write(folder) for page in PAGES} for folder in machines(results)}
    made = {folder: {name: parts for name, parts in pages.items() if parts} for folder, pages in made.items()}
    write_whole(results / "README.md", index_markdown(results))
    if results == RESULTS:
        write_readmes(results)
    whole = results / "report.html"
    write_whole(whole, report_html({folder: (answers(folder), pages) for folder, pages in made.items() if pages}))
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m suite.report`; exit 2 where files cannot be read or written."""
    parser = argparse.ArgumentParser(prog="nox -s report --", description=main.__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    options = parser.parse_args(arguments)
    try:
        print(f"Report: {write_tables(options.results)}")
    except ResultsError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
