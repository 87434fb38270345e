"""The progress of a run: a line per file in a pipe, a bar in a terminal, failures at once, and files that slow down."""

import io
from typing import Any

import pytest
from rich.console import Console

from suite.checks import progress
from suite.checks.progress import TIME, Shown

FILE, OTHER = "suite/checks/a/test_a.py", "suite/checks/a/test_b.py"
IDS = [f"{FILE}::test_one[x]", f"{FILE}::test_two", f"{OTHER}::test_of_something_else"]


def report(nodeid: str, when: str, outcome: str, time: float = 0.0) -> pytest.TestReport:
    about: dict[str, Any] = {"location": ("", 0, ""), "keywords": {}, "longrepr": None, "when": when}
    return pytest.TestReport(nodeid, outcome=outcome, user_properties=[(TIME, time)] * (when == "teardown"), **about)  # type: ignore[arg-type]


def run(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, compares: bool = True) -> str:
    """Output of a run of three tests: one passes, one fails, one is skipped."""
    out = io.StringIO()
    monkeypatch.setattr(progress, "TIMES", {FILE: [2.0, 9.0], OTHER: [2.0, 9.0]})
    monkeypatch.setattr(progress, "Console", lambda: Console(file=out, width=80, force_terminal=terminal))
    shown = Shown(thorough=False, compares=compares)
    shown.pytest_xdist_node_collection_finished(IDS)
    for nodeid, when, outcome in zip(IDS, ("call", "call", "setup"), ("passed", "failed", "skipped"), strict=True):
        shown.pytest_runtest_logstart(nodeid)
        shown.pytest_runtest_logreport(report(nodeid, when, outcome))
        shown.pytest_runtest_logreport(report(nodeid, "teardown", "passed", time=2.5))
    shown.pytest_sessionfinish()
    shown.pytest_terminal_summary()
    return out.getvalue()


def test_a_pipe_gets_a_line_for_each_file(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, first, second, *_ = run(monkeypatch, terminal=False).splitlines()
    assert failed == f"FAILED {IDS[1]}"
    assert first.split() == ["0:00", "checks/a/test_a.py", "1", "passed,", "1", "FAILED"]
    assert second.split() == ["0:00", "checks/a/test_b.py", "1", "not", "run", "here"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(monkeypatch, terminal=True)
    assert f"FAILED {IDS[1]}" in shown
    assert "b: of something else" in shown
    assert "2 of 3" in shown
    assert "passed" not in shown


def test_a_file_that_slows_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, last = run(monkeypatch, terminal=False).splitlines()
    assert last.strip() == "checks/a/test_a.py: 5.0, usually 2.0"
    assert "usually" not in run(monkeypatch, terminal=False, compares=False)
