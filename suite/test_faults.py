"""Every edit that is planted applies to the code as it is; in a verification one that does not is skipped."""

from suite.checks.faults.faults import FAULTS


def test_every_edit_applies() -> None:
    stale = [sentence for sentence in (fault.stale() for fault in FAULTS) if sentence]
    assert not stale, "\n".join(stale)
