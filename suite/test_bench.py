"""The benchmark labels what went wrong, measures what it says, and leaves whole files."""

import platform
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from . import bench, bench_step, measure
from .bench_tables import bench_markdown, bench_summary
from .cases import SHORT, WORKLOADS
from .compare import Verdict
from .jobs import Job, run
from .machine import slug
from .results import read, replace_rows, write_whole
from .subjects import find

TINY = replace(WORKLOADS["small"], T=3, B=2)
CPU = torch.device("cpu")


def job(folder: Path, subject: str = "batched", **changes: Any) -> Job:
    return replace(Job(subject, TINY, "float32", "cpu", 8 << 30, folder), **changes)


def statuses(job: Job, tmp_path: Path, time_limit: float = 60) -> list[str]:
    return [row["status"] for row in run(job, time_limit, tmp_path / "raw.json", tmp_path / "log.txt")]


@pytest.mark.thorough("a whole benchmark")
def test_a_run_leaves_rows_tables_and_raw_figures_without_the_hosts_name(tmp_path: Path) -> None:
    command = ["--workload", "small", "--implementation", "row_scaled", "torch.nn.LSTM", "--layer-norm", "off"]
    assert bench.main([*command, "--device", "cpu", "--results", str(tmp_path)]) == 0
    folder = tmp_path / slug(CPU)
    rows = read(folder / "bench.csv")
    assert list(rows["implementation"] + " " + rows["pass"]) == [
        "row_scaled forward", "row_scaled train", "torch.nn.LSTM forward", "torch.nn.LSTM train",
    ]  # fmt: skip
    assert bool((rows["status"] == "ok").all())
    assert bool((rows["q1_s"] <= rows["median_s"]).all())
    assert bool((rows["median_s"] <= rows["q3_s"]).all())
    assert bool((rows["peak_bytes"] > 0).all())
    assert "| row_scaled |" in (folder / "bench.md").read_text()
    assert f"[bench]({folder.name}/bench.md)" in (tmp_path / "README.md").read_text()
    raw = (folder / "raw" / "small-plain-float32-row_scaled.json").read_text()
    assert '"data"' in raw
    host = platform.node()
    assert not host or not re.search(rf"\b{re.escape(host)}\b", raw)


@pytest.mark.thorough("a benchmark that runs out of memory")
def test_out_of_memory_is_a_label(tmp_path: Path) -> None:
    huge = replace(WORKLOADS["char-ptb"], T=2, B=64)
    assert statuses(job(tmp_path, "naive", case=huge, memory_limit=1 << 30), tmp_path) == ["out of memory"] * 2


def test_a_time_out_is_a_label(tmp_path: Path) -> None:
    assert statuses(job(tmp_path), tmp_path, time_limit=0.2) == ["time-out: 0 s"] * 2


def test_a_crash_is_a_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    assert statuses(job(tmp_path), tmp_path) == ["crashed: signal 11"] * 2


def test_a_wrong_subject_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(find("batched"), check=lambda *_: [Verdict("grad x", 2e-3, 1e-6)])
    monkeypatch.setattr(bench_step, "find", lambda name: wrong)
    with pytest.raises(bench_step.RefusedError, match=r"grad x is off by 2\.0e-03, allowed 1\.0e-06"):
        bench_step.checked_model(job(tmp_path))
    assert '"status": "refused: grad x is off' in (tmp_path / "train.json").read_text()


def test_every_subject_passes_its_check_at_the_sizes_of_small() -> None:
    for subject in map(find, ("naive", "row_scaled", "batched", "deferred")):
        for layer_norm in (False, True):
            worst = subject.check(replace(TINY, layer_norm=layer_norm), torch.float32, CPU)[0]
            assert worst.ratio <= 1, (subject.name, worst)


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def work() -> None:
        a = torch.ones(1_000_000)
        b = a + a
        del a
        b.add_(1)

    assert 8_000_000 <= measure.peak_bytes(work, CPU) < 8_100_000


def test_kept_memory_counts_what_the_result_holds() -> None:
    x = torch.ones(1_000_000, requires_grad=True)
    assert 4_000_000 <= measure.kept_bytes(lambda: x.exp(), CPU) < 4_100_000


def test_short_workloads_say_what_was_cut(tmp_path: Path) -> None:
    short = replace(WORKLOADS["char-ptb"], T=SHORT["char-ptb"]["T"], B=SHORT["char-ptb"]["B"])
    assert job(tmp_path, case=short).columns("train")["shortened"] == "T 20 of 100, B 64 of 128"
    assert job(tmp_path, case=WORKLOADS["char-ptb"]).columns("train")["shortened"] == ""


def test_pen_offsets_are_a_walk_with_a_lifted_pen_now_and_then() -> None:
    offsets = bench_step.pen_offsets(WORKLOADS["handwriting"])
    assert offsets.shape == (300, 32, 3)
    assert bool((offsets[..., :2].norm(dim=-1) <= 1 + 1e-6).all())
    assert 0.02 < offsets[..., 2].mean().item() < 0.06
    assert torch.equal(offsets, bench_step.pen_offsets(WORKLOADS["handwriting"]))


def test_a_partial_run_replaces_only_its_own_rows(tmp_path: Path) -> None:
    path, known = tmp_path / "rows.csv", {"name": ["a", "b", "c"]}
    replace_rows(path, [{"name": "a", "n": 1, "value": 1}, {"name": "b", "n": 1, "value": 2}], ["name", "n"], known)
    replace_rows(path, [{"name": "b", "n": 1, "value": 3}, {"name": "b", "n": 2, "value": 4}], ["name", "n"], known)
    assert read(path).to_dict("split")["data"] == [["a", 1, 1], ["b", 1, 3], ["b", 2, 4]]
    replace_rows(path, [{"name": "c", "n": 1, "value": 5}], ["name", "n"], {"name": ["b", "c"]})
    assert list(read(path)["name"]) == ["b", "b", "c"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.md"
    write_whole(path, "old")

    def fail(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_tables_give_ratios_to_both_baselines_and_labels_where_there_is_no_figure(tmp_path: Path) -> None:
    def rows(subject: str, seconds: float, peak: int, layer_norm: bool) -> list[dict[str, Any]]:
        made = job(tmp_path, subject, case=replace(TINY, layer_norm=layer_norm))
        where = {"device": "cpu", "processor": "P", "threads": 2, "torch": "2", "python": "3"}
        figures = (
            {"status": "ok", "median_s": seconds, "first_s": 9.0, "peak_bytes": peak, "kept_bytes": 60}
            if seconds
            else {"status": "time-out: 9 s"}
        )
        return [made.columns(step) | figures | where for step in ("forward", "train")]

    table = pd.DataFrame(
        rows("naive", 0, 0, False) + rows("row_scaled", 0.2, 4_000_000, False) + rows("batched", 0.1, 3_000_000, False)
        + rows("torch.nn.LSTM", 0.05, 2_000_000, False) + rows("row_scaled", 0.4, 4_000_000, True)
        + rows("batched", 0.3, 3_000_000, True) + rows("labml", 0.6, 1_000_000, True)
    )  # fmt: skip
    text = bench_markdown(table)
    assert "| naive | time-out | - | - | time-out | - | - | - | - | - | - | - | - |" in text
    assert "| batched | 100 | 0.50 | 2.00 | 100 | 0.50 | 2.00 | 3 | 3 | 10 | 9 | 0.75 | 1.50 |" in text
    assert "| labml | 600 | 1.50 | 12.00 | 600 | 1.50 | 12.00 | 1 | 1 | 10 | 9 | 0.25 | 0.50 |" in text
    assert "Shortened: T 3 of 100, B 2 of 8." in text
    summary = bench_summary(table)
    assert list(summary["fastest"]) == ["batched", "batched"]
    assert list(summary["/ labml"]) == ["-", "0.50"]
