"""Rows tell what they rest on, and whatever happens, result files are whole."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from suite import bench, report
from suite.pages.pages import page
from suite.shared import trust
from suite.shared.examples import CPU, HERE, job, made
from suite.shared.files import ROOT
from suite.shared.machine import slug
from suite.shared.results import ResultsError, read, replace_rows, write_whole
from suite.timing import plan as planning


def verified(**changes: Any) -> dict[str, Any]:
    row = {"implementation": "batched", "dtype": "float32", "case": "a", "verdict": "pass"}
    return row | {"sources": trust.sources()} | HERE | changes


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([], "unverified"),
        ([verified(dtype="float64")], "unverified"),
        ([verified(verdict="skipped")], "unverified"),
        ([verified(), verified(case="b")], "verified"),
        ([verified(), verified(case="b", verdict="FAIL")], "red"),
        ([verified(), verified(case="b", sources="elsewhere")], "stale"),
        ([verified(torch="1.0", sources="elsewhere", verdict="FAIL")], "unverified"),
    ],
)
def test_what_verification_says_of_an_implementation(rows: list[dict[str, Any]], word: str) -> None:
    found = trust.standing(pd.DataFrame(rows), "batched", "float32", torch.__version__)
    assert found.word == word
    assert (found.refusal is not None) == (word in ("red", "stale"))


def test_rows_of_before_sources_were_recorded_are_stale() -> None:
    rows = pd.DataFrame([verified()]).drop(columns="sources")
    assert trust.standing(rows, "batched", "float32", torch.__version__).word == "stale"


def test_the_hash_of_a_verification_changes_with_its_rows() -> None:
    hashes = {
        trust.standing(pd.DataFrame([verified(ratio=ratio)]), "batched", "float32", torch.__version__).rows
        for ratio in (0.1, 0.2, 0.1)
    }
    assert len(hashes) == 2


def test_a_hash_of_decimal_digits_stays_what_it_is(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.csv", "commit,sources,verify_rows\n0411959,12e4567890,0123\n")
    assert read(tmp_path / "a.csv").iloc[0].tolist() == ["0411959", "12e4567890", "0123"]


def test_red_and_stale_are_refused_unless_told_otherwise(tmp_path: Path) -> None:
    page("verify").put(tmp_path, [verified(), verified(implementation="deferred", verdict="FAIL", case="training")])
    jobs = [job(tmp_path, name) for name in ("batched", "deferred", "torch.nn.LSTM")]
    labels = [planned.instead for planned in planning.plan(jobs, tmp_path)]
    assert labels == [None, "refused: verify.csv has a failure of deferred in float32", None]
    assert [planned.runs for planned in planning.plan(jobs, tmp_path, unverified=True)] == [True] * 3


def test_the_sources_hash_sees_a_change_and_no_change_of_line_ends(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(trust, "ROOT", tmp_path)
    (tmp_path / "impls").mkdir()
    hashes = []
    for text in (b"a\nb\n", b"a\r\nb\r\n", b"a\nc\n"):
        (tmp_path / "impls" / "one.py").write_bytes(text)
        hashes.append(trust.sources.__wrapped__())
    assert hashes[0] == hashes[1] != hashes[2]
    assert trust.commit.__wrapped__() == "unknown"


def test_a_partial_run_replaces_only_its_own_rows(tmp_path: Path) -> None:
    path, known = tmp_path / "rows.csv", {"name": ["a", "b", "c"]}
    replace_rows(path, [{"name": "a", "n": 1, "value": 1}, {"name": "b", "n": 1, "value": 2}], ["name", "n"], known)
    replace_rows(path, [{"name": "b", "n": 1, "value": 3}, {"name": "b", "n": 2, "value": 4}], ["name", "n"], known)
    assert read(path).to_dict("split")["data"] == [["a", 1, 1], ["b", 1, 3], ["b", 2, 4]]
    replace_rows(path, [{"name": "c", "n": 1, "value": 5}], ["name", "n"], {"name": ["b", "c"]})
    assert list(read(path)["name"]) == ["b", "b", "c"]


def test_rows_of_an_earlier_format_go_when_new_ones_come(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("name,value\na,1\n")
    replace_rows(path, [{"name": "b", "value": 2, "made": "x"}], ["name"], {}, ["made"])
    assert list(read(path)["name"]) == ["b"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.md"
    write_whole(path, "old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for step in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(step, fail)
            with pytest.raises(ResultsError, match=r"table\.md could not be written and is as it was before: No space"):
                write_whole(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line of errors that a run of two subjects ends with."""
    command = [
        "--workload",
        "small",
        "--implementation",
        "batched_cuda",
        "--layer-norm",
        "off",
        "--device",
        "cpu",
        *arguments,
    ]
    assert bench.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_results_folder_that_is_none_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results"
    file.write_text("mine")
    assert re.search(
        r"expected a folder to write results to, got: Not a directory", said(capsys, "--results", str(file))
    )
    assert file.read_text() == "mine"


@pytest.mark.parametrize("damage", [b"", b'implementation,"\nx', b"\xff\xfe\x00", b"implementation\nnaive\n"])
def test_a_damaged_file_is_a_sentence_and_stays(tmp_path: Path, capsys: Any, damage: bytes) -> None:
    path = tmp_path / slug(CPU) / "bench.csv"
    path.parent.mkdir()
    path.write_bytes(damage)
    line = said(capsys, "--results", str(tmp_path))
    assert str(path) in line
    assert "move it away" in line
    assert path.read_bytes() == damage
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_a_sentence_and_loses_no_row(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    path = tmp_path / slug(CPU) / "bench.csv"
    page("bench").put(path.parent, made("row_scaled", 0.2))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in said(capsys, "--results", str(tmp_path))
    assert path.read_bytes() == before


def test_killed_at_any_moment_a_run_leaves_whole_files_and_whole_jobs(tmp_path: Path) -> None:
    # Writing rows over and over is what a run does between its jobs; here it does nothing else.
    script = f"""
from pathlib import Path
from suite.shared.examples import made
from suite.pages.pages import page
for k in range(1, 10**6):
    page("bench").put(Path({str(tmp_path)!r}), made("batched", k))
    print(k, flush=True)
"""
    root = ROOT
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    rows = page("bench").rows(tmp_path)
    assert list(rows["pass"]) == ["forward", "train"]
    assert rows["median_s"].nunique() == 1
    assert rows["median_s"].iloc[0] >= 20


def test_every_job_is_in_one_shard(tmp_path: Path) -> None:
    def labels(*arguments: str) -> list[str]:
        options = bench.parser().parse_args(["--device", "cpu", *arguments])
        bench.choose(options)
        return [job.label for job in bench.jobs(options, tmp_path)]

    parts = [labels("--shard", f"{i}/3") for i in (1, 2, 3)]
    assert sorted(label for part in parts for label in part) == sorted(labels())
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b"])
def test_a_shard_that_is_none_is_an_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parser().parse_args(["--shard", text])
    assert "expected I/N with 1 <= I <= N" in capsys.readouterr().err


def test_report_merges_shards_and_refuses_those_of_two_commits(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / slug(CPU)
    bench_page = page("bench")
    bench_page.put(folder, made("naive", 9) + made("batched", 8))
    bench_page.put(folder, made("batched", 1), "shard-1-of-3")
    bench_page.put(folder, made("torch.nn.LSTM", 1, commit="other"), "shard-2-of-3")
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert report.main(["--results", str(tmp_path)]) == 2
    assert "expected shards of one commit" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert report.main(["--results", str(tmp_path), "--mixed"]) == 0
    assert "merged shard-1-of-3, shard-2-of-3; not there: shard-3-of-3" in capsys.readouterr().out
    rows = bench_page.rows(folder)
    assert dict(zip(rows["implementation"], rows["median_s"], strict=True)) == {
        "naive": 9, "batched": 1, "torch.nn.LSTM": 1,
    }  # fmt: skip
    assert not list(folder.glob("*shard*"))
