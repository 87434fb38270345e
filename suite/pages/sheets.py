"""Parts of a page: text, tables and plots; as Markdown, and tables in a terminal too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from suite.shared.format import NONE

Format = Callable[[Any], str]


@dataclass(frozen=True)
class Sheet:
    """A table: lines of values by column, and a format for each column of figures.

    A figure is a number or a tuple of numbers, or a string that says why there is none; None and NaN show as a dash.
    """

    lines: Sequence[Mapping[str, Any]]
    formats: Mapping[str, Format] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def columns(self) -> list[str]:
        """Columns of all lines, without columns of figures that are empty."""
        names = dict.fromkeys(column for line in self.lines for column in line)
        return [c for c in names if c not in self.formats or any(not _none(line.get(c)) for line in self.lines)]

    def only(self, columns: Sequence[str]) -> "Sheet":
        return Sheet([{column: line.get(column) for column in columns} for line in self.lines], self.formats)

    def text(self, line: Mapping[str, Any], column: str) -> str:
        value = line.get(column)
        if _none(value):
            return NONE
        return value if isinstance(value, str) else self.formats.get(column, str)(value)

    def words(self) -> list[dict[str, str]]:
        columns = self.columns
        return [{column: self.text(line, column) for column in columns} for line in self.lines]

    def markdown(self) -> str:
        """Markdown of the table, with figures aligned to the right."""
        rule = ["---:" if column in self.formats else "---" for column in self.columns]
        rows = [self.columns, rule, *(line.values() for line in self.words())]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def show(self, title: str, console: Console | None = None) -> None:
        console = console or Console()
        console.print()
        if title:  # on a separate line, since rich would wrap it to the table's width
            console.print(title, style="italic")
        words = self.words()
        cells = {column: [column, *(line[column] for line in words)] for column in self.columns}
        longest = {column: max(len(word) for text in texts for word in text.split()) for column, texts in cells.items()}
        if sum(longest.values()) + 2 * len(longest) > console.width:  # words would be cut: a block for each line
            for line in words:
                console.print(
                    "\n".join(f"{column}: {text}" for column, text in line.items() if text != NONE), end="\n\n"
                )
            return
        view = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for column in self.columns:
            view.add_column(column, justify="right" if column in self.formats else "left", min_width=longest[column])
        for line in words:
            view.add_row(*line.values())
        console.print(view)


@dataclass(frozen=True)
class Plot:
    """A plot: the name of its file without `.svg`, its caption, and the function that draws it.

    committed: it is a file beside the Markdown, which shows it. Others are in the report alone.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]
    committed: bool = False

    def markdown(self) -> str:
        return f"![{self.caption}]({self.name}.svg)"


#: What pages are made of; text is Markdown.
Part = str | Sheet | Plot


def markdown(parts: Sequence[Part], *, every_plot: bool = False) -> str:
    shown = [part for part in parts if every_plot or not isinstance(part, Plot) or part.committed]
    return "\n\n".join(part.strip() if isinstance(part, str) else part.markdown() for part in shown) + "\n"


def _none(value: Any) -> bool:
    value = value[0] if isinstance(value, tuple) else value
    return value is None or (isinstance(value, float) and pd.isna(value))
