"""A folder of results is taken if nothing is wrong with it, and every damage is named in a sentence."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from suite import handed_in, handed_in_hashes, report
from suite.candidates.names import BASELINE
from suite.results import provenance
from suite.results.examples import HERE, runs, verified
from suite.results.names import TableName
from suite.results.outcomes import CapabilityOutcome, FaultOutcome
from suite.results.statistics import FEWEST
from suite.results.status import Status
from suite.results.tables import TABLES

#: Changes the text of bench.csv or verify.csv.
Edit = Callable[[str], str]
COMMIT = "0123456789"


def at_a_commit(commit: str, tables: handed_in.Tables) -> dict[str, pd.Series]:
    """Stand for the code of a commit, which is this code."""
    if commit != COMMIT:
        raise LookupError(f"commit {commit} is not in the history of this checkout")
    hashes = {}
    for name, rows in tables.items():
        of_rows = [provenance.sources(TableName(name), row) for row in rows.to_dict("records")]
        hashes[name] = pd.Series(of_rows, rows.index, dtype=object)
    return hashes


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with nothing wrong, as a machine with another name checks it."""
    monkeypatch.setattr("platform.node", lambda: "Zaphod.example.org")
    monkeypatch.setattr(handed_in, "sources_at", at_a_commit)
    # A cache may move bytes faster than memory, three visits are enough, and what cannot run has no figure.
    rows = [*runs("batched", 0.1), *runs("deferred", 0.1, visits=FEWEST), *runs("batched", 0.1, dtype="tf32")]
    rows += [*runs(BASELINE, 0.1, bound="memory", share=1.5), *runs("batched_cuda", 0, status=Status.NOT_RUN)]
    rows = [row | {"commit": COMMIT, "sources": provenance.sources(TableName.BENCH, row)} for row in rows]
    TABLES[TableName.BENCH].replace(tmp_path, rows)
    compared = [
        verified(name, 0.5, dtype=dtype) for name in ("batched", "deferred") for dtype in ("float64", "float32")
    ]
    TABLES[TableName.VERIFY].replace(tmp_path, [row | {"commit": COMMIT} for row in compared])
    planted = HERE | {"edit": "a slip", "kind": "step", "implementation": "batched", "dtype": "float32"}
    planted |= {"verdict": FaultOutcome.REJECTED, "commit": COMMIT}
    TABLES[TableName.FAULTS].replace(tmp_path, [planted | {"sources": provenance.sources(TableName.FAULTS, planted)}])
    able = HERE | {"capability": "threads", "implementation": "batched", "outcome": CapabilityOutcome.PASS}
    able |= {"commit": COMMIT}
    TABLES[TableName.CAPABILITIES].replace(
        tmp_path, [able | {"sources": provenance.sources(TableName.CAPABILITIES, able)}]
    )
    rates = {"dtype": "float32", "side": 2048, "product": "torch.mm", "multiply_adds_per_s": 7e10, "bytes_per_s": 5e10}
    rates |= HERE | {"commit": COMMIT, "sources": provenance.sources(TableName.HARDWARE, {})}
    TABLES[TableName.HARDWARE].replace(tmp_path, [rates])
    return tmp_path


def once(old: str, new: str) -> Edit:
    """Replace the first of several equal texts."""
    return lambda text: text.replace(old, new, 1)


def in_row(number: int, old: str, new: str) -> Edit:
    """Replace a text in a row, counted from 1."""

    def edit(text: str) -> str:
        lines = text.splitlines(keepends=True)
        assert old in lines[number]
        lines[number] = lines[number].replace(old, new, 1)
        return "".join(lines)

    return edit


#: By what is wrong: the file, how it got wrong, and the sentence.
DAMAGED: dict[str, tuple[str, Edit, str]] = {
    "a column of another format": (
        "bench",
        once("ratio_low", "low"),
        r"expected columns that tables.toml lists, got low",
    ),
    "paths": (
        "verify",
        lambda text: text.replace(",out,", ",/home/me/out,"),
        r"verify.csv, line 2, tensor: .* got '/home/me/out'",
    ),
    "the name of the host": (
        "bench",
        in_row(3, HERE["python"], "zaphod"),
        r"line 4, python: expected no path .*, got 'zaphod'",
    ),
    "a user": ("bench", in_row(2, HERE["python"], "me@zaphod"), r"line 3, python: .*, got 'me@zaphod'"),
    "changes that no commit has": (
        "bench",
        in_row(1, f"{COMMIT},False", f"{COMMIT},True"),
        "bench.csv: 1 of 10 rows were made by code with changes that no commit has, the first is of small batched",
    ),
    "a commit of elsewhere": (
        "verify",
        in_row(2, COMMIT, "abcdef0123"),
        "verify.csv: commit abcdef0123 is not in the history",
    ),
    "sources of other code": (
        "bench",
        lambda text: re.sub(rf"{COMMIT},False,[0-9a-f]+", f"{COMMIT},False,feedfeedfeed", text, count=1),
        "bench.csv: 1 of 10 rows name other sources than commit 0123456789 has, the first is of small batched float32",
    ),
    "a comparison that failed": (
        "verify",
        in_row(1, "pass", "FAIL"),
        "verify.csv: 1 rows of 4 failed, the first is of batched float64 multiplied by float32",
    ),
    "a fault that survived": (
        "faults",
        once("rejected", "SURVIVED"),
        "faults.csv: 1 rows of 1 failed, the first is of batched float32 a slip",
    ),
    "a capability that failed": (
        "capabilities",
        in_row(1, ",pass,", ",FAIL,"),
        "capabilities.csv: 1 rows of 1 failed, the first is of batched threads",
    ),
    "no comparison of what was timed": (
        "verify",
        lambda text: "".join(line for line in text.splitlines(keepends=True) if "deferred,float32" not in line),
        "verify.csv: expected comparisons of deferred in float32, which was timed, but there are none",
    ),
    "two visits": (
        "bench",
        in_row(3, ",3.0,", ",2.0,"),
        "bench.csv: 1 rows have fewer than 3 visits, the first is of small ",
    ),
    "no number of visits": (
        "bench",
        in_row(7, ",5.0,", ",,"),
        "bench.csv: 1 rows have fewer than 3 visits, the first is of small ",
    ),
    "a figure that is too good": (
        "bench",
        in_row(1, ",0.25", ",1.26"),
        r"1 rows multiply at up to 1.26 of the rate of this machine's products, more than 1.25, the first is of small",
    ),
}


def test_a_good_folder_is_taken(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in good.iterdir()}
    assert report.main(["--check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good} can be handed in.\n"
    assert {path: path.read_bytes() for path in good.iterdir()} == before


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damage_is_named(damage: str, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, edit, sentence = DAMAGED[damage]
    path = TABLES[TableName(table)].path(good)
    text = path.read_text()
    assert edit(text) != text
    path.write_text(edit(text))
    assert report.main(["--check", str(good)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert re.search(sentence, line)


def test_comparisons_are_of_the_sources_that_were_timed(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verification of an earlier commit counts if the sources are the same."""
    earlier = "fedcba9876"
    path = TABLES[TableName.VERIFY].path(good)
    path.write_text(path.read_text().replace(COMMIT, earlier))

    def at(commit: str, tables: handed_in.Tables) -> dict[str, pd.Series]:
        return at_a_commit(COMMIT, tables)

    monkeypatch.setattr(handed_in, "sources_at", at)
    assert handed_in.problems(good) == []

    def since(commit: str, tables: handed_in.Tables) -> dict[str, pd.Series]:
        hashes = at(commit, tables)
        return hashes | ({"verify": hashes["verify"] + "0"} if commit == COMMIT else {})

    monkeypatch.setattr(handed_in, "sources_at", since)
    assert handed_in.problems(good) == [
        f"verify.csv: {name} in float32 was timed at commit {COMMIT}, and compared with other sources."
        for name in ("batched", "deferred", "batched")  # which was timed in TF32 too
    ]


def test_all_problems_are_named_in_one_run(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TABLES[TableName.VERIFY].path(good).unlink()
    bench = TABLES[TableName.BENCH].path(good)
    bench.write_text(in_row(1, ",0.25", ",1.26")(in_row(7, ",5.0,", ",2.0,")(bench.read_text())))
    (good / "sizes.csv").write_text("what git ignores\n")
    assert report.main(["--check", str(good)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(": |, but", line)[1][:22] for line in lines] == [
        "expected the rows of n",
        "1 rows have fewer than",
        "1 rows multiply at up ",
    ]
    assert len(handed_in.problems(good / "no such folder")) == 2


@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_machine_without_a_name_of_its_own_names_none(host: str, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: host)
    assert handed_in.problems(good) == []


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("bench", {"implementation": "batched", "workload": "no more", "T": 3, "B": 2}),
        ("bench", {"implementation": "no more", "workload": "small", "T": 3, "B": 2}),
        ("verify", {"implementation": "batched", "defined": "no more"}),
        ("no more", {}),
    ],
)
def test_what_a_commit_lacks_has_no_hash(table: str, row: dict[str, Any]) -> None:
    assert handed_in_hashes.hash_of(table, row) is None


@pytest.mark.parametrize("cell", ["/usr/lib/x.so", "see C:\\tmp", "~/out", "root@box", "(/tmp/a b)"])
def test_places_of_a_machine_are_seen(cell: str) -> None:
    assert handed_in.PRIVATE.search(cell)


@pytest.mark.parametrize(
    "cell",
    [
        "time / torch.nn.LSTM",
        "2026-11-30",
        "batched_cuda runs on cuda, not on cpu.",
        "c++ (Debian 14.2.0-19) 14.2.0",
    ],
)
def test_what_rows_say_is_no_place(cell: str) -> None:
    assert not handed_in.PRIVATE.search(cell)


def test_the_code_of_a_commit_says_what_its_rows_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    module = tmp_path / "suite" / "results" / "provenance.py"
    module.parent.mkdir(parents=True)
    (tmp_path / "impls").mkdir()
    (tmp_path / "impls" / "a.py").touch()
    module.write_text("sources = lambda table, row: table + row['implementation']\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    first = git("rev-parse", "--short=10", "HEAD")
    module.write_text("raise ImportError('no more')\n")
    git("commit", "-qam", "second")
    second = git("rev-parse", "HEAD")
    git("checkout", "-q", first)
    monkeypatch.setattr(handed_in, "ROOT", tmp_path)
    rows = pd.DataFrame([{"implementation": "x"}, {"implementation": None}], index=[4, 7])
    hashes = handed_in.sources_at(first, {"bench": rows[:1]})
    assert hashes["bench"].to_dict() == {4: "benchx"}
    with pytest.raises(LookupError, match=rf"commit {second} is not in the history"):
        handed_in.sources_at(second, {"bench": rows[:1]})
    git("checkout", "-q", second)
    with pytest.raises(LookupError, match="cannot say which sources it has: ImportError: no more"):
        handed_in.sources_at(second, {"bench": rows[:1]})
    for no_commit in ("", "nan"):
        with pytest.raises(LookupError, match="expected a commit, got"):
            handed_in.sources_at(no_commit, {})
