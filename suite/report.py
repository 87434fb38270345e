"""`nox -s report`: make every Markdown file and plot under results/ again from the CSV files."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .bench_tables import bench_summary
from .capability_tables import capability_summary
from .pages import PAGES
from .results import RESULTS, read, write_whole
from .tables import environments, markdown


def machines(results: Path) -> list[Path]:
    """Return the folders of the machines with results."""
    return sorted(path for path in results.iterdir() if path.is_dir())


def index_markdown(results: Path) -> str:
    """Return results/README.md: the machines with results, and what each has."""
    lines = []
    for folder in machines(results):
        made = [page.name for page in PAGES if (folder / f"{page.name}.md").exists()]
        tables = [f"[{name}]({folder.name}/{name}.md)" for name in made]
        # Kernels are compiled for other machines than the one that compiles them.
        stated = [read(folder / f"{name}.csv") for name in made if name != "kernels"]
        if stated:
            first = stated[0].iloc[0]
            lines.append({"machine": f"{first['processor']}, {first['threads']} threads", "tables": ", ".join(tables)})
    table = markdown(pd.DataFrame(lines)) if lines else "None yet."
    return f"# Results\n\nOne folder a machine, written by `nox -s verify` and `nox -s bench`.\n\n{table}\n"


README = RESULTS.parent / "README.md"
START, END = "<!-- tables -->\n", "<!-- end of tables -->"


def readme_tables(results: Path) -> str:
    """Return what the README shows of each machine: the fastest implementation by workload, the capabilities."""
    parts = []
    for path in sorted(results.glob("*/bench.csv")):
        rows = read(path)
        parts.append(
            f"The fastest to train, as ratios of its time and memory to others'. {environments(rows)}\n\n"
            f"{markdown(bench_summary(rows))}\n\nAll of it: [bench]({results.name}/{path.parent.name}/bench.md), "
            f"[verify]({results.name}/{path.parent.name}/verify.md).\n"
        )
    for path in sorted(results.glob("*/capabilities.csv")):
        rows = read(path)
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
        for page in PAGES:
            page.write(folder)
    write_whole(results / "README.md", index_markdown(results))
    if results == RESULTS:
        write_readme(results)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `python -m suite.report`."""
    parser = argparse.ArgumentParser(prog="nox -s report --", description=main.__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    write_tables(parser.parse_args(arguments).results)


if __name__ == "__main__":
    main()
