"""Rows to tables: Markdown files beside the CSV, and the same tables in the terminal."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from impls import names

from .results import RESULTS, read, write_whole

#: The reason in the row of a run through Triton's interpreter.
INTERPRETED = "interpreted"
ENVIRONMENT = ("device", "processor", "threads", "torch", "python")


def markdown(table: pd.DataFrame) -> str:
    """Return a table of strings in Markdown; columns of figures are set to the right."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rule = ["---:" if numeric else "---" for numeric in (_is_figures(table[name]) for name in table)]
    return "\n".join([line(list(table.columns)), line(rule), *(line(list(row)) for row in table.to_numpy())])


def show(table: pd.DataFrame, title: str, console: Console) -> None:
    """Print a table of strings to a terminal, or plainly into a pipe."""
    view = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", show_edge=False, padding=(0, 1, 0, 0))
    for name in table:
        view.add_column(str(name), justify="right" if _is_figures(table[name]) else "left", overflow="fold")
    for row in table.to_numpy():
        view.add_row(*row)
    console.print(view)


def _is_figures(cells: pd.Series) -> bool:
    return all(not cell or cell[0].isdigit() or cell[0] == "-" for cell in cells)


def _rank(name: str) -> int:
    """Return the place of an implementation in the ladder, or of a dtype from the widest down."""
    return [*names(), "float64", "float32", "bfloat16", "float16"].index(name)


def environments(rows: pd.DataFrame) -> str:
    """Say where rows were made, in a line for each environment among them."""
    found = rows[list(ENVIRONMENT)].drop_duplicates().to_dict("records")
    return "\n".join(
        "Made on {processor} ({device}, {threads} CPU threads), torch {torch}, Python {python}.".format_map(e)
        for e in found
    )


def verify_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each implementation and dtype: how many cases, the worst of them, the verdict."""
    lines = []
    rows = rows.sort_values(["implementation", "dtype"], key=lambda column: column.map(_rank), kind="stable")
    for _, group in rows.groupby(["implementation", "dtype"], sort=False):
        ran = group[group["verdict"] != "skipped"]
        measured = ran.dropna(subset="ratio").sort_values("ratio")
        worst = measured.iloc[-1] if len(measured) else None
        lines.append(
            {
                "implementation": group["implementation"].iloc[0],
                "dtype": group["dtype"].iloc[0],
                "cases": str(len(ran)),
                "worst": "-" if worst is None else f"{worst['ratio']:.2f}",
                "on": worst["tensor"] if worst is not None else group["reason"].iloc[0],
                "verdict": _verdict(ran),
            }
        )
    return pd.DataFrame(lines)


def _verdict(ran: pd.DataFrame) -> str:
    if ran.empty:
        return "skipped"
    failed = int((ran["verdict"] == "FAIL").sum())
    word = f"{failed} FAILED" if failed else "pass"
    return f"{word}, interpreted" if (ran["reason"] == INTERPRETED).all() else word


def verify_markdown(rows: pd.DataFrame) -> str:
    """Return verify.md."""
    return f"""# Verification

{environments(rows)}

Every implementation, in every dtype that it computes in, against the full-tensor form in float64 on the same rounded
numbers: output, final states, and the gradient of every parameter, input and given state, with all parameters random.
An error may be at most twice what the full-tensor form itself makes in that dtype, plus 64 eps in float64 and 4 eps in
the others; `worst` is the largest error as a multiple of what it may be, so 1.00 is the limit.

{markdown(verify_table(rows))}

Case by case: [verify.csv](verify.csv).
"""


def index_markdown(results: Path) -> str:
    """Return results/README.md: the machines with results, and what each has."""
    lines = []
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        tables = [
            f"[{name}]({folder.name}/{name}.md)" for name in ("bench", "verify") if (folder / f"{name}.md").exists()
        ]
        if tables:
            rows = pd.concat([read(path) for path in (folder / "bench.csv", folder / "verify.csv")])
            first = rows.iloc[0]
            lines.append({"machine": f"{first['processor']}, {first['threads']} threads", "tables": ", ".join(tables)})
    table = markdown(pd.DataFrame(lines)) if lines else "None yet."
    return f"# Results\n\nOne folder a machine, written by `nox -s verify` and `nox -s bench`.\n\n{table}\n"


def write_tables(results: Path) -> None:
    """Make every Markdown table under a results folder again from its CSV files."""
    for path in sorted(results.glob("*/verify.csv")):
        write_whole(path.with_suffix(".md"), verify_markdown(read(path)))
    write_whole(results / "README.md", index_markdown(results))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `python -m suite.report`."""
    parser = argparse.ArgumentParser(prog="nox -s report --", description=main.__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    write_tables(parser.parse_args(arguments).results)


if __name__ == "__main__":
    main()
