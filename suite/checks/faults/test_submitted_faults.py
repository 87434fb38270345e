"""Faults that the author of a file lists beside it, `mine.toml`, are found in a copy of the file."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import torch

from suite.checks.equality.comparisons import small
from suite.shared import submission
from suite.shared.compare import implementation

#: By file and name of a fault: the damaged tensor, a text of the file, and its replacement.
FAULTS = {
    (file, name): fault
    for file in submission.files().values()
    if file.with_suffix(".toml").exists()
    for name, fault in tomllib.loads(file.with_suffix(".toml").read_text(encoding="utf-8")).items()
}


@pytest.mark.parametrize(("name", "file", "fault"), [(file.stem, file, fault) for file, fault in FAULTS])
@pytest.mark.usefixtures("_withdrawn")
def test_a_fault_of_a_file_is_found(name: str, file: Path, fault: str, device: torch.device, tmp_path: Path) -> None:
    damages, right, wrong = FAULTS[file, fault]
    source = file.read_text(encoding="utf-8")
    assert source.count(right) == 1, f"{file}: {fault!r} replaces {right!r}, which is in it {source.count(right)} times"
    copy = tmp_path / f"faulty_{file.name}"
    copy.write_text(source.replace(right, wrong), encoding="utf-8")
    impl = submission.load(copy)
    supported = [one for one in small(impl.name) if impl.options.issuperset(one.case.options)]
    verdicts = chain.from_iterable(next(one.verdicts(implementation(impl.name), device)) for one in supported)
    wrong_tensors = (re.sub(r"layers\.\d+\.", "", one.tensor) for one in verdicts if not one.ratio <= 1)
    assert damages in wrong_tensors, f"{file.name}: {fault!r} passes in {damages}"
