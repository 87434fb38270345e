"""The report has every page and plot, the index every machine, and README.md what one machine shows."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from suite import report
from suite.candidates.names import BASELINE, PADDED
from suite.pages import readme
from suite.results.example_runs import at, benchmark, timed, verification, verified
from suite.results.outcomes import Verdict
from suite.results.status import Status
from suite.shared.files import RESULTS, ROOT, ResultsError

AGAIN = "nox -s report writes it again"
OURS = [*timed("batched_cpu", 0.1), *timed("deferred", 0.2), *timed(BASELINE, 0.05)]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    medium = at("medium", OURS)
    benchmark(*medium, date="2026-01-01").write(tmp_path / "a")
    verification(verified("batched_cpu")).write(tmp_path / "a")
    benchmark(*OURS, date="2026-01-02", processor="AMD EPYC (Zen 4)", sources="old").write(tmp_path / "b")
    packed = at("medium-ragged", [*timed("batched_cpu", 0.02), *timed(PADDED, 0.025), *timed(BASELINE, 0.05)])
    benchmark(*packed, date="2026-01-03", processor="AMD EPYC (Zen 4)").write(tmp_path / "c")
    return tmp_path


def test_the_index_has_every_machine_and_a_table_of_those_with_the_same_code(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.main(["--results", str(results)])
    index = (results / "README.md").read_text()
    assert re.findall(r"\]\((\w)/bench\.md\)", index) == ["a", "c", "b"]
    assert re.findall(r"^- .*, other code: \[bench\]\((\w)/", index, re.MULTILINE) == ["b"]
    assert "| medium-ragged, T 3, B 2, float32 | - | 0.40 (0.40-0.40) batched_cpu |" in index
    assert "| medium-ragged, T 3, B 2, float32, / padded | - | 0.80 batched_cpu |" in index
    assert re.findall(r"^(\w): bench stale", capsys.readouterr().out, re.MULTILINE) == ["b"]


def test_the_report_has_every_page_and_plot_and_its_links_lead_somewhere(results: Path) -> None:
    report.write_all(results)
    html = (results / "report.html").read_text()
    sections = re.findall(r'<section id="([^"]+)">', html)
    assert sections == ["a-bench", "a-verify", "c-bench", "b-bench"]
    assert {*re.findall(r'href="#([^"]+)"', html)} == {*sections}
    assert html.count("data:image/svg+xml;base64,") == 4  # a speed plot each, and that of the workload medium
    files = {*re.findall(r'(?:src|href)="(?!#|data:|https:)([^"]+)"', html)}
    assert {"a/bench.csv", "a/verify.json"} <= files
    assert all((results / file).exists() for file in files)
    assert "<td" in html
    assert "| --- |" not in html


def test_the_readme_shows_the_machine_that_is_named() -> None:
    text = readme.updated(report.runs(RESULTS / readme.MACHINE)["bench"], RESULTS / readme.MACHINE)
    assert text == readme.README.read_text(), AGAIN
    assert (RESULTS / readme.MACHINE / "bench.md").exists()


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT) for path in RESULTS.glob("*/*.md")), ids=str)
def test_the_pages_are_those_of_the_files(page: Path) -> None:
    assert (ROOT / page).read_text() == report.PAGES[page.stem](report.runs(ROOT / page.parent)[page.stem]), AGAIN


def test_a_folder_of_results_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="none:"):
        report.write_all(tmp_path / "none")


def test_a_damaged_file_ends_a_report_before_it_writes(results: Path) -> None:
    (results / "b" / "bench.json").write_text("{")
    with pytest.raises(ResultsError, match=r"bench\.json"):
        report.write_all(results)
    assert [*results.rglob("*.md")] == []


#: As a default run on a slow machine leaves it.
SLOW = timed("naive", 5, visits=1, ratio_low=None, ratio_high=None)


@pytest.mark.parametrize(
    ("where", "damage", "problems"),
    [
        ("bench", {}, []),
        ("bench", {"commit": "d"}, ["bench: .*'d'", "bench .*verify"]),  # which are of two commits
        ("bench", {"dirty": True}, ["bench: "]),
        ("bench", {"sources": "old"}, ["bench: "]),
        ("bench", {"processor": "/home/me/cpu"}, [r"bench: .*bench\.json, got '/home/me/cpu'"]),
        ("bench", {"processor": "cpu of host-7"}, [r"bench: .*bench\.json, got 'host-7'"]),
        ("rows", {"visits": 2}, ["bench: 1 "]),
        ("rows", {"status": Status.FAILED}, ["bench: 2 "]),
        ("rows", {"busy": 0.4}, ["bench: "]),
        ("rows", {"share": 1.3}, ["bench: 2 "]),
        ("verify", {"ratio": 2}, ["verify: 1 "]),
        ("faults", {"verdict": Verdict.SURVIVED}, ["verify: 1 "]),
        ("capabilities", {"outcome": Verdict.FAIL}, ["verify: 1 "]),
    ],
)
def test_a_folder_is_taken_unless_something_is_wrong(
    where: str,
    damage: dict[str, Any],
    problems: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda words, **options: run(["test", words[-2], "=", "c"], **options))
    monkeypatch.setattr("platform.node", lambda: "host-7.example.org")
    changes = {where: damage}
    tables = {table: [changes[table]] if table in changes else [] for table in ("faults", "capabilities")}
    verification(verified(**changes.get("verify", {})), commit="c", **tables).write(tmp_path)
    rows = [*timed("batched_cpu", 0.1, **changes.get("rows", {})), *OURS[2:], *SLOW]
    benchmark(*rows, **changes.get("bench", {})).write(tmp_path)
    assert report.main(["--check", str(tmp_path)]) == bool(problems)
    printed = capsys.readouterr().out.splitlines()
    folder, few = str(tmp_path), "2 "  # rows of naive have few visits
    assert len(printed) == len(problems or (folder, few))
    for line, beginning in zip(printed, problems or (folder, few), strict=True):
        assert re.match(beginning, line)
