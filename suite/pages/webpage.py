"""results/report.html: the pages of every machine in one file that needs nothing else."""

import sys
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from markdown_it import MarkdownIt

from suite.pages.markdown import Markdown, escaped
from suite.pages.page import Column, Linked, NoFigure, Part, Plot, Sheet, is_absent, url
from suite.pages.plots import svg

STYLE = Path(__file__).with_name("report.css")
#: Makes tables sortable, by `data-order` where a cell has it.
CALL = """for (const table of document.querySelectorAll("table")) {
  new DataTable(table, { autoWidth: false, info: false, order: [], paging: false, searching: false });
}"""
#: By what cells without a figure are sorted: after all that have one. The library takes infinity for a word.
LAST = sys.float_info.max
COMMONMARK = MarkdownIt("commonmark")
#: What a link to a file names in the report.
Target = Callable[[Path], str]


def report_html(results: Path, index: Sequence[Part], pages: Mapping[Path, Sequence[Part]]) -> str:
    """HTML of the report: the index, and the pages by their files `<machine>/<page>.md`, with all of their plots.

    results: the folder of the report and of the machines.
    """

    def target(file: Path) -> str:
        return f"#{quote(section(file))}" if file in pages else url(file.relative_to(results))

    sections = [
        f'<section id="{section(page)}">\n{html(parts, page.parent, target)}</section>' for page, parts in pages.items()
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>HyperLSTM: results</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
{html(index, results, target)}
{"".join(sections)}
</main>
{script()}
</body>
</html>
"""


def section(page: Path) -> str:
    """Id of the section of a page."""
    return f"{page.parent.name}-{page.stem}"


def html(parts: Sequence[Part], folder: Path, target: Target) -> str:
    """HTML of the parts of a page or of the index; folder: that from which the paths of its links start."""
    texts = []
    for part in parts:
        if isinstance(part, Sheet):
            texts.append(table(part))
        elif isinstance(part, Plot):
            texts.append(image(part))
        elif isinstance(part, Linked):
            texts.append(COMMONMARK.render(part.markdown(lambda path: target(folder / path))))
        elif isinstance(part, Markdown):
            texts.append(COMMONMARK.render(part))
        else:
            texts.append(COMMONMARK.render(part.markdown()))
    return "".join(texts)


def table(sheet: Sheet) -> str:
    """HTML of a table in a box that scrolls; "" without lines."""
    if not sheet.lines:
        return ""
    columns = sheet.shown
    head = _row([_cell("th", column, column.heading) for column in columns])
    body = []
    for line in sheet.lines:
        cells = []
        for column in columns:
            value = line.get(column)
            order = f' data-order="{_order(column, value)}"' if column.has_figures else ""
            cells.append(_cell("td", column, column.text(value), order))
        body.append(_row(cells))
    rows = f"<thead>\n{head}</thead>\n<tbody>\n{''.join(body)}</tbody>"
    return f'<div class="scroll" tabindex="0">\n<table>\n{rows}\n</table>\n</div>\n'


def _row(cells: Sequence[str]) -> str:
    return f"<tr>\n{''.join(cells)}</tr>\n"


def _cell(tag: str, column: Column, text: str, attributes: str = "") -> str:
    """Cell of a table; text: plain or `Markdown`."""
    look = ' class="figure"' if column.has_figures else ""
    return f"<{tag}{look}{attributes}>{COMMONMARK.renderInline(escaped(text))}</{tag}>\n"


def _order(column: Column, value: object) -> float:
    """Number by which the report sorts a cell of a column of figures."""
    return LAST if is_absent(value) or isinstance(value, NoFigure) else float(column.number(value))


def image(plot: Plot) -> str:
    """HTML of a plot with its caption, and with the file in the URL."""
    caption = escape(plot.caption)
    data = b64encode(svg(plot.draw()).encode()).decode()
    tag = f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}"/>'
    return f'<p><span class="plot">{tag}<small>{caption}</small></span></p>\n'


def script() -> str:
    """Script of the page: the library, in a URL that contains it, and the call."""
    bundle = files("itables").joinpath("html/dt_bundle.js")
    library = b64encode(bundle.read_bytes()).decode()
    return f'<script type="module">\nimport DataTable from "data:text/javascript;base64,{library}";\n{CALL}\n</script>'
