"""Tables of a web page that sort by a click on a header: DataTables, inlined as itables ships it, and its call."""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.util import find_spec

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

#: What a cell starts with that is sorted as a number: digits, perhaps in groups of three, and an exponent.
FIGURE = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?")
#: The tables stay as they are written, and get headers that sort and nothing else.
CALL = """for (const table of document.querySelectorAll("table")) {
  new DataTable(table, { autoWidth: false, info: false, order: [], paging: false, searching: false });
}"""


def script() -> str:
    """Return the one script of a page: the library, in a URL that holds all of it, and the call.

    Where itables is not installed it is a sentence that says so, and the page's tables do not sort.
    """
    if find_spec("itables") is None:
        return "<p>A click on a header would sort these tables, had itables been installed where the page was made.</p>"
    library = b64encode(files("itables").joinpath("html/dt_bundle.js").read_bytes()).decode()
    return f'<script type="module">\nimport DataTable from "data:text/javascript;base64,{library}";\n{CALL}\n</script>'


def figure(cell: str) -> str | None:
    """Return the number that a cell starts with, such as "1.42" of "1.42 (1.39-1.56)", or None."""
    found = FIGURE.match(cell.strip("*` "))
    return found[0].replace(",", "") if found else None


def sort_figures_as_numbers(renderer: MarkdownIt) -> MarkdownIt:
    """Make a renderer say of each table which columns hold figures, and the number of each of their cells."""
    renderer.core.ruler.push("figures", _mark)
    return renderer


def _mark(state: StateCore) -> None:
    for heads, rows in _tables(state.tokens):
        for head, *cells in zip(heads, *rows, strict=True):
            numbers = [figure(text) for _, text in cells]
            told = sum(text.strip() not in ("", "-") for _, text in cells)
            if 2 * sum(number is not None for number in numbers) < max(told, 1):
                continue
            head[0].attrSet("data-type", "num")
            for (cell, _), number in zip(cells, numbers, strict=True):
                # What has no figure, as it ran out of time perhaps, comes after all that have one.
                cell.attrSet("data-order", number or "Infinity")


def _tables(tokens: Sequence[Token]) -> Iterator[tuple[list[tuple[Token, str]], list[list[tuple[Token, str]]]]]:
    """Yield the header and the rows of each table; a cell is the token that opens it, and its text."""
    rows: list[list[tuple[Token, str]]] = []
    for at, token in enumerate(tokens):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append((token, tokens[at + 1].content))
        elif token.type == "table_close":
            yield rows[0], rows[1:]
