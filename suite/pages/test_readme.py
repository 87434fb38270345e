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


def test_the_readme_shows_figure_and_implementations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    medium = [row for name, seconds in (("batched", 0.1), (BASELINE, 0.05)) for row in runs(name, seconds)]
    TABLES["bench"].replace(tmp_path / "some-machine", [row | {"workload": "medium"} for row in medium])
    file = tmp_path / "README.md"
    file.write_text(
        "before\n<!-- figure -->\nold\n<!-- end of figure -->\n"
        "<!-- implementations -->\nold\n<!-- end of implementations -->\nafter\n"
    )
    monkeypatch.setattr(readme, "README", file)
    readme.write_readme(tmp_path)
    text = file.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "some-machine/training-medium.svg)" in text
    assert re.search(r"\| \[`batched`\]\(\S+\) \| .* \| 2\.00 \| 1\.00 \|\n", text)
    marked = re.findall(r"\| \[`(\w+)`\]\(\S+\), \*experimental\* \|", text)
    assert marked == [impl.name for impl in IMPLS if impl.experimental]
    file.write_text("no marks")
    with pytest.raises(ValueError, match="expected <!-- figure --> and <!-- end of figure --> once each"):
        readme.write_readme(tmp_path)


def test_the_readme_says_when_bfloat16_pays() -> None:
    rows = [*runs(readme.HALF, 0.1), *runs(readme.HALF, 0.04, dtype="bfloat16")]
    assert readme.in_half(pd.DataFrame(rows[:2])) == ""
    assert f"trains in 0.40 ({rows[0]['workload']}) of its time in float32" in readme.in_half(pd.DataFrame(rows))


def times(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the training times that the README's table shows, by implementation."""
    lines = readme.implementations(pd.DataFrame([row | {"workload": "medium"} for row in rows])).words()
    return {impl.name: line[readme.TIME] for impl, line in zip(IMPLS, lines, strict=True)}


@pytest.mark.parametrize(("device", "name", "word"), [("cpu", "batched_cuda", "GPU"), ("cuda", "batched_cpu", "CPU")])
def test_the_readme_says_what_needs_another_device(device: str, name: str, word: str) -> None:
    rows = runs("batched", 0.1) + runs(name, 0, status="not run: elsewhere.")
    cells = times([row | {"device": device, "loop_s": 0.1, "loop_ratio": 2.0} for row in rows])
    assert (cells["batched"], cells[name], cells["deferred"]) == ("2.00", f"needs a {word}", "not run")


def test_the_readme_shows_loop_time_on_gpus() -> None:
    assert times(runs("batched", 0.1, device="cuda", loop_s=0.1, loop_ratio=1.25))["batched"] == "1.25"
