"""Tables of a web page that sort by a click on a header: DataTables, inlined as itables ships it, and its call."""

from base64 import b64encode
from importlib.resources import files
from importlib.util import find_spec

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
