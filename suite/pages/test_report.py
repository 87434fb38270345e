"""The report is one file that needs nothing else, of results made up here as of those committed."""

import re
import shutil
from base64 import b64decode
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from impls.registry import IMPLS
from suite import report
from suite.pages import readme
from suite.pages.bench import roofline
from suite.pages.plots import panels, plain
from suite.pages.sheets import Sheet, markdown
from suite.pages.verify import verdict
from suite.pages.webpage import CALL, script
from suite.shared.examples import HERE, made, verified
from suite.shared.format import made_on, three
from suite.shared.provenance import sources
from suite.shared.results import RESULTS
from suite.shared.rows import TABLES, table

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


def made_up(results: Path) -> None:
    """Put down the rows of a small benchmark and verification."""
    folder = results / "some-machine"
    rows = [
        row
        for name, seconds in (("row_scaled", 0.2), ("batched", 0.1), ("torch.nn.LSTM", 0.05))
        for row in made(name, seconds)
    ]
    table("bench").replace(folder, rows + made("batched", 0.12, layer_norm=True) + made("labml", 0.4, layer_norm=True))
    rates = {"multiply_adds_per_s": 7e10, "bytes_per_s": 5e10, "copied_bytes": 1 << 28}
    table("hardware").replace(folder, [{"dtype": "float32", "side": 2048, "product": "torch.mm"} | rates | HERE])
    table("verify").replace(folder, [verified("row_scaled", 0.3), verified("batched", 0.4)])


def committed(results: Path) -> None:
    """Copy the rows of the committed results, whatever machines there are."""
    shutil.copytree(RESULTS, results, ignore=shutil.ignore_patterns("raw", "*.md", "*.svg", "*.html"))


@pytest.fixture(scope="module", params=[made_up, committed], ids=["made-up", "committed"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return results with every page and plot made of their rows."""
    folder = tmp_path_factory.mktemp("report") / "results"
    request.param(folder)
    report.write_tables(folder)
    return folder


def parsed(results: Path) -> Balance:
    balance = Balance()
    balance.feed((results / "report.html").read_text(encoding="utf-8"))
    return balance


def test_the_report_is_well_formed_and_its_ids_are_unique(results: Path) -> None:
    shown = parsed(results)
    assert shown.open == []
    ids = Counter(value for name, value in shown.attributes if name == "id")
    assert [name for name, count in ids.items() if count > 1] == []
    wanted = {value[1:] for name, value in shown.attributes if name in ("href", "xlink:href") and value[:1] == "#"}
    assert wanted <= set(ids)


def test_the_report_loads_nothing_and_runs_one_library_and_its_call(results: Path) -> None:
    pytest.importorskip("itables")
    shown = parsed(results)
    assert not {"link", "img", "iframe"} & set(shown.tags)
    assert shown.tags["script"] == 1
    before, library, call = re.split(r'"data:text/javascript;base64,([A-Za-z0-9+/=]+)"', script())
    assert before == '<script type="module">\nimport DataTable from '
    assert b64decode(library) == files("itables").joinpath("html/dt_bundle.js").read_bytes()
    assert call == f";\n{CALL}\n</script>"
    assert script() in (results / "report.html").read_text(encoding="utf-8")
    assert [value for name, value in shown.attributes if name == "src" or name.startswith("on")] == []
    assert "@import" not in (results / "report.html").read_text(encoding="utf-8")


def test_links_of_the_report_lead_to_files_that_are_there(results: Path) -> None:
    links = [value for name, value in parsed(results).attributes if name == "href" and value[:1] != "#"]
    assert links
    assert [link for link in links if not (results / link).exists()] == []


def test_the_report_shows_every_page_with_its_tables_and_plots(results: Path) -> None:
    shown = parsed(results)
    ids = {value for name, value in shown.attributes if name == "id"}
    tables = 0
    for folder in report.machines(results):
        made = [each.name for each in report.PAGES if (folder / f"{each.name}.md").exists()]
        assert made
        assert {f"{folder.name}-{name}" for name in made} <= ids
        texts = [markdown(report.answers(folder)), *((folder / f"{name}.md").read_text() for name in made)]
        tables += sum(len(re.findall(r"^\| ---", text, re.MULTILINE)) for text in texts)
    assert shown.tags["table"] == tables
    assert shown.tags["svg"] >= len(list(results.glob("*/*.svg")))


def test_every_plot_is_svg_without_a_ground_of_its_own(results: Path) -> None:
    plots = list(results.glob("*/*.svg"))
    assert {plot.parent for plot in plots if plot.stem == "speed"} == {p.parent for p in results.glob("*/bench.md")}
    for plot in plots:
        text = plot.read_text(encoding="utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "#ffffff" not in text, plot.name
        assert "#000000" not in text, plot.name


def test_the_answer_comes_first(results: Path) -> None:
    for folder in report.machines(results):
        text = markdown(report.answers(folder))
        if (folder / "bench.md").exists():
            assert text.index("trains fastest in") < text.index("Verification is") < text.index("| workload |")


def test_machines_whose_benchmark_is_of_these_sources_come_first(tmp_path: Path) -> None:
    for name, of, device in (
        ("a-stale", "others", "cuda"),
        ("b-current", sources("batched"), "cpu"),
        ("c-current", sources("batched"), "cuda"),
        ("d-stale", "others", "cpu"),
    ):
        rows = [row | {"sources": of, "device": device} for row in made("batched", 0.1)]
        table("bench").replace(tmp_path / name, rows)
    (tmp_path / "e-verified").mkdir()
    found = [folder.name[0] for folder in report.machines(tmp_path)]
    assert "".join(found) == "cbade"


def test_the_answer_says_what_is_fastest_and_right(tmp_path: Path) -> None:
    made_up(tmp_path)
    text = markdown(report.answers(tmp_path / "some-machine"))
    assert "`batched` trains fastest in 2 of 2 tables. It takes 2.00 to 2.40 times `torch.nn.LSTM`'s time" in text
    assert "Verification is green: 2 implementations" in text
    assert "the worst error 0.40 of what is allowed" in text


def test_a_failure_turns_the_verdict_red() -> None:
    rows = pd.DataFrame([verified("row_scaled", 0.2), verified("batched", 1.5)])
    assert verdict(rows) == "**Verification is red**: batched in float32."
    assert verdict(rows[:1]).startswith("Verification is green: 1 implementations")


def test_a_table_sorts_by_its_numbers_and_shows_them_in_words() -> None:
    lines: list[dict[str, Any]] = [
        {"name": "a|b", "time": 1234.5, "run": (3, "fine")},
        {"name": "c", "time": "time-out"},
        {"name": "d"},
    ]
    sheet = Sheet([*lines, {"name": "e", "time": float("nan"), "none": None}], {"time": three, "run": str, "none": str})
    assert sheet.columns == ["name", "time", "run"]
    assert [line["time"] for line in sheet.words()] == ["1,234", "time-out", "-", "-"]
    assert "| --- | ---: | ---: |" in sheet.markdown()
    assert re.findall(r'data-order="(.*?)"', sheet.html()) == ["1234.5", "3", *["Infinity"] * 6]


def test_the_readmes_show_the_plot_the_ladder_and_the_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(tmp_path)
    cells = [
        {"capability": name, "implementation": "batched", "outcome": outcome, "reason": "why"} | HERE
        for name, outcome in (("second derivative", "pass"), ("torch.func.jacrev", "no"), ("torch.func.vmap", "pass"))
    ]
    table("capabilities").replace(tmp_path / "some-machine", cells, listed={"capability": []})
    file = tmp_path / "README.md"
    marks = [f"<!-- {name} -->\nold\n<!-- end of {name} -->" for name in readme.READMES]
    file.write_text("before\n" + "\n".join(marks) + "\nafter\n")
    monkeypatch.setattr(readme, "READMES", dict.fromkeys(readme.READMES, file))
    medium = [row | {"workload": "medium"} for row in made("batched", 0.1)]
    table("bench").replace(tmp_path / "some-machine", medium)
    readme.write_readmes(tmp_path)
    text = file.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "some-machine/speed.svg)" in text
    assert re.search(r"\| \[`batched`\].* \| yes \| no \| 2\.00 \(1\.98-2\.02\) \|\n", text)
    marked = re.findall(r"\| \[`(\w+)`\]\(\S+\), \*experimental\* \|", text)
    assert marked == [impl.name for impl in IMPLS if impl.experimental]
    assert "| torch.func.jacrev | no (1) |" in text
    file.write_text("no marks")
    with pytest.raises(ValueError, match="expected <!-- speed --> and <!-- end of speed --> once each"):
        readme.write_readmes(tmp_path)


def test_the_ladder_stands_where_nothing_but_the_benchmark_ran(tmp_path: Path) -> None:
    table("bench").replace(tmp_path / "some-machine", made("batched", 0.1))
    ladder = readme.parts(tmp_path)["ladder"][0]
    assert isinstance(ladder, Sheet)
    assert {line["second derivative"] for line in ladder.words()} == {"not run"}


@pytest.mark.parametrize(("device", "name", "word"), [("cpu", "batched_cuda", "GPU"), ("cuda", "batched_cpu", "CPU")])
def test_the_ladder_says_what_needs_another_device_than_that_of_the_rows(device: str, name: str, word: str) -> None:
    timed = [row | {"workload": "medium", "device": device} for row in made("batched", 0.1)]
    timed += [row | {"workload": "medium", "device": device} for row in made(name, 0, status="not run: elsewhere.")]
    can = [
        {"capability": capability, "implementation": name, "outcome": "not run", "device": device}
        for capability in readme.ASKED.values()
    ]
    ladder = readme.ladder(pd.DataFrame(can), pd.DataFrame(timed))
    lines = {impl.name: line for impl, line in zip(IMPLS, ladder.words(), strict=True)}
    assert [lines[name][column] for column in (*readme.ASKED, readme.TIME)] == [f"needs a {word}"] * 3
    assert lines["deferred"][readme.TIME] == "not run"
    own = pd.DataFrame([row | {"device": "cuda" if device == "cpu" else "cpu"} for row in timed])
    assert readme.time(own, next(impl for impl in IMPLS if impl.name == name)) == "not run"


def test_the_ladder_shows_time_in_a_loop_on_a_gpu() -> None:
    gpu = [row | {"workload": "medium", "device": "cuda"} for row in made("batched", 0.1, loop_s=0.1, loop_ratio=1.25)]
    lines = readme.ladder(pd.DataFrame(), pd.DataFrame(gpu)).words()
    assert [line[readme.TIME] for line in lines if "`batched`" in line["name"]] == ["1.25"]
    assert "in a loop" in readme.how(pd.DataFrame(gpu))
    assert readme.how(pd.DataFrame(gpu).assign(device="cpu")) == "with a 95 % interval"


#: A new table has rows from its first verification on.
FILLED = [name for name in TABLES if any(RESULTS.glob(f"*/{name}.csv"))]


@pytest.mark.parametrize("name", FILLED)
def test_every_page_says_where_its_rows_are_of_other_sources(name: str, tmp_path: Path) -> None:
    folder = next(RESULTS.glob(f"*/{name}.csv")).parent
    page = next(page for page in report.PAGES if page.name == name)
    rows, rests_on = table(name).read(folder), table(name).rests_on
    of = rows["implementation"] if "implementation" in rows else pd.Series(rests_on, rows.index)
    rows = rows.assign(sources=of.map(sources))
    assert "**Stale**" not in markdown(page.content(rows))
    last = rows.index[-1]
    assert "**Stale**: 1 of" in markdown(
        page.content(rows.assign(sources=rows["sources"].where(rows.index != last, "x")))
    )


def test_rows_of_two_commits_are_said_to_be_of_both_in_one_line() -> None:
    here = {"implementation": "batched"} | HERE
    both = made_on(pd.DataFrame([here | {"commit": commit} for commit in ("aaaa", "bbbb", "aaaa")]))
    assert both.endswith(", commit `aaaa` and `bbbb`.")
    assert both.count("Made on") == 1
    assert made_on(pd.DataFrame([here, here | {"threads": 7}])).count("Made on") == 2


def test_rows_of_several_days_are_said_to_be_of_the_first_to_the_last() -> None:
    days = [{"implementation": "batched"} | HERE | {"date": f"2026-{day}"} for day in ("11-30", "12-01", "11-29")]
    assert ", 2026-11-30, torch " in made_on(pd.DataFrame(days[:1]))
    assert ", 2026-11-29 to 2026-12-01, torch " in made_on(pd.DataFrame(days))


def test_a_roofline_is_drawn_only_where_something_was_timed() -> None:
    assert roofline(pd.DataFrame(made("batched", 0))) is None
    assert roofline(pd.DataFrame(made("batched", 0.1))) is not None


@pytest.mark.parametrize(
    ("values", "figures"), [((0.98, 1.24), ["1", "1.1", "1.2"]), ((0.8, 30), ["1", "2", "5", "10", "20"])], ids=str
)
def test_an_axis_has_figures_however_little_it_spans(values: tuple[float, ...], figures: list[str]) -> None:
    figure, (axes,) = panels(1, 1)
    axes.plot(values, values)
    axes.set(xscale="log")
    plain(axes.xaxis, (1, 2, 5))
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    shown = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert [label.get_text() for value, label in shown if low <= value <= high] == figures
