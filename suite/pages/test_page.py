"""A page shows plain texts as they are, wherever it has them."""

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from rich.console import Console

from suite.pages.markdown import Markdown, escaped
from suite.pages.page import Column, Heading, Link, Linked, NoFigure, Part, Plot, Sheet, page_text, url
from suite.pages.webpage import html, table

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
    for text in (of_page, table(sheet)):
        cells = ElementTree.fromstring(text).iter("td")
        assert ["".join(cell.itertext()) for cell in cells] == expected
        assert not {"b", "em", "strong", "a"} & {element.tag for element in ElementTree.fromstring(text).iter()}

    terminal = io.StringIO()
    sheet.show("a [title]", Console(file=terminal, width=200))
    assert "a [title]\n" in terminal.getvalue()
    assert terminal.getvalue().splitlines()[-1].split() == " ".join(expected).split()


#: A name that would be emphasis, a link and HTML.
NAME_WITH_MARKS = "_my_ [*a*](b) <i>"


def test_a_heading_a_caption_and_the_text_of_a_link_are_plain() -> None:
    link = Link(NAME_WITH_MARKS, Path("a folder (1)#/c.csv"))
    plot = Plot("a plot", NAME_WITH_MARKS, Figure, has_file=True)
    parts: list[Part] = [Heading(NAME_WITH_MARKS), Linked([Markdown("*all*: "), link])]
    of_page = MarkdownIt("commonmark").render(page_text([*parts, plot]))
    of_report = html(parts, Path(), url)
    for text in (of_page, of_report):
        heading, paragraph, *_ = ElementTree.fromstring(f"<body>{text}</body>")
        assert (heading.tag, heading.text, len(heading)) == ("h2", NAME_WITH_MARKS, 0)
        assert [(child.tag, child.text) for child in paragraph] == [("em", "all"), ("a", NAME_WITH_MARKS)]
        assert paragraph[1].get("href") == "a%20folder%20%281%29%23/c.csv"
    (inline,) = MarkdownIt("commonmark").parseInline(plot.markdown())
    image, *others = inline.children or []
    assert not others
    assert image.attrs["src"] == "a%20plot.svg"
    children = image.children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == NAME_WITH_MARKS


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
