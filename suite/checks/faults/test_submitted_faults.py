"""Faults that the author of a file lists beside it, `mine.toml`, are found in a copy of the file."""

import re
from pathlib import Path

import pytest
import torch

from suite.checks.equality.comparisons import small
from suite.shared import submission
from suite.shared.compare import implementation

PLANTED = [(name, fault) for name, path in submission.files().items() for fault in submission.faults(path)]


@pytest.mark.parametrize(("name", "fault"), PLANTED)
def test_a_fault_of_a_file_is_found(name: str, fault: str, device: torch.device, tmp_path: Path) -> None:
    path = submission.files()[name]
    damages, right, wrong = submission.faults(path)[fault]
    source = path.read_text(encoding="utf-8")
    assert source.count(right) == 1, f"{path}: {fault!r} replaces {right!r}, which is in it {source.count(right)} times"
    copy = tmp_path / f"{name}_with_{PLANTED.index((name, fault))}.py"
    copy.write_text(source.replace(right, wrong), encoding="utf-8")
    with submission.withdrawn():
        impl = submission.load(copy)
        wrong_tensors = set[str]()
        for comparison in small(impl.name):
            if impl.options.issuperset(comparison.case.options):
                verdicts = next(comparison.verdicts(implementation(impl.name), device))
                wrong_tensors |= {re.sub(r"layers\.\d+\.", "", one.tensor) for one in verdicts if not one.ratio <= 1}
            if damages in wrong_tensors:
                return
    pytest.fail(f"{path.name}: {fault!r} passes in {damages}; wrong: {sorted(wrong_tensors) or 'nothing'}")
