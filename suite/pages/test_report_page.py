"""The report in a browser: its tables sort, nothing is refused or fails, and it reads on a phone as on a desk."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from suite import report
from suite.pages.test_report import write_results

if TYPE_CHECKING:
    from playwright.sync_api import Browser

sync_api = pytest.importorskip("playwright.sync_api", reason="Needs playwright, which drives a browser.")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: What a reader can do without zooming: no sideways scrolling of the page, and no text smaller than this, in pixels.
SMALLEST = 11
FIGURES = 'th[style*="right"]'
#: How many of them are sorted: one script makes all sortable.
SORTED = 3
#: Whether a table's column, as the page shows it, rises (sign 1) or falls (sign -1).
ORDERED = """([table, column, sign]) => {
    const figures = [...table.tBodies[0].rows].map(row => Number(row.cells[column].dataset.order));
    const right = (before, after) => before === after || before < after === sign > 0;
    return figures.every((figure, at) => at === 0 || right(figures[at - 1], figure));
}"""
SMALL = """least => [...document.querySelectorAll("main *")].filter(element =>
    [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
    && !element.closest("svg") && element.checkVisibility()
    && parseFloat(getComputedStyle(element).fontSize) < least).map(element => element.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return where a report of made-up results is."""
    folder = tmp_path_factory.mktemp("page") / "results"
    write_results(folder)
    report.write_all(folder)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Return a headless Chromium, the system's or playwright's own."""
    with sync_api.sync_playwright() as playwright:
        executable = next(filter(None, map(shutil.which, BROWSERS)), None) or playwright.chromium.executable_path
        if not Path(executable).exists():
            pytest.skip("Needs Chromium: the system's package, or `playwright install chromium`.")
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.thorough("the report in a browser")
@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_the_report_sorts_and_reads_without_a_complaint(
    browser: "Browser", address: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type != "info" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url[:80]))
    page.goto(address, wait_until="load")

    tables = page.locator(f"table:has({FIGURES})")
    assert tables.count() >= SORTED
    for at in range(SORTED):
        table = tables.nth(at)
        header = table.locator(FIGURES).last
        column = header.evaluate("header => header.cellIndex")
        for sign in (1, -1):
            header.click()
            page.wait_for_function(ORDERED, arg=[table.element_handle(), column, sign])

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(SMALL, SMALLEST) == []
    assert complaints == []
    page.close()
