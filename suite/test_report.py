"""The report is one file that needs nothing else."""

import math
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from suite import report
from suite.candidates.names import PADDED
from suite.cases.examples import TINY
from suite.pages import readme
from suite.pages.bench_tables import ratio_column
from suite.pages.page import Column, NoFigure, Sheet
from suite.pages.webpage import LAST, table
from suite.results.examples import HERE, runs, verified
from suite.results.format import machine
from suite.results.names import TableName
from suite.results.provenance import sources
from suite.results.statistics import Interval
from suite.results.tables import TABLES
from suite.shared.files import ResultsError

#: Name and attributes of each.
Elements = list[tuple[str, dict[str, str]]]


def write_results(results: Path) -> None:
    """Put down the rows of a small benchmark and verification."""
    folder = results / "some-machine"
    rows = [
        row
        for name, seconds in (("row_scaled", 0.2), ("batched", 0.1), ("torch.nn.LSTM", 0.05))
        for row in runs(name, seconds)
    ]
    rows += [row | {"workload": "medium"} for row in rows]
    TABLES[TableName.BENCH].replace(
        folder, rows + runs("batched", 0.12, layer_norm=True) + runs("labml", 0.4, layer_norm=True)
    )
    rates = {"multiply_adds_per_s": 7e10, "bytes_per_s": 5e10}
    TABLES[TableName.HARDWARE].replace(
        folder, [{"dtype": "float32", "side": 2048, "product": "torch.mm"} | rates | HERE]
    )
    TABLES[TableName.VERIFY].replace(folder, [verified("row_scaled", 0.3), verified("batched", 0.4)])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return results with every page and plot made of their rows."""
    folder = tmp_path_factory.mktemp("report") / "results"
    write_results(folder)
    report.write_all(folder)
    return folder


@pytest.fixture(scope="module")
def elements(results: Path) -> Elements:
    """Return the names of the report's elements and their attributes; an error if a tag is not closed."""
    every = ElementTree.fromstring((results / "report.html").read_text(encoding="utf-8")).iter()
    return [(e.tag.split("}")[-1], {key.split("}")[-1]: value for key, value in e.items()}) for e in every]


def values(elements: Elements, name: str) -> list[str]:
    return [attributes[name] for _, attributes in elements if name in attributes]


def test_links_of_the_report_lead_somewhere(results: Path, elements: Elements) -> None:
    ids, links = values(elements, "id"), values(elements, "href")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link[0] == "#"} <= set(ids)
    files = [link for link in links if link[0] != "#"]
    assert {path.relative_to(results).as_posix() for path in results.glob("*/*.csv")} <= set(files)
    assert [file for file in files if not (results / file).exists()] == []


def test_the_report_loads_nothing(results: Path, elements: Elements) -> None:
    tags = [tag for tag, _ in elements]
    assert not {"link", "iframe"} & set(tags)
    assert tags.count("script") == 1
    assert [source for source in values(elements, "src") if not source.startswith("data:image/")] == []
    assert [name for _, attributes in elements for name in attributes if name.startswith("on")] == []
    text = (results / "report.html").read_text(encoding="utf-8")
    assert not any(loads in text for loads in ("@import", "url("))


def test_the_report_shows_every_page_and_plot(results: Path, elements: Elements) -> None:
    pages = list(results.glob("*/*.md"))
    assert pages
    assert {f"{page.parent.name}-{page.stem}" for page in pages} <= set(values(elements, "id"))
    texts = [page.read_text() for page in (results / "README.md", *pages)]
    tags = [tag for tag, _ in elements]
    assert tags.count("table") == sum(len(re.findall(r"^\| -", text, re.MULTILINE)) for text in texts)
    captions = values(elements, "alt")
    assert tags.count("img") == len(captions) >= sum(text.count("![") for text in texts)
    benches = sum(page.stem == "bench" for page in pages)
    assert (
        sum(caption.startswith("Time as a multiple of that of torch.nn.LSTM: lines") for caption in captions) == benches
    )


def test_a_cell_of_figures_is_sorted_by_its_number_and_one_without_comes_last() -> None:
    """The library sorts a column by its words if a value is infinite."""
    name, ratio = Column("name"), ratio_column("time / LSTM")
    values = [Interval(12.5, 1, 20), Interval(9.25, 1, 20), NoFigure("time-out"), None]
    elements = ElementTree.fromstring(table(Sheet([name, ratio], [{name: "9", ratio: value} for value in values])))
    cells = [(cell.text, cell.get("data-order")) for cell in elements.iter("td")]
    assert cells[::2] == [("9", None)] * 4
    assert [text for text, _ in cells[1::2]] == ["12.5 (1.00-20.0)", "9.25 (1.00-20.0)", "time-out", "-"]
    orders = [float(order or "nan") for _, order in cells[1::2]]
    assert orders == [12.5, 9.25, LAST, LAST]
    assert math.isfinite(LAST)


def test_pages_show_the_plots_that_are_files(results: Path) -> None:
    """Other plots are in the report alone, as their files are large."""
    plots = {plot.relative_to(results).as_posix() for plot in results.glob("*/*.svg")}
    shown = [
        (page.parent.name, name)
        for page in results.glob("*/*.md")
        for name in re.findall(r"\]\((.*svg)\)", page.read_text())
    ]
    assert plots == {f"{folder}/{name}" for folder, name in shown} == {"some-machine/training-medium.svg"}


def now(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of the benchmark as this code makes them."""
    return [row | {"sources": sources(TableName.BENCH, row)} for row in rows]


def test_machines_with_current_benchmarks_come_first(tmp_path: Path) -> None:
    for name, stale, device, date in (
        ("a-stale", True, "cuda", "2026-01-01"),
        ("b-current", False, "cpu", "2026-01-01"),
        ("c-current", False, "cuda", "2026-01-01"),
        ("d-stale", True, "cpu", "2026-01-02"),
        ("f-stale", True, "cpu", "2026-01-10"),
    ):
        rows = now(runs("batched", 0.1, device=device, date=date))
        rows[-1] |= {"sources": "others"} if stale else {}
        TABLES[TableName.BENCH].replace(tmp_path / name, rows)
    TABLES[TableName.VERIFY].replace(tmp_path / "e-verified", [verified("batched", 0.4)])
    (tmp_path / "no-results").mkdir()
    order = [folder.name[0] for folder in report.machines(tmp_path)]
    assert "".join(order) == "cbafde"
    report.write_all(tmp_path)
    assert {page.parent.name[0] for page in tmp_path.glob("*/*.md")} == {"b", "c", "e"}
    assert re.findall(r"\*\*stale\*\*: \[bench\]\((\w)", (tmp_path / "README.md").read_text()) == [*"afd"]


def test_all_machines_are_in_one_table(tmp_path: Path) -> None:
    write_results(tmp_path)
    another = [row | {"processor": "AMD EPYC Processor (AVX512-BF16)", "threads": 2} for row in runs("batched", 0.02)]
    TABLES[TableName.BENCH].replace(tmp_path / "another", [row | {"date": "2026-01-02"} for row in another])
    report.write_machine(tmp_path / "another")
    report.write_all(tmp_path)
    text = (tmp_path / "README.md").read_text()
    (cells,) = re.findall(r"\| small, T 3, B 2, float32 \| (.*) \|\n", text)
    assert sorted(cells.split(" | ")) == ["0.40 (0.40-0.40) batched", "2.00 (1.98-2.02) batched"]
    assert "| two cores of an AMD EPYC (AVX512-BF16), 2026-01-02 |" in text
    assert "- two cores of an AMD EPYC (AVX512-BF16), 2026-01-02, **stale**: [bench](another/bench.md)\n" in text
    assert re.search(r": \[bench\]\(some-machine/bench.md\), \[verify\]\(some-machine/verify.md\)\n", text)
    before, path = text, TABLES[TableName.BENCH].path(tmp_path / "another")
    path.write_text(path.read_text().replace("ratio", "quotient", 1))
    with pytest.raises(ResultsError, match=r"another/bench.csv, expected columns .*, got quotient"):
        report.write_all(tmp_path)
    assert (tmp_path / "README.md").read_text() == before


def test_the_index_has_the_ratio_to_the_padded_batch_where_that_is_faster(tmp_path: Path) -> None:
    rows = [*runs("batched_cpu", 0.02), *runs(PADDED, 0.025), *runs("torch.nn.LSTM", 0.05)]
    TABLES[TableName.BENCH].replace(
        tmp_path / "some-machine", now([row | {"workload": "medium-ragged"} for row in rows])
    )
    report.write_all(tmp_path)
    lines = re.findall(r"\| medium-ragged, T 3, B 2, float32(.*) \|\n", (tmp_path / "README.md").read_text())
    assert lines == [" | 0.40 (0.40-0.40) batched_cpu", ", / padded | 0.80 batched_cpu"]
    index = (tmp_path / "report.html").read_text().partition("<section")[0]
    assert [float(order) for order in re.findall(r'data-order="(\S+)"', index)] == pytest.approx([0.4, 0.8])


def test_machines_of_one_name_and_day_have_columns_of_their_own(tmp_path: Path) -> None:
    for name, seconds in (("one", 0.05), ("three", 0.2), ("two", 0.1)):
        TABLES[TableName.BENCH].replace(tmp_path / name, now(runs("batched", seconds)))
    report.write_all(tmp_path)
    text = (tmp_path / "README.md").read_text()
    label = f"{machine(pd.Series(HERE))}, {HERE['date']}"
    further = f"{label}, {HERE['cpu_capability']}"
    assert f"| workload | {label} | {further} | {further}, two |\n" in text
    assert "1.00 (0.99-1.01) batched | 4.00 (3.96-4.04) batched | 2.00 (1.98-2.02) batched |\n" in text


def test_the_readme_of_the_project_shows_its_own_results_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "README.md"
    names = ("figure", "implementations", "gpu")
    file.write_text(before := "".join(f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in names))
    monkeypatch.setattr(readme, "README", file)
    write_results(results := tmp_path / "results")
    assert file not in report.write_all(results)
    assert file.read_text() == before
    monkeypatch.setattr(report, "RESULTS", results)
    assert file in report.write_all(results)
    assert "(results/some-machine/training-medium.svg)" in file.read_text()


def test_a_page_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, replace = tmp_path / "README.md", Path.replace
    TABLES[TableName.BENCH].replace(tmp_path / "some-machine", runs("batched", 0.1))
    report.write_all(tmp_path)
    before = file.read_text()

    def full(self: Path, target: Path) -> Path:
        if target == file:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    TABLES[TableName.BENCH].replace(tmp_path / "some-machine", runs("deferred", 0.01))
    with pytest.raises(ResultsError, match=r"README\.md cannot be written: No space left on device"):
        report.write_all(tmp_path)
    assert file.read_text() == before


def test_a_folder_of_results_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"/none: expected a folder of results, but there is none\.$"):
        report.main(["--results", str(tmp_path / "none")])
    assert not list(tmp_path.iterdir())


def test_sizes_that_were_named_are_in_the_report_alone(tmp_path: Path) -> None:
    write_results(tmp_path)
    for folder in ("some-machine", "another"):
        at_sizes = TINY.columns | {"workload": "H64"}
        rows = [row | at_sizes for name in ("batched", "torch.nn.LSTM") for row in runs(name, 0.1)]
        TABLES[TableName.SIZES].replace(tmp_path / folder, rows)
    report.write_all(tmp_path)
    text, page = ((tmp_path / name).read_text() for name in ("README.md", "report.html"))
    assert "sizes" not in text
    assert "another" not in text
    for folder in ("some-machine", "another"):
        assert (tmp_path / folder / "sizes.md").exists()
        assert f'<a href="#{folder}-sizes">' in page
        assert f'<section id="{folder}-sizes">' in page


def test_a_damaged_file_ends_a_report_before_it_writes(tmp_path: Path) -> None:
    write_results(tmp_path)
    shutil.copytree(tmp_path / "some-machine", tmp_path / "another")
    path = TABLES[TableName.VERIFY].path(tmp_path / "some-machine")
    path.write_text(path.read_text()[:-3])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ResultsError, match=r"some-machine/verify.csv, line 3: expected a whole row") as error:
        report.main(["--results", str(tmp_path)])
    assert error.value.code != 0
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_run_writes_its_own_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path)
    another = tmp_path / "another"
    shutil.copytree(tmp_path / "some-machine", another)
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    files = [page.file for page in report.write_machine(another)]
    written = {*files, another / "training-medium.svg"}
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == before | written
    assert {file.parent for file in files} == {another}
    report.main(["--results", str(tmp_path)])
    lines = [line.removeprefix("Wrote ") for line in capsys.readouterr().out.splitlines()]
    assert {Path(line).name for line in lines} >= {"README.md", "report.html", "bench.md", "verify.md"}
    assert all(Path(line).resolve().is_relative_to(tmp_path) for line in lines)
