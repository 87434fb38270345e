"""Tables of texts, on pages and in a terminal; and templates of pages, whose other texts are plain.

A table is a DataFrame of strings, whose columns are its headings. In a plain text, code stands between backticks.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from suite.results.format import NONE
from suite.shared.text import in_one_line

#: A span of code between single backticks, or what Markdown would not show as it is.
_MARKED = re.compile(r"(?<!`)`[^`]+`(?!`)|[\\`*<\[\]&]|(?<![^\W_])_|_(?![^\W_])")
#: Characters of a table up to which it does not break cells.
WIDEST = 100
#: Columns of words, of which some begin with a number.
WORDS = ("verdict", "workload", "")


def escaped(text: str) -> str:
    """Markdown in one line that shows a plain text."""
    return _MARKED.sub(lambda match: match[0] if len(match[0]) > 1 else f"\\{match[0]}", in_one_line(text))


def table_of(lines: Sequence[dict[str, str]]) -> pd.DataFrame:
    """A table of lines, each by heading; a cell that a line lacks has a dash, and a column of dashes is left out."""
    table = pd.DataFrame(lines, dtype=object).fillna(NONE)
    return table.loc[:, (table != NONE).any()] if len(table) else table


def has_figures(table: pd.DataFrame, heading: str) -> bool:
    """True for a column of figures, which some cell begins with."""
    return heading not in WORDS and bool(table[heading].str.match(r"[-+]?\d").any())


def markdown(table: pd.DataFrame) -> str:
    """Markdown of a table, with figures aligned to the right; "" without lines."""
    if table.empty:
        return ""
    rule = ["---:" if has_figures(table, heading) else "---" for heading in table]
    cells = [[escaped(cell).replace("|", r"\|") for cell in line] for line in ([*table], *table.to_numpy().tolist())]
    return "\n".join(f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:]))


def show(table: pd.DataFrame, title: str) -> None:
    """Print a table, if it has lines. Words break into lines, figures do not; rather it is wider than the terminal."""
    if table.empty:
        return
    console = Console()
    view = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    least = most = 0
    for heading in table:
        figures = has_figures(table, heading)
        cells = [heading, *table[heading]]
        words = cells if figures else [word for cell in cells for word in cell.split()]
        width = max(map(len, words), default=0)
        view.add_column(Text(heading), justify="right" if figures else "left", no_wrap=figures, min_width=width)
        least, most = least + width + 2, most + max(map(len, cells)) + 2
    for line in table.to_numpy().tolist():
        view.add_row(*map(Text, line))  # a string would be markup of rich
    console.print()
    console.print(Text(title, "italic"))
    console.width = max(console.width, most if most <= WIDEST else least)
    console.print(view, crop=False, soft_wrap=False)


TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters |= {"plain": escaped, "table": markdown}


def page(template: str, **values: Any) -> str:
    """Text of a template, without more than one empty line in a row."""
    text = TEMPLATES.get_template(f"{template}.jinja").render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
