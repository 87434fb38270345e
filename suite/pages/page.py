"""A page of a machine's results: text, tables and plots, which show rows of its CSV files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from suite.pages.markdown import Markdown, escaped
from suite.pages.origin import origin
from suite.results.format import NONE, machine
from suite.results.names import TableName
from suite.results.tables import TABLES
from suite.shared.text import in_one_line

#: Rows of other tables that a page shows, by name; only tables that the machine has.
OtherTables = Mapping[TableName, pd.DataFrame]


class NoFigure(NamedTuple):
    """A cell of a column of figures that has none, and why."""

    why: str


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table, which is told from others by what it is, not by its heading.

    write: the text of a figure; None for a column of words.
    number: the number of a figure, by which the report sorts lines.
    """

    heading: str
    write: Callable[[Any], str] | None = None
    number: Callable[[Any], float] = float

    @property
    def has_figures(self) -> bool:
        return self.write is not None

    def text(self, value: Any) -> str:
        """Text of a cell in one line, plain or `Markdown`."""
        if isinstance(value, Markdown):
            return value
        if is_absent(value):
            return NONE
        if isinstance(value, NoFigure):
            return in_one_line(value.why)
        return self.write(value) if self.write else in_one_line(value)


#: Columns of several pages.
IMPLEMENTATION, VERDICT = Column("implementation"), Column("verdict")


def is_absent(value: Any) -> bool:
    """True for None and NaN, which stand for a cell without a value."""
    return value is None or (isinstance(value, float) and pd.isna(value))


@dataclass(frozen=True)
class Sheet:
    """A table: its columns from the left, and its lines, each the values of a line by column.

    A value of a column of figures is a figure or `NoFigure`. Where a line lacks a column, or it is None or NaN, the
    cell has a dash. A column of figures whose cells are all empty is left out.
    """

    columns: Sequence[Column]
    lines: Sequence[Mapping[Column, Any]]

    @classmethod
    def of_rows(cls, columns: Mapping[str, Column], rows: pd.DataFrame) -> "Sheet":
        """The table of a frame's rows; columns: by the name of the frame's column."""
        lines = [{column: row[name] for name, column in columns.items()} for row in rows.to_dict("records")]
        return cls(list(columns.values()), lines)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def shown(self) -> list[Column]:
        """The columns, without those of figures that have none."""
        columns = []
        for column in self.columns:
            empty = all(is_absent(line.get(column)) for line in self.lines)
            if not (empty and column.has_figures):
                columns.append(column)
        return columns

    def texts(self) -> list[dict[Column, str]]:
        """The texts of each line, by column."""
        columns = self.shown
        return [{column: column.text(line.get(column)) for column in columns} for line in self.lines]

    def markdown(self) -> Markdown:
        """Markdown of the table, with figures aligned to the right; "" without lines."""
        if not self.lines:
            return Markdown()
        columns = self.shown
        headings = [_cell(column.heading) for column in columns]
        rule = ["---:" if column.has_figures else "---" for column in columns]
        rows = [[_cell(text) for text in line.values()] for line in self.texts()]
        return Markdown("\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)))

    def show(self, title: str, console: Console | None = None) -> None:
        """Print the table, if it has lines.

        Cells break between words. A table whose words do not fit is wider than the terminal.
        """
        if not self.lines:
            return
        console = console or Console()
        room = console.width
        console.print()
        console.print(Text(title, "italic"))  # on a separate line, since rich would wrap it to the table's width
        lines = self.texts()
        widths = _widths(lines, room)
        view = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for column in self.shown:
            side: Literal["right", "left"] = "right" if column.has_figures else "left"
            view.add_column(Text(column.heading), justify=side, width=widths[column])
        for line in lines:
            view.add_row(*map(Text, line.values()))  # a string would be markup of rich
        console.width = max(room, _total(widths))
        console.print(view)
        console.width = room


def _cell(text: str) -> str:
    """Markdown of a cell, in which a bar would end it."""
    return escaped(text).replace("|", r"\|")


def _widths(lines: Sequence[Mapping[Column, str]], room: int) -> dict[Column, int]:
    """Characters of each column of a table, whose lines have these texts.

    If the table takes more than the room, cells are broken between words, first in the columns that this narrows most.
    """
    widths = dict[Column, int]()
    spare = dict[Column, int]()
    for column in lines[0]:
        cells = [column.heading, *(line[column] for line in lines)]
        widths[column] = max(len(cell) for cell in cells)
        longest_word = max(len(word) for cell in cells for word in cell.split())
        spare[column] = widths[column] - longest_word
    for column in sorted(spare, key=lambda column: -spare[column]):
        over = max(0, _total(widths) - room)
        widths[column] -= min(over, spare[column])
    return widths


def _total(widths: Mapping[Column, int]) -> int:
    """Characters of a line: of the columns, with two between them."""
    return sum(widths.values()) + 2 * len(widths)


@dataclass(frozen=True)
class Plot:
    """A plot: the name of its file without `.svg`, its caption, which is plain, and the function that draws it.

    has_file: it is a file, which the Markdown shows. Others are in the report alone.
    folder: of the file, from the page that shows it.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]
    has_file: bool = False
    folder: Path = Path()

    @property
    def file(self) -> str:
        return f"{self.name}.svg"

    def markdown(self) -> Markdown:
        return Markdown(f"![{escaped(self.caption)}]({url(self.folder / self.file)})")


@dataclass(frozen=True)
class Heading:
    """A heading, whose text is plain unless it is `Markdown`; level: 1 for the title of a page."""

    text: str
    level: int = 2

    def markdown(self) -> Markdown:
        return Markdown(f"{'#' * self.level} {escaped(self.text)}")


def url(path: Path) -> str:
    """URL of a relative path."""
    return quote(path.as_posix())


class Link(NamedTuple):
    """A link to a file: its text, plain unless it is `Markdown`, and the path from the folder of its page."""

    text: str
    path: Path

    def markdown(self, target: Callable[[Path], str] = url) -> Markdown:
        """Markdown of the link; target: the URL of a path."""
        return Markdown(f"[{escaped(self.text)}]({target(self.path)})")


@dataclass(frozen=True)
class Linked:
    """Markdown with links to files, which the report has in other places."""

    spans: Sequence[Markdown | Link]

    def markdown(self, target: Callable[[Path], str] = url) -> Markdown:
        """Markdown with the links; target: the URL of a path."""
        texts = []
        for span in self.spans:
            texts.append(span.markdown(target) if isinstance(span, Link) else span)
        return Markdown("".join(texts))


def enumerated(links: Sequence[Link]) -> list[Markdown | Link]:
    """Links with a comma between each two."""
    spans = list[Markdown | Link]()
    for link in links:
        if spans:
            spans.append(Markdown(", "))
        spans.append(link)
    return spans


#: What pages are made of. Texts and tables without anything are left out.
Part = Markdown | Heading | Linked | Sheet | Plot


def page_text(parts: Sequence[Part]) -> str:
    """Markdown of a page, with the plots that are files."""
    texts = []
    for part in parts:
        if not isinstance(part, Plot) or part.has_file:
            text = part if isinstance(part, Markdown) else part.markdown()
            texts.append(text.strip())
    return "\n\n".join(filter(None, texts)) + "\n"


class Body(NamedTuple):
    """What a page says: its summary, which comes before the line on where the rows were made, and the rest."""

    summary: Markdown
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """One page, `<name>.md`, made of `<name>.csv`.

    body: makes what it says of the rows and of those of other tables.
    others: names of these tables.
    """

    name: TableName
    title: str
    body: Callable[[pd.DataFrame, OtherTables], Body]
    others: tuple[TableName, ...]

    @property
    def of_project(self) -> bool:
        """False for a page of what git ignores."""
        return TABLES[self.name].of_project

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.md"

    def content(self, rows: pd.DataFrame, others: OtherTables = MappingProxyType({})) -> list[Part]:
        every = {self.name: rows, **others}
        body = self.body(rows, others)
        title = Heading(f"{self.title}: {machine(rows.iloc[0])}", level=1)
        files = [TABLES[name].path(Path()) for name in every]
        links = [Link(file.name, file) for file in files]
        of_rows = Linked([Markdown("All rows: "), *enumerated(links), Markdown(".")])
        return [title, body.summary, origin(every), *body.parts, of_rows]

    def read(self, folder: Path) -> list[Part]:
        """Parts of the page of a machine's folder, none if it has no rows; ResultsError if a file is damaged."""
        rows = TABLES[self.name].read(folder)
        if rows.empty:
            return []
        others = dict[TableName, pd.DataFrame]()
        for name in self.others:
            of_other = TABLES[name].read(folder)
            if len(of_other):
                others[name] = of_other
        return self.content(rows, others)
