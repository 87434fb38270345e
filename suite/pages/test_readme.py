"""README.md shows the figure, the table and the sentences that the results of one machine give."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from impls.registry import IMPLS
from suite.pages import readme
from suite.shared.cases import BASELINE
from suite.shared.examples import runs
from suite.shared.tables import TABLES


def medium(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return [row | {"workload": "medium"} for row in rows]


def test_the_readme_shows_figure_and_implementations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TABLES["bench"].replace(tmp_path / "a-machine-without-medium", runs("batched", 0.1))
    TABLES["bench"].replace(
        tmp_path / "some-machine", medium(*runs("batched", 0.1), *runs(BASELINE, 0.05), *runs("batched_cpu", 0.4))
    )
    file = tmp_path / "README.md"
    file.write_text(
        "before\n<!-- figure -->\nold\n<!-- end of figure -->\n"
        "<!-- implementations -->\nold\n<!-- end of implementations -->\nafter\n"
    )
    monkeypatch.setattr(readme, "README", file)
    text = readme.updated(tmp_path)
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "some-machine/training-medium.svg)\n\n- medium (T 3, B 2, float32): a training step of `batched` " in text
    assert "medians of visits to fresh processes" in text
    assert re.search(r"\| \[`batched`\]\(impls/batched.py\) \| .* \| 2\.00 \| 1\.00 \|\n", text)
    assert "](impls/batched_cpu) |" in text
    marked = re.findall(r"\| \[`(\w+)`\]\(\S+\), \*experimental\* \|", text)
    assert marked == [impl.name for impl in IMPLS if "cpu" not in impl.devices]  # until a GPU has verified them


def test_without_the_workload_the_readme_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "README", tmp_path / "README.md")
    readme.README.write_text("no markers")
    TABLES["bench"].replace(tmp_path / "some-machine", runs("batched", 0.1) + medium(*runs("batched", 0)))
    assert readme.updated(tmp_path) == "no markers"


def times(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the training times that the README's table shows, by implementation."""
    lines = readme.implementations(pd.DataFrame(medium(*rows))).words()
    return {impl.name: line[readme.TIME] for impl, line in zip(IMPLS, lines, strict=True)}


@pytest.mark.parametrize(("device", "name", "word"), [("cpu", "batched_cuda", "GPU"), ("cuda", "batched_cpu", "CPU")])
def test_the_readme_says_what_needs_another_device(device: str, name: str, word: str) -> None:
    rows = runs("batched", 0.1) + runs("naive", 0) + runs(name, 0, status="not run: elsewhere.")
    cells = times([row | {"device": device} for row in rows])
    assert (cells["batched"], cells["naive"]) == ("2.00", "time-out")
    assert (cells[name], cells["deferred"]) == (f"needs a {word}", "not run")
