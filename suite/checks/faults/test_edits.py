"""Every edit that is planted applies to the code as it is; one that does not is reported here, and is no finding."""

from suite.checks.faults.faults import FAULTS, Edited, edits


def test_every_edit_applies() -> None:
    stale = [reason for fault in FAULTS if (reason := fault.stale())]
    assert not stale, "\n".join(stale)


def test_a_stale_edit_is_named_with_its_file() -> None:
    stale = Edited("slip", "step", edits("row_scaled", "no such line", ""), "row_scaled").stale()
    assert stale == (
        "impls/row_scaled.py: 'slip' replaces 'no such line', which is in it 0 times, not once: "
        "write the edit for the code as it is."
    )
