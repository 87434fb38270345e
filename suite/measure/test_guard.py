"""A file that replaces the clock, or sets what the baseline has too, is found."""

import time
from pathlib import Path

import pytest
import torch

from suite.candidates import submission
from suite.measure.guard import guard
from suite.measure.job import RefusedError


@pytest.mark.usefixtures("_withdrawn")
def test_the_file_that_replaces_the_clock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", time.perf_counter)  # and sets it back
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("def run(p, inputs): ...")
    two.write_text("import time\ntime.perf_counter = lambda: 0.0\ndef run(p, inputs): ...")
    with pytest.raises(RefusedError, match=r"^two\.py replaced time\.perf_counter, with which it is measured$"):
        submission.loaded([one, two], guard())


def test_a_setting_that_changes_is_named() -> None:
    check = guard()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    with pytest.raises(
        RefusedError, match=rf"^mine\.py changed torch\.get_num_threads\(\) from {threads} to {threads + 1}, for the"
    ):
        check("mine.py")
    torch.set_num_threads(threads)
    check("mine.py")
