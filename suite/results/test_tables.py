"""Tables are read and written whole, or a sentence says why not; no row takes the place of another."""

import math
import re
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from impls import proof
from suite.candidates import submission
from suite.cases.case import Case, Start
from suite.cases.examples import CPU
from suite.cases.spelling import MEDIUM, parse
from suite.cases.verification import MULTIPLIED
from suite.cases.workloads import Pass, Workload
from suite.checks.equality import catalogue
from suite.checks.kernels import interpreted
from suite.results import provenance
from suite.results.examples import HERE, runs, verified
from suite.results.names import TableName
from suite.results.outcomes import CaseOutcome, deciding
from suite.results.status import Status
from suite.results.tables import STAMP, TABLES, Table, about_pass, folder_of, stamp
from suite.shared import machine, process
from suite.shared.arithmetic import Arithmetic
from suite.shared.files import ROOT, ResultsError, write_whole
from suite.shared.machine import slug
from suite.verify import writing

#: A table of few columns, in the place of one of the project.
LETTERS = Table(TableName.HARDWARE, ("kind", "T"), ("kind", "T", "ratio"))
#: A row of it.
Letter = tuple[str, int, float]


@pytest.fixture(autouse=True)
def _letters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(provenance.BASIS, TableName.HARDWARE, provenance.Basis(()))
    provenance._sources.cache_clear()
    yield
    provenance._sources.cache_clear()  # of a table that depends on nothing


def put(folder: Path, *rows: Letter, names: str = "abc") -> list[Letter]:
    """Put rows into the table, and return all of it; names: its letters, in order."""
    LETTERS.put(folder, [dict(zip(LETTERS.columns, row, strict=True)) for row in rows], CPU, {"kind": names})
    return list(LETTERS.read(folder)[[*LETTERS.columns]].itertuples(index=False, name=None))


A, B = ("a", 1, 1.0), ("b", 1, 2.0)


@pytest.mark.parametrize(
    ("first", "second", "letters", "expected"),
    [
        ([A, B], [("b", 1, 3.0), ("b", 2, 4.0)], "abc", [A, ("b", 1, 3.0), ("b", 2, 4.0)]),
        ([A, B], [("c", 1, 5.0)], "bc", [B, ("c", 1, 5.0)]),
        ([("b", 10, 0.0)], [("b", 9, 0.0), ("a", 10, 0.0)], "ba", [("b", 9, 0.0), ("b", 10, 0.0), ("a", 10, 0.0)]),
    ],
    ids=["replaces-its-own", "drops-what-is-gone", "sorts"],
)
def test_rows_of_a_second_run(
    tmp_path: Path, first: list[Letter], second: list[Letter], letters: str, expected: list[Letter]
) -> None:
    put(tmp_path, *first)
    assert put(tmp_path, *second, names=letters) == expected


def test_rows_of_a_file_outside_the_project_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is that of an implementation, and of nothing else."""
    monkeypatch.setenv(submission.VARIABLE, submission.written([Path("elsewhere/mine.py")]))
    table = Table(TableName.HARDWARE, ("implementation", "kind"), ("implementation", "kind", "ratio"))
    values = {"implementation": ["a"], "kind": ["b"]}
    before = [("mine", "b"), ("other", "b"), ("a", "mine")]
    for keys in (before, [("a", "b")]):
        rows = [HERE | dict(zip(table.key, key, strict=True)) | {"ratio": 1.0} for key in keys]
        table.replace(tmp_path, rows, values)
    assert sorted(table.read(tmp_path)[[*table.key]].itertuples(index=False, name=None)) == [("a", "b"), ("mine", "b")]


def test_every_column_has_one_type() -> None:
    declared = tomllib.loads((ROOT / "suite/results/tables.toml").read_text(encoding="utf-8"))
    types = [column for of_type in ("texts", "numbers", "of_visits", "flags") for column in declared[of_type]]
    types += [field.name for field in fields(Case)]
    assert sorted(types) == sorted({*STAMP, *(column for table in TABLES.values() for column in table.columns)})


def test_every_table_is_declared_and_depends_on_something() -> None:
    assert {*TABLES} == {*TableName} == {*provenance.BASIS}


def test_rows_that_did_not_run_may_lack_a_column_of_the_key(tmp_path: Path) -> None:
    put(tmp_path, A)
    for T in (2, 3):
        LETTERS.put(tmp_path, [{"T": T, "ratio": 2}], CPU, {"kind": "bc"})
    assert LETTERS.read(tmp_path)[["kind", "T"]].to_numpy().tolist() == [["", 2], ["", 3]]


def keyed(table: TableName, value: str) -> dict[str, Any]:
    """Key of a row with a value in every column, or one of two that a column of flags or of words has."""
    first = value == "1"
    flags = dict.fromkeys(("layer_norm", "strided", "training"), first)
    words = {
        "dtype": Arithmetic.FLOAT32 if first else Arithmetic.TF32,
        "pass": Pass.TRAIN if first else Pass.FORWARD,
        "state": Start.STACKED if first else Start.NONE,
    }
    allowed: dict[str, Any] = {**flags, **words, "lengths": (int(value), 1)}
    return {column: allowed.get(column, value) for column in TABLES[table].key}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_a_key_of_its_own(tmp_path: Path, name: TableName) -> None:
    """Else one that replaces, or is dropped as a duplicate, takes others with it."""
    table = TABLES[name]
    rows = [keyed(name, "1") | {column: other} for column, other in keyed(name, "2").items()]
    table.replace(tmp_path, [HERE | row for row in rows])
    assert len(table.read(tmp_path)) == len(rows)
    with pytest.raises(ValueError, match=rf"{name}: expected one row of each key, got two of "):
        table.replace(tmp_path, [HERE | row for row in (*rows, rows[0])])
    assert len(table.read(tmp_path)) == len(rows)


def test_undeclared_columns_are_refused_and_stamps_added(tmp_path: Path) -> None:
    put(tmp_path, A, B)
    rows, stamps = LETTERS.read(tmp_path), stamp(CPU, TableName.HARDWARE, {})
    assert {column: set(rows[column]) for column in stamps} == {name: {value} for name, value in stamps.items()}
    assert (rows[list(set(STAMP) - set(stamps))] == "").all(axis=None), "versions of what these rows did not use"
    with pytest.raises(ValueError, match=r"hardware: expected columns that tables.toml lists, got colour"):
        LETTERS.put(tmp_path, [{"kind": "a", "T": 1, "colour": "red"}], CPU, {"kind": "abc"})


@pytest.mark.parametrize("name", ["null", "nan", "NA", "None"])
def test_a_file_may_have_a_name_that_pandas_takes_for_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    path.write_text(pd.DataFrame(runs(name, 0.1)).to_csv(index=False))
    assert set(TABLES[TableName.BENCH].read(path)["implementation"]) == {name}


def test_a_hash_of_decimal_digits_stays_text(tmp_path: Path) -> None:
    hashes = {"commit": "0411959", "sources": "12e4567890"}
    LETTERS.replace(tmp_path, [HERE | {"kind": "a", "T": 1} | hashes])
    assert LETTERS.read(tmp_path)[list(hashes)].iloc[0].to_dict() == hashes


@pytest.mark.parametrize(
    ("brand", "flags", "folder"),
    [
        ("Intel(R) Xeon(R) @ 2.70GHz", "avx512_bf16 amx_bf16", "intel-xeon-amx-avx512-bf16-avx2-2-threads"),
        ("Neoverse-V2", "asimd bf16", "neoverse-v2-bf16-avx2-2-threads"),
    ],
)
def test_folder_has_processor_instructions_and_threads(
    brand: str, flags: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model's number is masked in virtual machines, and the name may have none."""
    info = {"brand_raw": brand, "flags": flags.split(), "family": 25, "model": 17}
    monkeypatch.setattr("cpuinfo.get_cpu_info", lambda: info)
    monkeypatch.setattr(machine, "name", machine.name.__wrapped__)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert slug(CPU) == folder


def test_a_processor_without_a_name_has_that_of_its_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """In some virtual machines of ARM, which have no flags either."""
    monkeypatch.setattr("cpuinfo.get_cpu_info", dict)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert machine.name.__wrapped__(CPU) == "aarch64"


@pytest.mark.parametrize("step", ["write_text", "replace"])
def test_a_file_is_written_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    write_whole(path := tmp_path / "table.md", "old")
    monkeypatch.setattr(Path, step, fail)
    sentence = rf"^{re.escape(str(path))} cannot be written: No space left on device\. What stood there is unchanged\.$"
    with pytest.raises(ResultsError, match=sentence):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_takes_no_folder_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be on another file system, from which no file can be renamed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    write_whole(tmp_path / "table.md", "new")
    assert (tmp_path / "table.md").read_text() == "new"


def test_a_file_can_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    """A temporary file is its owner's alone."""
    write_whole(written := tmp_path / "table.md", "new")
    (other := tmp_path / "other").touch()
    assert written.stat().st_mode == other.stat().st_mode


#: Lines of the file below, from the end.
LAST, MIDDLE = rb"[^\n]*\n\Z", rb"(?<=\n)[^\n]*\n(?=[^\n]*\n\Z)"
MARKERS = b"<<<<<<< HEAD\n=======\n>>>>>>> theirs\n"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (rb"(?s).*", b"", "No columns to parse"),
        (rb"(?s).*", b"\xff\xfe\x00", "'utf-8' codec can't decode"),
        (rb"(?s).*", b"implementation\nnaive\n", "expected the column dtype, got implementation"),
        (rb"whole_T", b"shortened", "expected columns that tables.toml lists, got shortened"),
        (rb"ratio_low", b"low", "expected columns that tables.toml lists, got low"),
        (rb"\n\Z", b"", "line 7: expected a whole row with the end of its line, got a part"),
        (rb".\n\Z", b"", "line 7: expected a whole row with the end of its line, got a part"),
        (rb",[^,]*\n\Z", b"", r"line 7: expected \d+ cells, got \d+"),
        (rb",[^,]*\n\Z", b"\n", r"line 7: expected \d+ cells, got \d+"),
        (rb", comma(?![\s\S]*comma)[\s\S]*", b"", "unexpected end of data"),
        (rb"(?<=\n)small,3,2,[^\n]*\n", b"small,3\n", r"line 2: expected \d+ cells, got 2"),
        (MIDDLE, MARKERS, r"line 6: expected \d+ cells, got 1"),
        (rb",0\.05,", b",fast,", "row 1, baseline_s: expected a number, got fast"),
        (rb",0\.1,", b",1 2 3x,", "row 1, median_s: expected a number, got 1 2 3x"),
        (rb",2\d\d\d-\d\d-\d\d,", b",20261130,", "expected a date such as 2026-11-30, got 20261130"),
        (rb",2\d\d\d-\d\d-\d\d,", b",2026-13-01,", "expected a date such as 2026-11-30, got 2026-13-01"),
        (rb",ok,", b",ok: but slow,", "status: expected one of ok, not run, .*, failed, got ok: but slow"),
        (rb",2\d\d\d-\d\d-\d\d,", b",,", "expected a date such as 2026-11-30, got nan"),
        (rb"(?s)(small[^\n]*\n)", rb"\1\1", "row 2: expected a key that no row before it has"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_a_sentence_and_stays(tmp_path: Path, old: bytes, new: bytes, reason: str) -> None:
    folder = tmp_path / slug(CPU)
    candidates = ("torch.nn.LSTM", "batched_cpu", "batched")
    rows = [row | {"processor": "has a, comma"} for name in candidates for row in runs(name, 0.1)]
    TABLES[TableName.BENCH].replace(folder, rows)
    assert list(TABLES[TableName.BENCH].read(folder)["implementation"][::2]) == [*reversed(candidates)]
    path = TABLES[TableName.BENCH].path(folder)
    damage = re.sub(old, new, whole := path.read_bytes(), count=1)
    assert damage != whole
    path.write_bytes(damage)
    with pytest.raises(ResultsError) as error:
        folder_of(tmp_path, CPU)
    sentence = rf"{re.escape(str(path))}, [^\n]*{reason}[^\n]*: it is damaged .* move it away; .*\."
    assert re.fullmatch(sentence, str(error.value))
    assert path.read_bytes() == damage
    assert list(folder.iterdir()) == [path]


def test_figures_of_visits_have_six_digits(tmp_path: Path) -> None:
    """So that medians and intervals can be computed from them again."""
    figures = (1.23456, 0.000123456, 12345.6)
    TABLES[TableName.BENCH].replace(tmp_path, runs("batched", 0.1, ratio_visits=figures))
    assert set(TABLES[TableName.BENCH].read(tmp_path)["ratio_visits"]) == {figures}


def test_text_among_the_figures_of_visits_is_named(tmp_path: Path) -> None:
    TABLES[TableName.BENCH].replace(tmp_path, runs("batched", 0.1, ratio_visits=(1.5, 1.6, 1.7)))
    path = TABLES[TableName.BENCH].path(tmp_path)
    path.write_text(path.read_text().replace("1.5 1.6 1.7", "1.5 1.6 <1.7"))
    with pytest.raises(ResultsError, match=r"row 1, ratio_visits: expected numbers, got 1\.5 1\.6 <1\.7"):
        TABLES[TableName.BENCH].read(tmp_path)


def test_a_row_at_sizes_that_are_named_has_its_case(tmp_path: Path) -> None:
    """For any name of its workload, and any sizes of medium."""
    spelled = ("H512-norm", "dropout0.25-L2", "recurrent_dropout0.1-stacked", "strided-shared-eval")
    cases = [MEDIUM, *map(parse, spelled), parse("lengths1234567.40.7"), parse("lengths40.7")]
    for name in ("a name", "another"):  # the second replaces the first
        rows = []
        for case in cases:
            about = about_pass(Workload(name, case, asked_for=True), case, "batched", "float32", Pass.FORWARD)
            rows.append(HERE | about | {"status": Status.OK})
        TABLES[TableName.SIZES].replace(tmp_path, rows)
        read = TABLES[TableName.SIZES].read(tmp_path).to_dict("records")
        assert len(read) == len(cases)
        assert {Case.of_row(row) for row in read} == {*cases}


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        (TableName.SIZES, "status", "ok, not run, "),
        (TableName.SIZES, "state", "none, stacked, shared"),
        (TableName.SIZES, "dtype", "float64, float32, tf32, bfloat16, float16"),
        (TableName.VERIFY, "dtype", "float64, float32, tf32, bfloat16, float16"),
        (TableName.HARDWARE, "device", "cpu, cuda"),
        (TableName.BENCH, "bound", "compute, memory"),
        (TableName.VERIFY, "verdict", "skipped, pass, FAIL"),
        (TableName.FAULTS, "verdict", "rejected, SURVIVED"),
        (TableName.CAPABILITIES, "outcome", "pass, no, FAIL, not run"),
    ],
)
def test_a_word_is_one_of_its_enumeration(tmp_path: Path, table: TableName, column: str, words: str) -> None:
    TABLES[table].replace(tmp_path, [HERE | keyed(table, "1") | {column: "passed"}])
    with pytest.raises(ResultsError, match=f"{column}: expected one of {words}.*, got passed"):
        TABLES[table].read(tmp_path)


def test_a_flag_is_true_or_false(tmp_path: Path) -> None:
    rows = [verified(), verified("naive", interpreted=True)]
    TABLES[TableName.VERIFY].replace(tmp_path, rows)
    assert list(TABLES[TableName.VERIFY].read(tmp_path)["interpreted"]) == [True, False]  # naive comes first
    path = TABLES[TableName.VERIFY].path(tmp_path)
    path.write_text(path.read_text().replace(",True,", ",yes,"))
    with pytest.raises(ResultsError, match="interpreted: expected one of True, False, got yes"):
        TABLES[TableName.VERIFY].read(tmp_path)


def test_versions_are_no_numbers_and_old_files_lack_some(tmp_path: Path) -> None:
    with_gpu = runs("batched", 0.1, torch="2.10", python="3.20", cudnn="90100")[0]
    TABLES[TableName.BENCH].replace(tmp_path, [with_gpu, runs("naive", 1)[0]])
    rows = TABLES[TableName.BENCH].read(tmp_path).set_index("implementation")
    assert list(rows.loc["batched", ["torch", "python", "cudnn"]]) == ["2.10", "3.20", "90100"]
    assert rows.loc["naive", "cudnn"] == ""
    assert (rows["driver"] == "").all()
    assert "driver" not in TABLES[TableName.BENCH].path(tmp_path).read_text()


@pytest.mark.parametrize(
    ("new", "visits"),
    [  # how a second row differs, and the visits of the row that is left
        ({"visits": 2}, 6), ({"visits": 3}, 3), ({"visits": 12}, 12),
        ({"visits": 1, "sources": "changed"}, 1), ({"visits": 1, "torch": "1.0"}, 1), ({"visits": 1, "threads": 99}, 1),
        ({"visits": 1, "python": "3.9"}, 1), ({"visits": 1, "processor": "other"}, 1),
        ({"visits": 1, "cpu_capability": "DEFAULT"}, 1), ({"visits": 1, "compiler": "another"}, 1),
        ({"visits": 1, "cudnn": "1"}, 1), ({"visits": 1, "commit": "another"}, 6),
        ({"visits": 1, "status": Status.FAILED}, 1),
    ],
)  # fmt: skip
def test_a_row_of_few_visits_leaves_one_of_many(tmp_path: Path, new: dict[str, Any], visits: int) -> None:
    first, other = runs("batched", 0.1, visits=6)[0], runs("naive", 0.1, visits=1)[0]
    assert TABLES[TableName.BENCH].replace(tmp_path, [first]) == 0
    assert TABLES[TableName.BENCH].replace(tmp_path, [first | {"date": "2027-01-01"} | new, other]) == (visits == 6)
    rows = TABLES[TableName.BENCH].read(tmp_path).set_index("implementation")
    assert (rows.loc["batched", "visits"], rows.loc["naive", "visits"]) == (visits, 1)
    assert (rows.loc["batched", "date"] == "2027-01-01") == (visits != 6)


@pytest.mark.parametrize(
    ("before", "busy", "stays"),
    [(None, 0.3, True), (None, None, False), (0.3, 0.2, False), (0.3, None, False), ("failed", 0.3, False)],
)
def test_a_row_from_a_busy_machine_leaves_one_from_a_quiet_one(
    tmp_path: Path, before: Any, busy: float | None, stays: bool
) -> None:
    table = replace(TABLES[TableName.BENCH], columns=[*dict.fromkeys([*TABLES[TableName.BENCH].columns, "busy"])])
    first = runs("batched", 0.1)[0] | ({"status": Status.FAILED} if before == "failed" else {"busy": before})
    assert table.replace(tmp_path, [first]) == 0
    assert table.replace(tmp_path, [runs("batched", 0.3, busy=busy)[0], runs("naive", 1, busy=busy)[0]]) == stays
    rows = table.read(tmp_path).set_index("implementation")
    assert (rows.loc["batched", "median_s"] == 0.1) == stays


@pytest.mark.parametrize(
    ("device", "table", "implementation", "names"),
    [
        ("cpu", "bench", "batched", []),
        ("cpu", "bench", "batched_cpu", ["compiler"]),
        ("cpu", "verify", "compiled", ["compiler"]),
        ("cpu", "verify", "batched_cuda", ["triton"]),
        ("cuda", "bench", "batched", ["driver", "cudnn"]),
        ("cuda", "verify", "batched_cpu", ["driver"]),
        ("cuda", "bench", "batched_cuda", ["triton", "driver", "cudnn"]),
        ("cuda", "bench", "compiled", ["triton", "driver", "cudnn"]),
    ],
)
def test_rows_name_the_software_that_they_use(
    device: str, table: TableName, implementation: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"compiler": "c++ 12", "triton": "3.9.0", "driver": "535.104.05", "cudnn": "91900"}
    monkeypatch.setattr(machine, "compiler", lambda command: found["compiler"])
    monkeypatch.setattr("importlib.metadata.version", lambda package: found[package])
    monkeypatch.setattr(machine, "driver", lambda: found["driver"])
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: int(found["cudnn"]))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    row = {"implementation": implementation, "workload": "small", "T": 3, "B": 2}
    stamped = stamp(torch.device(device), table, row)
    assert {name: stamped[name] for name in found if name in stamped} == {name: found[name] for name in names}


@pytest.mark.parametrize("value", ["", "  "], ids=["empty", "blank"])
def test_an_empty_variable_names_no_compiler(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "compiler", lambda command: f"version of {command}")
    monkeypatch.setenv("CXX", value)
    assert stamp(CPU, TableName.VERIFY, {"implementation": "batched_cpu"})["compiler"] == "version of c++"


def test_software_is_named_without_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "a c++"
    script.write_text("#!/bin/sh\necho $0 12.2 /opt/x\necho $0\n")
    script.chmod(0o755)
    assert machine.compiler(f"'{script}'").split()[-1] == "12.2"
    assert "/" not in machine.compiler(f"'{script}'")
    assert machine.compiler("no-such-compiler") == ""
    assert machine.compiler("c++ 'open") == "", "a quotation without an end must not end a benchmark"
    monkeypatch.setattr(proof, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 12040, raising=False)
    assert proof.driver() == "CUDA 12.4"
    proof.DRIVER.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 2023")
    assert proof.driver() == "535.104.05"


def test_a_compiler_may_speak_in_any_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "c++"
    script.write_bytes(b"#!/bin/sh\nprintf 'c++ 12.2\\n\\302\\251 \\377\\n'\n")
    script.chmod(0o755)
    assert machine.compiler(str(script)) == "c++ 12.2"


def test_of_several_checks_of_a_case_the_worst_is_its_row() -> None:
    skipped, passed, failed = CaseOutcome.SKIPPED, CaseOutcome.PASS, CaseOutcome.FAIL
    nan = math.nan
    every = {
        "T1": [(skipped, nan), (passed, 0.3), (failed, 2.0), (skipped, nan)],
        "T2": [(skipped, nan)],
        "T3": [(passed, 0.2), (passed, 0.4), (passed, 0.3)],
        "T4": [(failed, 3.0), (failed, nan), (passed, 0.1)],
        "T5": [(failed, nan), (failed, 4.0)],
        "T6": [(passed, 0.5), (passed, 0.1)],
    }
    lines = [(case, *outcome) for case, outcomes in every.items() for outcome in outcomes]
    rows = pd.DataFrame(lines, columns=["case", "verdict", "ratio"])
    worst = deciding(rows, ["case"]).sort_values("case")
    assert list(worst["verdict"]) == [failed, skipped, passed, failed, failed, passed]
    assert list(worst["ratio"]) == [2.0, pytest.approx(nan, nan_ok=True), 0.4, 3.0, 4.0, 0.5]


def test_checks_on_the_cpu_are_no_gpu_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(machine, "driver", lambda: "535.104.05")
    row = {name: value for name, value in verified("batched", 0.5).items() if name not in STAMP}
    fault = {"edit": writing.CHECKED["edit"][0], "dtype": "float32"}
    rows = {TableName.VERIFY: pd.DataFrame([row]), TableName.FAULTS: pd.DataFrame([fault])}
    pages = writing.write(tmp_path, torch.device("cuda", 0), rows)
    for name, folder, device in ((TableName.VERIFY, "nvidia-h100", "cuda"), (TableName.FAULTS, slug(CPU), "cpu")):
        assert list(TABLES[name].read(tmp_path / folder)["device"]) == [device]
    assert [page.file for page in pages] == [tmp_path / "nvidia-h100" / "verify.md"]


def test_rows_of_what_did_not_run_again_stay(tmp_path: Path) -> None:
    row = {name: value for name, value in verified("batched", 0.5).items() if name not in STAMP}
    cases = [MULTIPLIED[0], catalogue.every_id()[0], interpreted.WIDE[0].id]
    for case in reversed(cases):
        writing.write(tmp_path, CPU, {TableName.VERIFY: pd.DataFrame([row | {"case": case}])})
    assert list(TABLES[TableName.VERIFY].read(tmp_path / slug(CPU))["case"]) == cases


@pytest.mark.thorough("starts a run of pytest")
def test_a_verification_whose_results_cannot_be_written_says_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    where = ["suite/checks/equality/test_equality.py", "--results", str(tmp_path / "file"), "--device", "cpu"]
    chosen = ["-q", "-p", "no:benchmark", "-n", "0", "-k", "row_scaled and float64 and T7-B3-I5-H16-S8-Z4-L2"]
    with pytest.raises(process.ProcessError) as error:
        process.run("pytest", *where, *chosen)
    output = str(error.value)
    assert "verify.csv cannot be written: Not a directory. What stood there is unchanged." in output
    assert "All comparisons with the equation passed: 1 implementation" in output
    assert "Traceback" not in output
