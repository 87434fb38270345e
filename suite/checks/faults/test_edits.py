"""Every edit that is planted applies to the code as it is; one that does not is reported here, and is no finding."""

from pathlib import Path

import pytest

from suite.checks.equality.gradients import FROZEN, GRADIENTS
from suite.checks.faults.faults import FAULTS, SHOWN, with_groups
from suite.checks.faults.planting import Edited, edits, listed, stale
from suite.comparison.tensors import STATE, Finding, Gradient, Output, Subject, Wrong, parameter
from suite.comparison.tolerance import Judgement


def test_every_edit_applies() -> None:
    reasons = stale(planted.edited for planted in FAULTS)
    assert not reasons, reasons


def test_a_stale_edit_is_named_with_its_file() -> None:
    reason = Edited("slip", edits("row_scaled.py", ("no such line", "")), "row_scaled").stale()
    assert reason == (
        "impls/row_scaled.py: 'slip' replaces 'no such line', which is in it 0 times, not once: "
        "write the edit for the code as it is."
    )


@pytest.mark.parametrize("kind", ["step", FROZEN.name], ids=["of cases", "of another group"])
def test_a_group_of_uses_with_the_name_of_a_kind_is_refused(kind: str) -> None:
    with pytest.raises(
        ValueError, match=f"^group of uses '{kind}': expected a name that no kind of fault has, of step, "
    ):
        with_groups(SHOWN, [GRADIENTS._replace(name=kind)])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('output = "out"', "expected edits and one of output, gradient, .* and finding, got output$"),
        ("edits = []", "expected edits and one of output, .*, got edits$"),
        ('output = "h", finding = "f", edits = []', "expected edits .*, got output, finding, edits$"),
        ('outputs = "h", edits = []', "expected edits and one of output, .*, got outputs, edits$"),
        ('output = "y", edits = []', "output: expected one of out, h, c, h_hat, c_hat, got 'y'$"),
        ('gradient = "x", edits = []', "gradient: expected one of input, state, parameter, gradient, got 'x'$"),
        ('gradient.weight = "c", edits = []', "gradient: expected one of input, .*, got {'weight': 'c'}$"),
        ('argument_changed.state = "y", edits = []', "argument_changed.state: expected one of h, .*, got 'y'$"),
    ],
    ids=["no-edits", "shown-by-nothing", "shown-twice", "key", "output", "no-kind", "kind", "argument"],
)
def test_a_wrong_row_is_named(row: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'[step]\n"slip" = {{ {row} }}')
    with pytest.raises(ValueError, match=f"'slip', {message}"):
        listed(path)


def test_a_parameter_is_that_of_any_layer(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    rows = ['gradient.parameter = "bias"', 'argument_changed.parameter = "bias"', 'output = "h"']
    path.write_text("[step]\n" + "\n".join(f"{n} = {{ {row}, edits = [] }}" for n, row in enumerate(rows)))
    bias, other, state = parameter("layers.1.bias"), parameter("layers.1.weight_h"), STATE[0]
    changed = [Finding(Wrong.ARGUMENT_CHANGED, argument) for argument in (bias, other, state)]
    subjects: list[Subject] = [*map(Gradient, (bias, other, state)), *changed, Output.H, Output.C]
    shown = [[subject for subject in subjects if fault.shown_by(Judgement(subject, 1, 1))] for fault in listed(path)]
    assert shown == [[Gradient(bias)], [changed[0]], ["h"]]
