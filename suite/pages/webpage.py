"""results/report.html: the Markdown of every page of every machine in one file that needs nothing else."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML

from suite.pages.page import Part, Plot, markdown
from suite.pages.plots import svg

STYLE = Path(__file__).with_name("report.css")
#: Makes tables sortable: columns of figures by number, with cells that have none last.
CALL = """for (const table of document.querySelectorAll("table")) {
  const figures = [...table.tHead.rows[0].cells].map(head => head.style.textAlign === "right");
  for (const cell of table.querySelectorAll("td")) if (figures[cell.cellIndex]) {
    const figure = parseFloat(cell.textContent.replaceAll(",", ""));
    cell.dataset.order = isNaN(figure) ? Infinity : figure;
  }
  new DataTable(table, { autoWidth: false, info: false, order: [], paging: false, searching: false });
}"""


def report_html(index: Sequence[Part], pages: Mapping[Path, Sequence[Part]]) -> str:
    """HTML of the report: the index, and the pages by their paths `<machine>/<page>.md`, with all of their plots."""
    sections = [
        f'<section id="{path.parent.name}-{path.stem}">\n{html(parts, path.parent)}</section>'
        for path, parts in pages.items()
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
{html(index)}
{"".join(sections)}
</main>
{script()}
</body>
</html>
"""


def html(parts: Sequence[Part], folder: Path | None = None) -> str:
    """HTML of a page: tables in boxes that scroll, plots as images; folder: that of the machine, None for the index."""
    renderer = MarkdownIt("commonmark", renderer_cls=_Renderer).enable("table")
    plots = {f"{part.name}.svg": svg(part.draw()) for part in parts if isinstance(part, Plot)}
    text: str = renderer.render(markdown(parts, every_plot=True), {"plots": plots, "folder": folder})
    return text


class _Renderer(RendererHTML):
    """markdown-it calls the method with the name of each kind of token."""

    def image(self, tokens: Sequence[Any], at: int, options: Any, env: Any) -> str:
        caption = escape(tokens[at].content)
        plot = env["plots"][tokens[at].attrs["src"]]
        data = b64encode(plot.encode()).decode()
        image = f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}"/>'
        return f'<span class="plot">{image}<small>{caption}</small></span>'

    def link_open(self, tokens: Sequence[Any], at: int, options: Any, env: Any) -> str:
        target = tokens[at].attrs["href"]
        if "://" not in target and env["folder"] is not None:
            target = f"{env['folder'].name}/{target}"
        # Pages are sections of this file.
        page = re.fullmatch(r"([^/:]+)/(\w+)\.md", target)
        if page:
            target = f"#{page[1]}-{page[2]}"
        return f'<a href="{escape(target)}">'

    def table_open(self, tokens: Sequence[Any], at: int, options: Any, env: Any) -> str:
        return '<div class="scroll" tabindex="0">\n<table>\n'

    def table_close(self, tokens: Sequence[Any], at: int, options: Any, env: Any) -> str:
        return "</table>\n</div>\n"


def script() -> str:
    """Script of the page: the library, in a URL that contains it, and the call."""
    bundle = files("itables").joinpath("html/dt_bundle.js")
    library = b64encode(bundle.read_bytes()).decode()
    return f'<script type="module">\nimport DataTable from "data:text/javascript;base64,{library}";\n{CALL}\n</script>'
