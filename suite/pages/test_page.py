"""A table shows its texts as they are, wherever it is shown."""

import io
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from suite.pages.page import Column, Markdown, NoFigure, Sheet, escaped
from suite.pages.webpage import table

NAME, TIME = Column("name"), Column("time", str)
#: Texts of errors, and what is shown of them.
ERRORS = {
    "a | b": "a | b",
    "first\nsecond": "first second",
    "no [/x] and [bold]b[/bold]": "no [/x] and [bold]b[/bold]",
    "<b>5 & 7</b>": "<b>5 & 7</b>",
    "takes *args, **options": "takes *args, **options",
    "__init__ of a_b": "__init__ of a_b",
    "[a](b) \\ `": "[a](b) \\ `",
    "``<b>`": "``<b>`",
    ":warning:": ":warning:",
}


@pytest.mark.parametrize(("error", "shown"), ERRORS.items(), ids=list(ERRORS.values()))
@pytest.mark.parametrize("figure", [False, True], ids=["word", "no figure"])
def test_an_error_is_a_cell_of_every_table(error: str, shown: str, figure: bool) -> None:
    line = {NAME: "batched", TIME: NoFigure(error)} if figure else {NAME: error, TIME: 5}
    sheet = Sheet([NAME, TIME], [line])
    expected = ["batched", shown] if figure else [shown, "5"]

    of_page = MarkdownIt("commonmark").enable("table").render(sheet.markdown())
    for html in (of_page, table(sheet)):
        cells = ElementTree.fromstring(html).iter("td")
        assert ["".join(cell.itertext()) for cell in cells] == expected
        assert not {"b", "em", "strong", "a"} & {element.tag for element in ElementTree.fromstring(html).iter()}

    terminal = io.StringIO()
    sheet.show("a [title]", Console(file=terminal, width=200))
    assert "a [title]\n" in terminal.getvalue()
    assert terminal.getvalue().splitlines()[-1].split() == " ".join(expected).split()


def test_markdown_of_a_page_stays() -> None:
    name = Column(Markdown("`name`"))
    sheet = Sheet([name], [{name: Markdown("[`a`](b.py), *new*")}])
    assert sheet.markdown() == "| `name` |\n| --- |\n| [`a`](b.py), *new* |"
    assert '<a href="b.py"><code>a</code></a>, <em>new</em>' in table(sheet)


def test_code_of_a_message_is_code() -> None:
    assert escaped("Run `pip install a_b*` *now*.") == r"Run `pip install a_b*` \*now\*."


def test_columns_of_one_heading_are_two() -> None:
    first, second = Column("/ padded"), Column("/ padded")
    assert Sheet([first, second], [{first: 1, second: 2}]).markdown().endswith("| 1 | 2 |")
