"""A page of a machine's results: the text of `texts/`, tables and plots, all made of the rows of one CSV file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter

import pandas as pd
from matplotlib.figure import Figure

from suite.pages.plots import svg
from suite.pages.sheets import Part, Sheet, markdown
from suite.shared.format import made_on
from suite.shared.results import write_whole
from suite.shared.rows import table

#: The prose of the pages.
TEXTS = Path(__file__).with_name("texts")
#: What stands in a text where its name is in braces.
Values = Mapping[str, str | Part | list[Part]]


@dataclass(frozen=True)
class Page:
    """One page: `<name>.csv`, from it `<name>.md`, and plots in SVG.

    values: makes of the rows what stands in the text's braces.
    about: which of the file's rows the page is about, by default all.
    plots: by file name without its ending; None where the rows have nothing to draw. Those that the Markdown does not
        place come at its end.
    beside: by such a plot, the page whose rows it is given as well, none where the machine lacks that page.
    """

    name: str
    values: Callable[[pd.DataFrame], Values]
    about: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows
    plots: Mapping[str, Callable[..., Figure | None]] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)

    def content(self, rows: pd.DataFrame) -> list[Part]:
        """Return what the page consists of."""
        rows = self.about(rows)
        return page_of(self.name, made_on=made_on(rows, table(self.name).rests_on), **self.values(rows))

    def write(self, folder: Path) -> list[Part]:
        """Make the Markdown and the plots of a machine's folder again, if it has this page; return the parts."""
        rows = table(self.name).read(folder)
        if rows.empty:
            return []
        parts, rows = self.content(rows), self.about(rows)
        for stem, plot in self.plots.items():
            others = [table(self.beside[stem]).read(folder)] if stem in self.beside else []
            if (figure := plot(rows, *others)) is None:
                continue
            write_whole(folder / f"{stem}.svg", svg(figure))
            if not any(f"({stem}.svg)" in part for part in parts if isinstance(part, str)):
                parts.append(f"![{stem}]({stem}.svg)")
        write_whole(folder / f"{self.name}.md", markdown(parts))
        return parts


def page_of(name: str, **values: str | Part | list[Part]) -> list[Part]:
    """Return the Markdown of `texts/<name>.md`, with the values that stand in braces there.

    KeyError names a value that is not given.
    """
    parts: list[Part] = []
    text = ""
    for literal, named, _, _ in Formatter().parse((TEXTS / f"{name}.md").read_text(encoding="utf-8")):
        text += literal
        value = values[named] if named else ""
        if isinstance(value, str):
            text += value
            continue
        parts += [text, *([value] if isinstance(value, Sheet) else value)]
        text = ""
    return [part for part in (*parts, text) if isinstance(part, Sheet) or part.strip()]
