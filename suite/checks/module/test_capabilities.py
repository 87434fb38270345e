"""The capability matrix, cell by cell: each implementation passes the check, or refuses with its own error."""

import pandas as pd
import pytest
import torch

from impls import names
from suite.checks.module import capability_checks
from suite.checks.module.capabilities import CAPABILITIES, Capability, Outcome, outcome
from suite.checks.module.capability_checks import Check
from suite.conftest import Keep
from suite.pages.sheets import Sheet
from suite.pages.verify import matrix
from suite.shared.process import rows_of

CPU = torch.device("cpu")


def _cells(ranks: bool) -> pytest.MarkDecorator:
    cells = [(one, name) for one in CAPABILITIES if one.ranks == ranks for name in names()]
    ids = [f"{one.name.replace(' ', '-')}-{name}" for one, name in cells]
    return pytest.mark.parametrize(("capability", "name"), cells, ids=ids)


def _settle(capability: Capability, name: str, result: Outcome, keep: Keep) -> None:
    """Keep the cell, and compare it with what the table expects."""
    keep("capabilities", capability=capability.name, implementation=name, outcome=result.word, reason=result.reason)
    if result.word == "not run":
        pytest.skip(result.reason)
    expected = "no" if name in capability.refusals else "pass"
    assert result.word == expected, result.reason


@_cells(ranks=False)
def test_capability(capability: Capability, name: str, device: torch.device, keep: Keep) -> None:
    _settle(capability, name, outcome(capability, name, device), keep)


@pytest.fixture(scope="module")
def halves() -> pd.DataFrame:
    """Outcomes of two processes with half a batch each."""
    return rows_of("suite.checks.module.capabilities").fillna("").set_index(["capability", "implementation"])


@_cells(ranks=True)
def test_capability_of_two_ranks(
    capability: Capability, name: str, halves: pd.DataFrame, device: torch.device, keep: Keep
) -> None:
    row = halves.loc[(capability.name, name)]
    # Both ranks run on the CPU even if the rest runs on a GPU, whose page has no such row then.
    _settle(capability, name, Outcome(row["outcome"], row["reason"]), keep if device.type == "cpu" else _drop)


def _drop(page: str, **row: object) -> None:
    """Keep no row."""


def _raises(error: Exception) -> Check:
    def check(name: str, device: torch.device) -> None:
        raise error

    return check


NO = {"batched": "batched cannot; use naive"}


@pytest.mark.parametrize(
    ("check", "refusals", "expected"),
    [
        (lambda name, device: None, {}, "pass"),
        (_raises(NotImplementedError("batched cannot; use naive")), NO, "no"),
        (_raises(NotImplementedError("batched cannot; use naive")), {}, "FAIL"),
        (_raises(RuntimeError("expected a contiguous tensor")), NO, "FAIL"),
        (_raises(AssertionError("batched cannot; use naive")), NO, "FAIL"),
        (lambda name, device: None, NO, "FAIL"),
    ],
)
def test_only_the_expected_refusal_is_a_no(check: Check, refusals: dict[str, str], expected: str) -> None:
    assert outcome(Capability("a capability", check, refusals), "batched", CPU).word == expected


def test_a_wrong_number_is_a_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check of results sees a gradient that is off by a thousandth."""
    right = capability_checks.Example.results

    def wrong(self: capability_checks.Example, call: object = None) -> dict[str, torch.Tensor]:
        results = right(self, call)  # type: ignore[arg-type]
        return results if call is None else {**results, "grad x": 1.001 * results["grad x"]}

    monkeypatch.setattr(capability_checks.Example, "results", wrong)
    monkeypatch.setattr(capability_checks, "checkpoint", lambda model, x, **_: (1.001 * model(x)[0],))
    words = [outcome(one, "batched", CPU).word for one in CAPABILITIES if one.name.startswith(("auto", "gradient"))]
    assert words == ["FAIL"] * 3


def test_cells_share_numbered_reasons() -> None:
    rows = [("a", "naive", "pass", None), ("a", "batched", "no", "Why."), ("b", "naive", "not run", "Why.")]
    columns = ["capability", "implementation", "outcome", "reason"]
    sheet, reasons = matrix(pd.DataFrame(rows, columns=columns))
    assert isinstance(sheet, Sheet)
    assert [line["`naive`"] for line in sheet.words()] == ["pass", "not run (1)"]
    assert [line["`batched`"] for line in sheet.words()] == ["no (1)", "-"]
    assert reasons == "1. Why."
