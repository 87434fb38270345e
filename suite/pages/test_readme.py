"""README.md shows figures, a table and sentences of one machine for each kind of device, chosen by its rows."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from impls.registry import IMPLS
from suite.candidates.names import BASELINE
from suite.pages import readme
from suite.pages.benchmark import Benchmark
from suite.pages.examples import at
from suite.pages.readme import MEMORY_HEADING, TIME_HEADING
from suite.results.examples import HERE, runs, verified
from suite.results.format import machine
from suite.results.names import TableName
from suite.results.provenance import sources
from suite.results.status import Status
from suite.results.tables import TABLES
from suite.shared.devices import DeviceType


def medium(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return at("medium", list(rows))


TEXT = "".join(
    f"before {name}\n<!-- {name} -->\nold\n<!-- end of {name} -->\n" for name in ("figure", "implementations", "gpu")
)
END = "<!-- end of gpu -->"


@pytest.fixture(autouse=True)
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let README.md be a file with markers alone."""
    monkeypatch.setattr(readme, "README", tmp_path / "README.md")
    readme.README.write_text(TEXT + "after\n")


def put(folder: Path, *rows: dict[str, Any], stale: bool = False, **changes: Any) -> None:
    """Put rows on medium into a machine's folder."""
    every = [row | changes for row in medium(*rows)]
    if not stale:
        every = [row | {"sources": sources(TableName.BENCH, row)} for row in every]
    TABLES[TableName.BENCH].replace(folder, every)


def test_the_readme_shows_figure_and_implementations(tmp_path: Path) -> None:
    TABLES[TableName.BENCH].replace(tmp_path / "a-machine-without-medium", runs("batched", 0.1))
    put(tmp_path / "some-machine", *runs("batched", 0.1), *runs(BASELINE, 0.05), *runs("batched_cpu", 0.4))
    text = readme.updated(tmp_path)
    assert "old" not in text
    assert text.startswith("before figure\n")
    assert text.endswith("after\n")
    assert (
        "some-machine/training-medium.svg)\n\n- medium (T 3 of 50, B 2 of 32, float32): a training step of `batched` "
        in text
    )
    assert "medians of visits to fresh processes; in parentheses are 95 % confidence intervals" in text
    assert re.search(r"\| \[`batched`\]\(impls/batched.py\) \| .* \| 2\.00 \(1\.98-2\.02\) \| 1\.00 \|\n", text)
    assert "](impls/batched_cpu) |" in text
    marked = re.findall(r"\| \[`(\w+)`\]\(\S+\), \*experimental\* \|", text)
    assert marked == [impl.name for impl in IMPLS if "cpu" not in impl.devices]  # until a GPU has verified them
    where = f"in float32 on {machine(pd.Series(HERE))}"
    assert f"of training steps on medium (T 3, B 2), without layer norm, {where}.\n\n| impl" in text
    assert f"| {TIME_HEADING} |" in text
    assert "Code has changed since" not in text


def test_machines_that_timed_other_sizes_are_said_to_have(tmp_path: Path) -> None:
    put(tmp_path / "a-machine", *runs("batched", 0.1), *runs(BASELINE, 0.05))
    put(tmp_path / "a-gpu", *runs("batched", 0.1), *runs(BASELINE, 0.05), device="cuda", T=50, B=32)
    assert "of training steps on medium (T 3, B 2 or T 50, B 32), without layer norm" in readme.updated(tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected <!-- gpu --> once, got it 0 times"),
        (f"{TEXT}{TEXT}", "expected <!-- gpu --> once, got it 2 times"),
        (TEXT.replace(END, ""), f"expected {END} once, got it 0 times"),
        (END + TEXT.replace(END, ""), f"expected {END} behind <!-- gpu -->, got it before"),
    ],
    ids=["missing", "doubled", "without an end", "end first"],
)
def test_a_marker_that_is_not_in_its_place_is_named(text: str, why: str, tmp_path: Path) -> None:
    put(tmp_path / "some-machine", *runs("batched", 0.1), *runs(BASELINE, 0.05))
    readme.README.write_text(text)
    with pytest.raises(ValueError, match=f"^README.md: {re.escape(why)}"):
        readme.updated(tmp_path)


def test_without_the_workload_only_the_sentence_about_gpus_changes(tmp_path: Path) -> None:
    TABLES[TableName.BENCH].replace(tmp_path / "some-machine", runs("batched", 0.1) + medium(*runs("batched", 0)))
    about = "`batched_cuda` is *experimental*: it has no results on a GPU yet.\n"
    assert readme.updated(tmp_path) == about.join((TEXT + "after\n").rsplit("old\n", 1))


GPU: dict[str, Any] = {"device": "cuda", "processor": "NVIDIA H100"}


def test_each_kind_of_device_has_its_figure_and_its_columns(tmp_path: Path) -> None:
    put(tmp_path / "cpu", *runs("batched_cpu", 0.1), *runs(BASELINE, 0.05))
    on_gpu = [*runs("batched_cuda", 0.3, dtype="bfloat16"), *runs(BASELINE, 0.05, dtype="bfloat16")]
    put(tmp_path / "gpu", *runs("batched_cuda", 0.2), *on_gpu, **GPU)
    text = readme.updated(tmp_path)
    assert re.findall(r"\]\(\S*/(\w+)/training-medium.svg\)", text) == ["cpu", "gpu"]
    assert "float32): a training step of `batched_cpu` takes 2.00 (1.98-2.02)" in text
    assert "bfloat16): a training step of `batched_cuda` takes 6.00 (5.94-6.06)" in text
    headings = [f"{kind}: {heading}" for kind in ("CPU", "GPU") for heading in (TIME_HEADING, MEMORY_HEADING)]
    assert f"| {' | '.join(headings)} |" in text
    assert re.search(r"\[`batched_cpu`\].* \| 2\.00 \(1\.98-2\.02\) \| 1\.00 \| needs a CPU \| - \|", text)
    assert re.search(r"\[`batched_cuda`\].* \| needs a GPU \| - \| 6\.00 \(5\.94-6\.06\) \| 1\.00 \|", text)
    assert f"in float32 on {machine(pd.Series(HERE))}; in bfloat16 on NVIDIA H100." in text


def test_the_figure_of_a_device_stays_when_that_of_another_is_stale(tmp_path: Path) -> None:
    put(tmp_path / "cpu", *runs("batched_cpu", 0.1))
    put(tmp_path / "gpu", *runs("batched_cuda", 0.3, dtype="bfloat16"), stale=True, **GPU)
    text = readme.updated(tmp_path)
    assert re.findall(r"\]\(\S*/(\w+)/training-medium.svg\)", text) == ["cpu", "gpu"]
    assert text.count("Code has changed since.") == 1


#: Candidates of one machine.
TWO_TIMED = ("batched", "naive")


@pytest.mark.parametrize(
    ("others", "timed", "name"),
    [  # what another machine has instead, and which of the two is shown; "m" is the first
        ({}, TWO_TIMED, "a"), ({"stale": True}, TWO_TIMED, "m"), ({"date": "2099-01-01"}, TWO_TIMED[:1], "m"),
        ({"ratio_low": None}, TWO_TIMED, "m"), ({"visits": 4}, TWO_TIMED, "m"),
        ({"date": "2000-01-01"}, TWO_TIMED, "m"),
    ],
)  # fmt: skip
def test_of_several_machines_the_readme_shows_one_by_its_rows(
    tmp_path: Path, others: dict[str, Any], timed: Sequence[str], name: str
) -> None:
    put(tmp_path / "m", *runs("batched", 0.1), *runs("naive", 0.2), date="2026-01-01")
    rows = [row for candidate in timed for row in runs(candidate, 0.1)]
    put(tmp_path / "a", *rows, **{"date": "2026-01-01"} | others)
    assert readme.chosen(tmp_path)[DeviceType.CPU].name == name


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "it has no results on a GPU yet"),
        ([verified("batched_cuda", interpreted=True, **GPU)], "it has no results on a GPU yet"),
        ([verified("batched_cuda", 2.0, **GPU)], "it has no results on a GPU yet"),
        ([verified("batched", **GPU)], "it has no results on a GPU yet"),
        (
            [verified("batched_cuda", date="2026-12-05", **GPU)],
            r"it has results on NVIDIA H100 \(\[verify\]\(\S*/h100/verify.csv\), 2026-12-05\)",
        ),
    ],
)
def test_the_sentence_about_gpus_is_made_of_rows(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    TABLES[TableName.VERIFY].replace(tmp_path / "h100", rows)
    (tmp_path / "empty").mkdir()
    assert re.fullmatch(rf"`batched_cuda` is \*experimental\*: {words}\.", readme.about_gpus(tmp_path))


def test_a_gpu_on_which_it_was_timed_is_named_with_its_rows(tmp_path: Path) -> None:
    put(tmp_path / "a100", *runs("batched_cuda", 0), **GPU)
    put(tmp_path / "h100", *runs("batched_cuda", 0.1), date="2026-12-05", **GPU)
    words = r"it has results on NVIDIA H100 \(\[bench\]\(\S*/h100/bench.csv\), 2026-12-05\)\."
    assert re.fullmatch(rf"`batched_cuda` is \*experimental\*: {words}", readme.about_gpus(tmp_path))


@pytest.mark.parametrize(
    ("device", "name", "word"),
    [(DeviceType.CPU, "batched_cuda", "GPU"), (DeviceType.CUDA, "batched_cpu", "CPU")],
)
def test_the_readme_says_what_needs_another_device(device: DeviceType, name: str, word: str) -> None:
    rows = medium(*runs("batched", 0.1), *runs("naive", 0), *runs(name, 0, status=Status.NOT_RUN))
    benchmark = Benchmark.of(pd.DataFrame([row | {"device": device} for row in rows]))
    sheet = readme.implementations({device: benchmark})
    _, _, time, _ = sheet.columns
    cells = {impl.name: line[time] for impl, line in zip(IMPLS, sheet.texts(), strict=True)}
    assert (cells["batched"], cells["naive"]) == ("2.00 (1.98-2.02)", "time-out")
    assert (cells[name], cells["deferred"]) == (f"needs a {word}", "not run")
