"""A run is read as it was written, what is damaged is refused, and what it rests on is hashed."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from suite.cases.examples import CPU
from suite.results import provenance
from suite.results.columns import COLUMNS
from suite.results.example_runs import benchmark, timed, verification, verified
from suite.results.run import TABLES, folder_for, folder_of, read, red
from suite.shared.files import ROOT, ResultsError

ROWS = timed("batched", 0.1, median_s_visits=(0.1, 0.25)) + timed("null", 0, detail='a, "b"')


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = benchmark(*ROWS, commit="1234567890", sources="1e5", versions={"compiler": "c++ 12"})
    run.write(tmp_path)
    again = read(tmp_path, "bench")
    assert again is not None
    assert vars(again) | {"tables": {}} == vars(run) | {"tables": {}}
    for table in TABLES["bench"]:
        pd.testing.assert_frame_equal(again.tables[table], run.tables[table])
        assert [*again.tables[table]] == [*COLUMNS[table]]
    benchmark(*ROWS[:1]).write(tmp_path)
    assert len(pd.read_csv(tmp_path / "bench.csv")) == 1  # none of the run before
    assert read(tmp_path, "verify") is None


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("bench.json", lambda text: text.replace('"threads"', '"thread"')),
        ("bench.json", lambda text: text[:-3]),
        ("bench.json", lambda text: text[: text.index('"files"')].rstrip().rstrip(",") + "}"),
        ("bench.json", None),
        ("bench.csv", lambda text: text[:-3]),
        ("bench.csv", lambda text: text.replace("\nsmall", "\n<<<<<<< HEAD\nsmall", 1)),
        ("bench.csv", None),
        ("hardware.csv", None),
    ],
)
def test_a_damaged_or_missing_file_is_named(file: str, damage: Callable[[str], str] | None, tmp_path: Path) -> None:
    benchmark(*ROWS).write(tmp_path)
    if damage is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(damage((tmp_path / file).read_text()))
    with pytest.raises(ResultsError, match=rf"{file}: .*nox -s bench"):
        read(tmp_path, "bench")


def test_files_of_two_runs_are_no_run(tmp_path: Path) -> None:
    """As where a command was killed while it wrote."""
    benchmark(*ROWS).write(tmp_path)
    old = (tmp_path / "bench.json").read_text()
    benchmark(*ROWS[:1]).write(tmp_path)
    (tmp_path / "bench.json").write_text(old)
    with pytest.raises(ResultsError, match=r"bench\.csv: "):
        read(tmp_path, "bench")


def test_a_column_that_no_table_has_is_named() -> None:
    with pytest.raises(ValueError, match=r"^bench: expected .*, got speed$"):
        benchmark(ROWS[0] | {"speed": 1})


def test_what_is_not_whole_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert folder_for(tmp_path, CPU, whole=True) == folder_of(tmp_path, CPU)
    folders = {folder_for(tmp_path, CPU, whole=False) for _ in range(3)}
    assert {folder.parent for folder in folders} == {folder_of(tmp_path, CPU) / "raw"}
    assert len(folders) == 3


@pytest.mark.parametrize(
    ("rows", "dtype", "changes", "is_red"),
    [
        ([verified("batched", 2)], "float32", {}, True),
        ([verified("batched", 2)], "tf32", {}, True),
        ([verified("batched", 2)], "float64", {}, False),
        ([verified("naive", 2)], "float32", {}, False),
        ([verified("batched", 0.5)], "float32", {}, False),
        ([verified("batched", 2)], "float32", {"torch": "1.0"}, False),
        ([verified("batched", 2)], "float32", {"sources": "old"}, True),
    ],
)
def test_what_failed_is_red(rows: list[Any], dtype: str, changes: Any, is_red: bool) -> None:
    run = verification(*rows)
    assert red(replace(run, **changes), "batched", dtype) is is_red
    assert not red(None, "batched", dtype)


@pytest.mark.parametrize(
    ("file", "stale"),
    [
        ("impls/naive.py", True),
        ("suite/measure/timing.py", True),
        ("impls/README.md", False),
        ("suite/measure/test_timing.py", False),
        ("suite/measure/cheats/honest.py", False),
    ],
)
def test_a_run_is_stale_once_code_that_decides_it_changed(
    file: str, stale: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("impls", "suite"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    run, edited = benchmark(), tmp_path / file
    text = edited.read_bytes()
    edited.write_bytes(text.replace(b"\n", b"\r\n"))  # as git writes it on Windows
    assert not run.stale
    edited.write_bytes(text + b"\n")
    assert run.stale is stale


def test_what_runs_rest_on_is_there() -> None:
    """A folder that is not would be left out."""
    assert [name for names in provenance.RESTS_ON.values() for name in names if not (ROOT / name).exists()] == []
