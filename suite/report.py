"""`nox -s report`: make every Markdown file, every plot and the report under results/ again from the CSV files."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from suite.pages.answers import answer_markdown
from suite.pages.bench_tables import bench_summary
from suite.pages.capability_tables import capability_summary
from suite.pages.pages import PAGES
from suite.pages.webpage import report_html
from suite.shared.files import ROOT
from suite.shared.results import RESULTS, ResultsError, write_whole
from suite.shared.rows import table
from suite.shared.tables import environments, markdown


def machines(results: Path) -> list[Path]:
    """Return the folders of the machines with results."""
    if not results.is_dir():
        raise ResultsError(f"{results}: expected a folder of results, got nothing of the kind.")
    return sorted(path for path in results.iterdir() if path.is_dir())


def index_markdown(results: Path) -> str:
    """Return results/README.md: for each machine the answer, and what pages it has."""
    parts = ["# Results\n"]
    for folder in machines(results):
        made = [page.name for page in PAGES if (folder / f"{page.name}.md").exists()]
        if made:
            pages = ", ".join(f"[{name}]({folder.name}/{name}.md)" for name in made)
            parts.append(f"## {folder.name}\n\n{answer_markdown(folder)}\nPages: {pages}.\n")
    if len(parts) == 1:
        parts.append("None yet.\n")
    parts.append(
        "One folder a machine, written by `nox -s verify`, `nox -s bench` and `nox -s study`. All of it in one page to "
        "download: [report.html](report.html).\n"
    )
    return "\n".join(parts)


README = ROOT / "README.md"
START, END = "<!-- tables -->\n", "<!-- end of tables -->"


def readme_tables(results: Path) -> str:
    """Return what the README shows of each machine: the fastest implementation by workload, the capabilities."""
    parts = []
    for path in sorted(results.glob("*/bench.csv")):
        rows = table("bench").read(path.parent)
        if rows.empty:
            continue
        parts.append(
            f"The fastest to train, as ratios of its time and memory to others'. {environments(rows)}\n\n"
            f"{markdown(bench_summary(rows))}\n\nAll of it: [bench]({results.name}/{path.parent.name}/bench.md), "
            f"[verify]({results.name}/{path.parent.name}/verify.md).\n"
        )
    for path in sorted(results.glob("*/capabilities.csv")):
        rows = table("capabilities").read(path.parent)
        parts.append(
            f"What each can do, by checks that ran: [capabilities]({results.name}/{path.parent.name}/capabilities.md). "
            f"{environments(rows)}\n\n{capability_summary(rows)}\n"
        )
    return "\n".join(parts)


def write_readme(results: Path) -> None:
    """Put the tables into the README, between its two marks."""
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(START)
    _, tail = rest.split(END)
    write_whole(README, f"{head}{START}\n{readme_tables(results)}\n{END}{tail}")


def write_tables(results: Path) -> None:
    """Make every page under a results folder again from its CSV files."""
    for folder in machines(results):
        for each in PAGES:
            each.write(folder)
    write_whole(results / "README.md", index_markdown(results))
    write_whole(results / "report.html", report_html(machines(results)))
    if results == RESULTS:
        write_readme(results)


def merge_shards(folder: Path, mixed: bool = False) -> str | None:
    """Put the rows of a sweep's shards into the benchmark of a machine, remove the shards, and say so; else None.

    ResultsError if they were made with more than one state of the code, unless mixed.
    """
    bench = table("bench")
    parts = {path: path.name.split(".")[1] for path in sorted(folder.glob("bench.shard-*-of-*.csv"))}
    if not parts:
        return None
    rows = pd.concat([bench.read(folder, part) for part in parts.values()])
    made = (rows["commit"].astype(str) + ", sources " + rows["sources"]).unique()
    if len(made) > 1 and not mixed:
        raise ResultsError(
            f"{folder}: expected shards of one commit, got {'; '.join(made)}; --mixed merges them, nothing was changed."
        )
    bench.replace(folder, rows.to_dict("records"))
    for path in parts:
        path.unlink()
    counts = {part.rsplit("-", 1)[1] for part in parts.values()}
    missing = [f"shard-{i}-of-{n}" for n in sorted(counts) for i in range(1, int(n) + 1)]
    missing = [part for part in missing if part not in parts.values()]
    return f"{folder.name}: merged {', '.join(parts.values())}" + (
        f"; not there: {', '.join(missing)}" if missing else ""
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m suite.report`; exit 2 where files cannot be read or written."""
    parser = argparse.ArgumentParser(prog="nox -s report --", description=main.__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    parser.add_argument("--mixed", action="store_true", help="merge shards of different commits too")
    options = parser.parse_args(arguments)
    try:
        for folder in machines(options.results):
            if (merged := merge_shards(folder, options.mixed)) is not None:
                print(merged)
        write_tables(options.results)
    except ResultsError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
