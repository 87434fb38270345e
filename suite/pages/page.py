"""A page of a machine's results: text, tables and plots, which show rows of its CSV files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from suite.results.format import NONE, machine, origin
from suite.results.tables import TABLES

Format = Callable[[Any], str]
#: Rows of other tables that a page shows, by name; only tables that the machine has.
Others = Mapping[str, pd.DataFrame]


class NoFigure(NamedTuple):
    """A cell of a column of figures that has none, and why."""

    why: str


@dataclass(frozen=True)
class Sheet:
    """A table: lines of values by column, a format for each column of figures, and headings that are not the names.

    A figure is a number or a tuple of numbers, or `NoFigure`; None and NaN show as a dash.
    """

    lines: Sequence[Mapping[str, Any]]
    formats: Mapping[str, Format] = field(default_factory=dict)
    headings: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def only(self, columns: Sequence[str]) -> "Sheet":
        lines = [{column: line.get(column) for column in columns} for line in self.lines]
        return replace(self, lines=lines)

    def columns(self) -> dict[str, str]:
        """The columns by heading, without those of figures that are empty."""
        by_heading = dict[str, str]()
        for column in dict.fromkeys(column for line in self.lines for column in line):
            empty = all(_none(line.get(column)) for line in self.lines)
            if not (empty and column in self.formats):
                heading = self.headings.get(column, column)
                by_heading[heading] = column
        return by_heading

    def words(self) -> list[dict[str, str]]:
        """The lines as text, by heading."""
        columns = self.columns()
        return [{head: self._text(line, column) for head, column in columns.items()} for line in self.lines]

    def _text(self, line: Mapping[str, Any], column: str) -> str:
        value = line.get(column)
        if _none(value):
            return NONE
        if isinstance(value, NoFigure):
            return value.why
        written = self.formats.get(column, str)
        return written(value)

    def markdown(self) -> str:
        """Markdown of the table, with figures aligned to the right."""
        words = self.words()
        rule = ["---:" if column in self.formats else "---" for column in self.columns().values()]
        rows = [words[0].keys(), rule, *(line.values() for line in words)]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def show(self, title: str, console: Console | None = None) -> None:
        """Print the table; where its words do not fit, lines are longer than the terminal is wide."""
        console = console or Console()
        words = self.words()
        console.print()
        console.print(title, style="italic")  # on a separate line, since rich would wrap it to the table's width
        widths = dict[str, int]()
        spare = dict[str, int]()
        for head in words[0]:
            cells = [head, *(line[head] for line in words)]
            longest_word = max(len(word) for cell in cells for word in cell.split())
            widths[head] = max(len(cell) for cell in cells)
            spare[head] = widths[head] - longest_word
        over = max(0, sum(widths.values()) + 2 * len(widths) - console.width)
        for head in sorted(spare, key=lambda head: -spare[head]):
            less = min(over, spare[head])
            widths[head] -= less
            over -= less
        view = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        columns = self.columns()
        for head, width in widths.items():
            side: Literal["right", "left"] = "right" if columns[head] in self.formats else "left"
            view.add_column(head, justify=side, width=width)
        for line in words:
            view.add_row(*line.values())
        console.width += over
        console.print(view)


@dataclass(frozen=True)
class Plot:
    """A plot: the name of its file without `.svg`, its caption, and the function that draws it.

    has_file: it is a file beside the Markdown, which shows it. Others are in the report alone.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]
    has_file: bool = False

    def markdown(self) -> str:
        return f"![{self.caption}]({self.name}.svg)"


#: What pages are made of; text is Markdown.
Part = str | Sheet | Plot


def markdown(parts: Sequence[Part], *, every_plot: bool = False) -> str:
    texts = []
    for part in parts:
        left_out = isinstance(part, Plot) and not (every_plot or part.has_file)
        if part and not left_out:
            texts.append(part.strip() if isinstance(part, str) else part.markdown())
    return "\n\n".join(texts) + "\n"


def _none(value: Any) -> bool:
    value = value[0] if isinstance(value, tuple) else value
    return value is None or (isinstance(value, float) and pd.isna(value))


@dataclass(frozen=True)
class Page:
    """One page, `<name>.md`, made of `<name>.csv`.

    parts: the first is the lead, which comes before the line on where and when the rows were made.
    others: further tables that the page shows.
    """

    name: str
    title: str
    parts: Callable[[pd.DataFrame, Others], list[Part]]
    others: tuple[str, ...]

    def content(self, rows: pd.DataFrame, others: Others = MappingProxyType({})) -> list[Part]:
        every = {self.name: rows, **others}
        lead, *rest = self.parts(rows, others)
        title = f"# {self.title}: {machine(rows.iloc[0])}"
        links = ", ".join(f"[{name}.csv]({name}.csv)" for name in every)
        return [title, lead, origin(every), *rest, f"All rows: {links}."]

    def read(self, folder: Path) -> list[Part]:
        """Parts of the page of a machine's folder, none if it has no rows; ResultsError if a file is damaged."""
        rows = TABLES[self.name].read(folder)
        if rows.empty:
            return []
        others = dict[str, pd.DataFrame]()
        for name in self.others:
            of_other = TABLES[name].read(folder)
            if len(of_other):
                others[name] = of_other
        return self.content(rows, others)
