"""Result files are read and written whole, or a sentence says why not."""

import re
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from suite import bench, conftest, report
from suite.shared import machine
from suite.shared.examples import CPU, runs
from suite.shared.machine import slug
from suite.shared.results import ResultsError, read, write_whole
from suite.shared.rows import STAMP, TABLES, VALUES, Table, stamp


def test_a_hash_of_decimal_digits_stays_text(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.csv", "commit,sources,verify_rows\n0411959,12e4567890,0123\n")
    assert read(tmp_path / "a.csv").iloc[0].tolist() == ["0411959", "12e4567890", "0123"]


LETTERS = Table("letters", ("name", "n"), {"name": "A letter.", "n": "A number.", "value": "Another."}, ("name",))


def put(folder: Path, *rows: tuple[str, int, int], letters: str = "abc") -> None:
    dicts = [dict(zip(("name", "n", "value"), row, strict=True)) for row in rows]
    with mock.patch.dict(VALUES, name=list(letters)):
        LETTERS.put(folder, dicts, CPU)


def lying(folder: Path) -> list[list[Any]]:
    """Contents of the file, without the stamp."""
    rows = LETTERS.read(folder)
    return rows[["name", "n", "value"]].to_numpy().tolist() if len(rows) else []


def test_a_partial_run_replaces_only_its_own_rows(tmp_path: Path) -> None:
    put(tmp_path, ("a", 1, 1), ("b", 1, 2))
    put(tmp_path, ("b", 1, 3), ("b", 2, 4))
    assert lying(tmp_path) == [["a", 1, 1], ["b", 1, 3], ["b", 2, 4]]


def test_rows_may_lack_a_key_column(tmp_path: Path) -> None:
    put(tmp_path, ("a", 1, 1))
    with mock.patch.dict(VALUES, name=["a", "b"]):
        LETTERS.put(tmp_path, [{"name": "b", "value": 2}], CPU)
    assert LETTERS.read(tmp_path)[["name", "value"]].to_numpy().tolist() == [["a", 1], ["b", 2]]


def test_rows_of_what_is_no_longer_there_go(tmp_path: Path) -> None:
    put(tmp_path, ("a", 1, 1), ("b", 1, 2))
    put(tmp_path, ("c", 1, 5), letters="bc")
    assert lying(tmp_path) == [["b", 1, 2], ["c", 1, 5]]


def test_a_file_is_sorted_by_its_key(tmp_path: Path) -> None:
    put(tmp_path, ("b", 10, 0))
    put(tmp_path, ("b", 9, 0), ("a", 10, 0), letters="ba")
    assert lying(tmp_path) == [["b", 9, 0], ["b", 10, 0], ["a", 10, 0]]
    TABLES["bench"].replace(tmp_path, [*runs("torch.nn.LSTM", 1), *runs("batched_cpu", 1), *runs("naive", 1)])
    assert list(TABLES["bench"].read(tmp_path)["implementation"][::2]) == ["naive", "batched_cpu", "torch.nn.LSTM"]


def test_undeclared_columns_are_refused_and_stamps_added(tmp_path: Path) -> None:
    put(tmp_path, ("a", 1, 1), ("b", 1, 2))
    rows, stamps = LETTERS.read(tmp_path), stamp(CPU, LETTERS.rests_on)
    assert {column: set(rows[column]) for column in STAMP} == {name: {value} for name, value in stamps.items()}
    for column in ("colour", "commit"):
        with pytest.raises(ValueError, match=rf"letters: expected columns declared in .*{column}"):
            LETTERS.put(tmp_path, [{"name": "a", "n": 1, column: "red"}], CPU)


@pytest.mark.parametrize(
    ("brand", "folder"),
    [
        ("AMD EPYC", "amd-epyc-family-25-model-17-avx2-2-threads"),
        ("Intel(R) Xeon(R) Processor @ 2.70GHz", "intel-xeon-processor-2-70ghz-family-25-model-17-avx2-2-threads"),
        ("AMD EPYC 7763 64-Core Processor", "amd-epyc-7763-64-core-processor-avx2-2-threads"),
    ],
)
def test_folder_has_processor_vector_width_threads(brand: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And family and model where the name has no number."""
    info = {"brand_raw": brand, "family": 25, "model": 17}
    monkeypatch.setattr("cpuinfo.get_cpu_info", lambda: info)
    monkeypatch.setattr(machine, "name", machine.name.__wrapped__)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert slug(CPU) == folder


def test_a_file_is_written_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.md"
    write_whole(path, "old")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for step in ("write_text", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, step, fail)
            with pytest.raises(ResultsError, match=r"table\.md could not be written and is as it was before: No space"):
                write_whole(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def output(*arguments: str) -> str:
    """The sentence that a run of two candidates ends with."""
    command = ["--workload", "small", "--implementation", "batched_cuda", "--device", "cpu", *arguments]
    with pytest.raises(ResultsError) as ended:
        bench.main(command)
    return str(ended.value)


def test_a_file_as_results_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "results"
    file.write_text("mine")
    assert re.search(r"expected a folder to write results to, got: Not a directory", output("--results", str(file)))
    assert file.read_text() == "mine"


def a_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        TABLES["bench"].replace(Path(folder), runs("batched", 0.1))
        return TABLES["bench"].path(Path(folder)).read_bytes()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b"", "line 1: expected the column workload, got nothing"),
        (b'implementation,"\nx', "line 2: unexpected end of data"),
        (b"\xff\xfe\x00", ""),
        (b"implementation\nnaive\n", "line 1: expected the column workload, got implementation, ..."),
        (a_file().replace(b"ratio_low", b"low"), "line 1: expected the column ratio_low, got workload, T, B, I, ..."),
        (a_file()[:-1], "line 3: expected the end of the line, got the end of the file"),
        (a_file()[:-3], r"line 3: expected \d+ fields, got \d+:"),
        (a_file()[:-60], "line 3: unexpected end of data"),
        (a_file().replace(b"\nsmall", b"\nx,small"), r"line 2: expected \d+ fields, got \d+:"),
    ],
)
def test_a_damaged_file_is_a_sentence_and_stays(tmp_path: Path, damage: bytes, reason: str) -> None:
    path = tmp_path / slug(CPU) / "bench.csv"
    path.parent.mkdir()
    path.write_bytes(damage)
    line = output("--results", str(tmp_path))
    assert re.search(f"{re.escape(str(path))}, {reason}", line)
    assert "move it away" in line
    assert path.read_bytes() == damage
    assert list(path.parent.iterdir()) == [path]


def test_checks_on_the_cpu_are_no_gpu_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put: dict[str, tuple[str, Path]] = {}
    written: list[Path] = []

    def note(table: Table, folder: Path, rows: object, device: torch.device) -> None:
        put[table.name] = device.type, folder

    def write(folder: Path) -> list[Path]:
        written.append(folder)
        return []

    monkeypatch.setattr(Table, "put", note)
    monkeypatch.setattr(conftest, "_device", lambda config: torch.device("cuda", 0))
    monkeypatch.setattr(conftest, "folder_of", lambda results, device: results / device.type)
    monkeypatch.setattr(report, "write_machine", write)
    gathered = conftest.Gathered(SimpleNamespace(getoption=lambda name: tmp_path))  # type: ignore[arg-type]
    gathered.rows = {name: [{}] for name in ("verify", "faults")}
    gathered.pytest_sessionfinish()
    assert put == {"verify": ("cuda", tmp_path / "cuda"), "faults": ("cpu", tmp_path / "cpu")}
    assert written == [tmp_path / "cuda", tmp_path / "cpu"]
