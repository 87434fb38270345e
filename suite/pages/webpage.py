"""results/report.html: every page of every machine in one file that needs nothing else and no network."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML

from suite.pages.plots import INK
from suite.pages.sheets import Part, Sheet

#: Plots that a machine's answer shows, where there are such, and what they are called there.
LEADING = {
    "speed": "Time as a multiple of that of torch.nn.LSTM",
    "memory-against-T": "Memory of a training step against T",
    "text-curve": "Bits per character of held-out text against seconds of training",
}
#: A browser that holds to it loads nothing that is not in the file.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' data:"
STYLE = Path(__file__).with_name("report.css")
#: The tables stay as they are written, and get headers that sort and nothing else.
CALL = """for (const table of document.querySelectorAll("table")) {
  new DataTable(table, { autoWidth: false, info: false, order: [], paging: false, searching: false });
}"""


def report_html(machines: Mapping[Path, tuple[Sequence[Part], Mapping[str, Sequence[Part]]]]) -> str:
    """Return the report on the machines with results: each machine's answer, then the parts of its pages by name."""
    shown, links, sections = [], [], []
    for folder, (answers, pages) in machines.items():
        leading = [f"![{name}]({stem}.svg)" for stem, name in LEADING.items() if (folder / f"{stem}.svg").exists()]
        shown.append(html([f"# {folder.name}", *answers, " ".join(leading)], folder, "answer"))
        items = "".join(f'<a href="#{folder.name}-{name}">{name}</a> ' for name in pages)
        links.append(f"<p>{escape(folder.name)}: {items}</p>")
        for name, parts in pages.items():
            sections.append(f'<section id="{folder.name}-{name}">\n{html(parts, folder, name)}</section>')
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="color-scheme" content="light dark">
<title>HyperLSTM: results</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>HyperLSTM: results</h1>
<p>Interchangeable implementations of one HyperLSTM, checked against the equation and measured side by side.</p>
</header>
<main>
{"".join(shown) or "<p>None yet.</p>"}
<nav>
{"".join(links)}
</nav>
{"".join(sections)}
</main>
{script()}
</body>
</html>
"""


def html(parts: Sequence[Part], folder: Path, page: str) -> str:
    """Return a page of a machine's folder as HTML: headings one lower, tables in boxes that scroll, plots inline."""
    markdown, env = MarkdownIt("commonmark", renderer_cls=_Renderer), {"folder": folder, "part": page}
    return "".join(
        part.html(markdown.renderInline) if isinstance(part, Sheet) else markdown.render(part, env) for part in parts
    )


class _Renderer(RendererHTML):
    """Its methods are called by the kind of token that they render."""

    def image(self, tokens: Sequence[Any], at: int, options: Any, env: Any) -> str:
        path, called = env["folder"] / tokens[at].attrs["src"], tokens[at].content
        plot = inline_svg(path, called, f"{env['folder'].name}-{env['part']}-{path.stem}-")
        drawn = re.search(r'width="([\d.]+pt)"', plot)
        style = f' style="--drawn: {drawn[1]}"' if drawn else ""
        return f'<span class="plot"{style}>{plot}<small>{escape(called)}</small></span>'

    def link_open(self, tokens: Sequence[Any], at: int, options: Any, env: Any) -> str:
        target = tokens[at].attrs["href"]
        apart = target if "://" in target else f"{env['folder'].name}/{target}"
        return f'<a href="{escape(apart)}">'

    def heading_open(self, tokens: Sequence[Any], at: int, options: Any, env: Any) -> str:
        tokens[at].tag = f"h{int(tokens[at].tag.removeprefix('h')) + 1}"
        return self.renderToken(tokens, at, options, env)

    heading_close = heading_open


def inline_svg(path: Path, label: str, own: str) -> str:
    """Return a plot as an element of a page: its grey is the page's own colour of text, its ids begin with `own`."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}", text)
    return text.replace(INK, "currentColor").replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def script() -> str:
    """Return the one script of a page: the library, in a URL that holds all of it, and the call.

    Where itables is not installed it is a sentence that says so, and the page's tables do not sort.
    """
    if find_spec("itables") is None:
        return "<p>A click on a header would sort these tables, had itables been installed where the page was made.</p>"
    library = b64encode(files("itables").joinpath("html/dt_bundle.js").read_bytes()).decode()
    return f'<script type="module">\nimport DataTable from "data:text/javascript;base64,{library}";\n{CALL}\n</script>'
