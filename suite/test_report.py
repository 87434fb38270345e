"""The report is one file that needs nothing else, and every plot of the committed results can be drawn."""

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from . import report
from .answers import fastest, verdict
from .bench_plots import ratios, roofline
from .pages import PAGES
from .results import RESULTS, read

VOID = {"meta", "br", "hr", "img", "link"}


class Balance(HTMLParser):
    """Collects tags, and raises ValueError at one that closes what is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Note an opened tag."""
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """Hold a closed tag against the one opened last."""
        if self.open.pop() != tag:
            raise ValueError(f"</{tag}>: expected the end of what was opened last")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the committed results with every page and plot made again."""
    folder = tmp_path_factory.mktemp("report") / "results"
    shutil.copytree(RESULTS, folder, ignore=shutil.ignore_patterns("raw", "*.md", "*.svg", "*.html"))
    report.write_tables(folder)
    return folder


def parsed(results: Path) -> Balance:
    balance = Balance()
    balance.feed((results / "report.html").read_text(encoding="utf-8"))
    return balance


def test_the_report_is_well_formed_and_its_ids_are_unique(results: Path) -> None:
    page = parsed(results)
    assert page.open == []
    ids = Counter(value for name, value in page.attributes if name == "id")
    assert [name for name, count in ids.items() if count > 1] == []
    wanted = {value[1:] for name, value in page.attributes if name in ("href", "xlink:href") and value[:1] == "#"}
    assert wanted <= set(ids)


def test_the_report_loads_nothing_and_runs_nothing(results: Path) -> None:
    page = parsed(results)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert [value for name, value in page.attributes if name == "src" or name.startswith("on")] == []
    assert "@import" not in (results / "report.html").read_text(encoding="utf-8")


def test_links_of_the_report_lead_to_files_that_are_there(results: Path) -> None:
    links = [value for name, value in parsed(results).attributes if name == "href" and value[:1] != "#"]
    assert links
    assert [link for link in links if not (results / link).exists()] == []


def test_the_report_shows_every_page_with_its_tables_and_plots(results: Path) -> None:
    page, (folder,) = parsed(results), report.machines(results)
    made = [each for each in PAGES if (folder / f"{each.name}.md").exists()]
    assert {each.name for each in made} >= {"bench", "verify"}
    ids = {value for name, value in page.attributes if name == "id"}
    assert {f"{folder.name}-{each.name}" for each in made} <= ids
    tables = sum(len(re.findall(r"^\| ---", (folder / f"{e.name}.md").read_text(), re.MULTILINE)) for e in made)
    assert page.tags["table"] == tables + 1  # the answer's own
    assert page.tags["svg"] >= len(list(folder.glob("*.svg")))


def test_every_plot_is_svg_without_a_ground_of_its_own(results: Path) -> None:
    plots = list(results.glob("*/*.svg"))
    assert "speed" in {plot.stem for plot in plots}
    for plot in plots:
        text = plot.read_text(encoding="utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "#ffffff" not in text, plot.name
        assert "#000000" not in text, plot.name


def test_the_answer_comes_first(results: Path) -> None:
    readme = (results / "README.md").read_text(encoding="utf-8")
    assert readme.index("trains fastest on") < readme.index("Verification is") < readme.index("| workload |")


def test_the_answer_names_the_fastest_and_its_range() -> None:
    summary = pd.DataFrame(
        {
            "fastest": ["b", "b", "a"],
            "/ nn.LSTM": ["1.50", "2.00", "3.00"],
            "/ row_scaled": ["0.50", "0.40", "0.30"],
            "/ labml": ["-", "-", "-"],
            "MB / nn.LSTM": ["1.20", "0.90", "1.00"],
        }
    )
    assert fastest(summary).startswith(
        "**`b` trains fastest on 2 of 3 workloads**, in 1.50 to 2.00 times the time of `torch.nn.LSTM`, "
        "0.40 to 0.50 times the time of `row_scaled` and 0.90 to 1.20 times the memory of `torch.nn.LSTM`."
    )


def test_a_failure_turns_the_verdict_red() -> None:
    lines = {"implementation": ["a", "b"], "dtype": ["float32"] * 2, "cases": ["3", "4"], "worst": ["0.20", "1.50"]}
    table = pd.DataFrame(lines | {"verdict": ["pass", "1 FAILED"]})
    assert verdict(table) == "**Verification is red**: b in float32."
    assert verdict(table[:1]).startswith("Verification is green: 1 implementations")


def test_ratios_are_to_the_lstm_of_the_same_pass_and_sizes() -> None:
    for path in RESULTS.glob("*/bench.csv"):
        rows = ratios(read(path))
        lstm = rows[rows["implementation"] == "torch.nn.LSTM"]
        assert len(lstm)
        assert (lstm["ratio"] == 1).all()


def test_a_roofline_is_drawn_only_where_ceilings_were_measured() -> None:
    row = {"implementation": "batched", "status": "ok", "pass": "train", "multiply_adds": 2e9, "median_s": 0.1}
    assert roofline(pd.DataFrame([row])) is None
    assert roofline(pd.DataFrame([row | {"least_bytes": 1e7, "share": 0.4, "bound": "compute"}])) is not None
