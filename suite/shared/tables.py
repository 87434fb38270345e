"""Tables of strings, in Markdown and in a terminal, and the line that says where they were made."""

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from suite.shared.trust import sources

ENVIRONMENT = ("device", "processor", "cpu_capability", "threads", "torch", "python", "commit")


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


def environments(rows: pd.DataFrame) -> str:
    """Say where rows were made, in a line for each environment among them, and which rest on other sources."""
    found = rows[list(ENVIRONMENT)].drop_duplicates().to_dict("records")
    lines = [
        "Made on {processor} ({device}, {cpu_capability}, {threads} CPU threads), torch {torch}, Python {python}, "
        "commit `{commit}`.".format_map(e)
        for e in found
    ]
    stale = int((rows["sources"] != sources()).sum())
    return "\n".join([*lines, *[f"**Stale**: {stale} of {len(rows)} rows are of other sources."] * (stale > 0)])
