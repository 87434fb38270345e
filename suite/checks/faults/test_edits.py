"""Every edit that is planted applies to the code as it is; one that does not is reported here, and is no finding."""

from pathlib import Path

import pytest

from suite.checks.faults.faults import FAULTS
from suite.checks.faults.planting import Edited, edits, listed, stale


def test_every_edit_applies() -> None:
    reasons = stale(planted.edited for planted in FAULTS)
    assert not reasons, reasons


def test_a_stale_edit_is_named_with_its_file() -> None:
    reason = Edited("slip", edits("row_scaled.py", ("no such line", "")), "row_scaled").stale()
    assert reason == (
        "impls/row_scaled.py: 'slip' replaces 'no such line', which is in it 0 times, not once: "
        "write the edit for the code as it is."
    )


@pytest.mark.parametrize(
    "row", ['tensor = "out"', "edits = []", 'tensor = "h", finding = "f", edits = []', 'tensors = "h", edits = []']
)
def test_a_wrong_row_is_named(row: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'[step]\n"slip" = {{ {row} }}')
    with pytest.raises(ValueError, match="'slip': expected edits and either tensor or finding, got "):
        listed(path)
