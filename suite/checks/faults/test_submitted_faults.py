"""Faults that the author of a file lists beside it, `mine.toml`, are found in a copy of the file."""

from itertools import chain
from pathlib import Path

import pytest
import torch

from suite.candidates import submission
from suite.checks.equality.catalogue import small
from suite.checks.faults.planting import Fault, listed
from suite.comparison.draws import implementation
from suite.shared.marks import impl_param


def listed_beside(file: Path) -> list[Fault]:
    """Faults that a file lists, none without a list."""
    faults = file.with_suffix(".toml")
    return listed(faults) if faults.exists() else []


FAULTS = [
    impl_param(name, file, fault, id=f"{name}-{fault.name}")
    for name, file in submission.files().items()
    for fault in listed_beside(file)
]


@pytest.mark.parametrize(("name", "file", "fault"), FAULTS)
@pytest.mark.usefixtures("_withdrawn")
def test_a_fault_of_a_file_is_found(name: str, file: Path, fault: Fault, device: torch.device, tmp_path: Path) -> None:
    source = file.read_text(encoding="utf-8")
    for edit in fault.edits:
        source = edit.applied(source, fault.name, str(file.parent))
    copy = tmp_path / f"faulty_{file.name}"
    copy.write_text(source, encoding="utf-8")
    impl = submission.load(copy)
    supported = [comparison for comparison in small(impl.name) if impl.options.issuperset(comparison.case.options)]
    build = implementation(impl.name)
    judgements = chain.from_iterable(chain.from_iterable(each.judgements(build, device) for each in supported))
    shown = any(fault.shown_by(judgement) and judgement.wrong for judgement in judgements)
    assert shown, f"{file.name}: {fault.name!r} passes in {fault.shows or fault.finding}"
