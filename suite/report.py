"""`nox -s report`: write pages, plots and the report under results/, and the tables of README.md, from result files.

nox -s report
nox -s report -- --check results/<machine>     whether a folder can be handed in; writes nothing
"""

import argparse
import os
import re
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from suite import acceptance
from suite.candidates.names import BASELINE
from suite.pages import bench, readme, text, verify
from suite.pages.plots import bar_plot, svg
from suite.pages.ranking import fastest, ranked
from suite.results.format import machine, ratio_text, setting, with_interval
from suite.results.run import Run, read
from suite.results.statistics import interval
from suite.shared.files import RESULTS, ResultsError, path_of, write_whole

#: By run, its page.
PAGES = {"bench": bench.page, "verify": verify.page}
MARKDOWN = MarkdownIt("commonmark").enable("table")


def runs(folder: Path) -> dict[str, Run]:
    """The runs of a machine."""
    either = {name: read(folder, name) for name in PAGES}
    return {name: run for name, run in either.items() if run is not None}


def machines(results: Path) -> dict[Path, dict[str, Run]]:
    """Runs of each machine: that of README.md comes first, then the newest."""
    if not results.is_dir():
        raise ResultsError(f"{results}: expected a folder of results, but there is none.")
    of_folders = {folder: runs(folder) for folder in sorted(results.iterdir()) if folder.is_dir()}

    def newest(folder: Path) -> str:
        return max(run.date for run in of_folders[folder].values())

    folders = sorted((folder for folder in of_folders if of_folders[folder]), key=newest, reverse=True)
    folders.sort(key=lambda folder: folder.name != readme.MACHINE)
    return {folder: of_folders[folder] for folder in folders}


def index(results: Path, of_machines: Mapping[Path, Mapping[str, Run]]) -> str:
    """Markdown of results/README.md: a table of the machines that ran the code of the first one, and links to all."""
    lines = dict[str, dict[str, str]]()
    labels = list[tuple[str, Sequence[tuple[str, str]]]]()
    code = next((of_folder["bench"].sources for of_folder in of_machines.values() if "bench" in of_folder), "")
    for folder, of_folder in of_machines.items():
        run = next(iter(of_folder.values()))
        label = f"{machine(run)}, {run.date}"
        if label in {other for other, _ in labels}:
            label += f", {folder.name}"
        same_code = "bench" in of_folder and of_folder["bench"].sources == code
        if "bench" in of_folder and not same_code:
            label += ", other code"
        labels.append((label, [(name, (folder / f"{name}.md").relative_to(results).as_posix()) for name in of_folder]))
        if same_code:
            for row_label, cell in fastest_cells(of_folder["bench"]):
                lines.setdefault(row_label, {"workload": row_label})[label] = cell
    return text.page("results.md", baseline=BASELINE, fastest=text.table_of([*lines.values()]), machines=labels)


def fastest_cells(run: Run) -> Iterator[tuple[str, str]]:
    """Labels and cells of the fastest implementation of each workload without layer norm."""
    for _, row in fastest(ranked(run.rows)).iterrows():
        if not row["layer_norm"]:
            yield setting(row), f"{with_interval(interval(row))} {row['implementation']}"
            if pd.notna(row["to_padded"]):
                yield f"{setting(row)}, / padded", f"{ratio_text(row['to_padded'])} {row['implementation']}"


def write_machine(folder: Path) -> list[Path]:
    """Write the pages and plots of the runs in a folder; return the files of the pages."""
    files = list[Path]()
    for name, run in runs(folder).items():
        files.append(folder / f"{name}.md")
        write_whole(files[-1], PAGES[name](run))
        if name == "bench":
            for file, figure in bench.plots(run).items():
                write_whole(folder / file, svg(figure))
    return files


def report_html(results: Path, of_machines: Mapping[Path, Mapping[str, Run]]) -> str:
    """HTML of the report: the index and all pages in one file, with all plots."""

    def html(markdown: str, folder: str) -> str:
        # A link to a page is one to its section, and others are those of its folder; tables scroll in boxes.
        inside = re.sub(r"\]\(([^)/]+)/(bench|verify)\.md\)", r"](#\1-\2)", markdown)
        inside = re.sub(r"\]\((\w+\.(?:csv|json))\)", rf"]({folder}/\1)", inside)
        inside = re.sub(r"^!\[.*\]\(.*\)$", "", inside, flags=re.MULTILINE)
        tables = str(MARKDOWN.render(inside))
        return tables.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")

    sections = []
    for folder, of_folder in of_machines.items():
        for name, run in of_folder.items():
            figures = dict[str, Figure]()
            if name == "bench":
                figures |= bench.plots(run)
                panels = bench.speed_panels(ranked(run.rows))
                if panels:
                    figures[f"Time / {BASELINE}"] = bar_plot(panels, columns=2)
            images = [(alt, b64encode(svg(figure).encode()).decode()) for alt, figure in figures.items()]
            sections.append((f"{folder.name}-{name}", html(PAGES[name](run), folder.name), images))
    return text.page("report.html", index=html(index(results, of_machines), "."), sections=sections)


def write_all(results: Path) -> list[Path]:
    """Write every page, the index, the report, and README.md; return these files."""
    of_machines = machines(results)
    files = [file for folder in of_machines for file in write_machine(folder)]
    others = {
        results / "README.md": index(results, of_machines),
        results / "report.html": report_html(results, of_machines),
    }
    if results == RESULTS:
        others[readme.README] = readme.updated(of_machines[results / readme.MACHINE]["bench"], results / readme.MACHINE)
    for file, content in others.items():
        write_whole(file, content)
    return [*files, *others]


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
        return acceptance.report(options.check)
    for file in write_all(options.results):
        print(f"Wrote {os.path.relpath(file)}")
    for folder, of_folder in machines(options.results).items():
        stale = [name for name, run in of_folder.items() if run.stale]
        if stale:
            print(f"{folder.name}: {' and '.join(stale)} stale, as code that they rest on has changed since.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
