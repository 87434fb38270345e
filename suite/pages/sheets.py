"""Tables of pages: values by column and a format for each column of figures; in Markdown, in HTML, in a terminal."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from suite.shared.format import NONE

Format = Callable[[Any], str]
#: What a column shows of a row: another column's value, or what is made of the row.
Value = str | Callable[[Any], Any]
Columns = Mapping[str, Value | tuple[Value, Format]]
#: What marks the head of a column that sorts by numbers.
NUMERIC = ' data-type="num"'


@dataclass(frozen=True)
class Sheet:
    """A table: its lines, each a value by column, and the format of each column of figures.

    A figure is a number, or a tuple whose first is the number that it is sorted by. Words may stand in its place, such
    as why there is none; None and NaN are shown as a dash.
    """

    lines: Sequence[Mapping[str, Any]]
    formats: Mapping[str, Format] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pd.DataFrame, columns: Columns) -> "Sheet":
        """Return the table with a line for each row: by column what it shows, with a format where that is a figure."""
        split = {name: shown if isinstance(shown, tuple) else (shown, None) for name, shown in columns.items()}
        lines = [
            {name: row[value] if isinstance(value, str) else value(row) for name, (value, _) in split.items()}
            for _, row in rows.iterrows()
        ]
        return cls(lines, {name: form for name, (_, form) in split.items() if form is not None})

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def columns(self) -> list[str]:
        """The columns that any line has, but for those of figures that have none anywhere."""
        found = dict.fromkeys(column for line in self.lines for column in line)
        return [c for c in found if c not in self.formats or any(not _none(line.get(c)) for line in self.lines)]

    def only(self, columns: Sequence[str]) -> "Sheet":
        """Return the table with these columns alone."""
        return Sheet([{column: line.get(column) for column in columns} for line in self.lines], self.formats)

    def text(self, line: Mapping[str, Any], column: str) -> str:
        """Return a cell in words."""
        value = line.get(column)
        if _none(value):
            return NONE
        return value if isinstance(value, str) else self.formats.get(column, str)(value)

    def words(self) -> list[dict[str, str]]:
        """Return the lines in words."""
        columns = self.columns
        return [{column: self.text(line, column) for column in columns} for line in self.lines]

    def markdown(self) -> str:
        """Return the table in Markdown, columns of figures to the right."""
        rule = ["---:" if column in self.formats else "---" for column in self.columns]
        rows = [self.columns, rule, *(line.values() for line in self.words())]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def html(self, inline: Format = escape) -> str:
        """Return the table in HTML, with the number of each figure to sort by; inline: what makes HTML of a cell."""
        heads = [f"<th{NUMERIC if column in self.formats else ''}>{inline(column)}</th>" for column in self.columns]
        rows = ["".join(self._cell(line, column, inline) for column in self.columns) for line in self.lines]
        body = "\n".join(f"<tr>{row}</tr>" for row in rows)
        head = f"<thead>\n<tr>{''.join(heads)}</tr>\n</thead>"
        return f'<div class="scroll" tabindex="0">\n<table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table>\n</div>\n'

    def _cell(self, line: Mapping[str, Any], column: str, inline: Format) -> str:
        if column not in self.formats:
            return f"<td>{inline(self.text(line, column))}</td>"
        value: Any = line.get(column)
        value = value[0] if isinstance(value, tuple) else value
        # What has no figure, as it ran out of time perhaps, comes after all that have one.
        order = "Infinity" if isinstance(value, str) or _none(value) or math.isinf(value) else f"{value:.12g}"
        return f'<td data-order="{order}">{inline(self.text(line, column))}</td>'

    def show(self, title: str, console: Console | None = None) -> None:
        """Print the table to a terminal, or plainly into a pipe."""
        console = console or Console()
        console.print()
        if title:  # as a line of its own, since rich would wrap it to the table's width
            console.print(title, style="italic")
        view = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for column in self.columns:
            view.add_column(column, justify="right" if column in self.formats else "left", overflow="fold")
        for line in self.words():
            view.add_row(*line.values())
        console.print(view)


#: What a page consists of: text in Markdown, and tables.
Part = str | Sheet


def markdown(parts: Sequence[Part]) -> str:
    """Return a page in Markdown."""
    return "\n\n".join(part.markdown() if isinstance(part, Sheet) else part.strip() for part in parts) + "\n"


def _none(value: Any) -> bool:
    value = value[0] if isinstance(value, tuple) else value
    return value is None or (isinstance(value, float) and pd.isna(value))
