"""Run in a copy of the sources with one more option of the model, by `suite/test_option.py`, and judge what is in it.

The option is a throw-away one, which naive and row_scaled support: a bias of the main LSTM's forget gate.
"""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from impls import HyperLSTM, names, why_unavailable
from impls.registry import find, resolve
from suite.candidates import catalogue, submission
from suite.candidates.names import ALTERNATIVES
from suite.cases.case import Case
from suite.cases.spelling import parse
from suite.cases.verification import DROPOUT, RAGGED
from suite.comparison.draws import implementation
from suite.comparison.tolerance import compare, naive_oracle

OPTION = "forget_bias"
CPU = torch.device("cpu")
F64 = torch.float64
#: Both an option that was there before and sequences of different lengths, which some run piece by piece.
CASES = (replace(DROPOUT[0], dropout=0.0), RAGGED[0])


def right(name: str, case: Case) -> None:
    """Raise AssertionError unless an implementation equals the oracle, which is given the option too."""
    worst = compare(implementation(name), case, F64, CPU, naive_oracle(F64, draws=1))[0]
    assert not worst.wrong, f"{name}, {case.id}: {worst}"


def refused(name: str, case: Case) -> None:
    """Raise AssertionError unless an implementation that lacks the option says so, before and in a call."""
    expected = f"{name} does not support {OPTION}."
    reason = why_unavailable(name, CPU, F64, case.options)
    assert reason == expected, f"{name}: expected {expected!r}, got {reason!r}"
    model = HyperLSTM(case.I, case.H, case.S, case.Z, case.L, layer_norm=case.layer_norm, dtype=F64, impl=name)
    setattr(model, OPTION, getattr(case, OPTION))
    with pytest.raises(RuntimeError, match=re.escape(expected)):
        model(torch.zeros(1, 1, case.I, dtype=F64))


def has_an_effect(case: Case, with_option: Case) -> None:
    """Raise AssertionError unless the option changes what a model computes."""
    torch.manual_seed(0)
    model = HyperLSTM(case.I, case.H, case.S, case.Z, case.L, layer_norm=case.layer_norm, dtype=F64, impl="row_scaled")
    x = torch.randn(3, 2, case.I, dtype=F64)
    without = model(x)[1][1]
    setattr(model, OPTION, getattr(with_option, OPTION))
    assert not torch.allclose(model(x)[1][1], without), f"{OPTION}: expected another c, got the same"


def main(*files: str) -> None:
    """Judge every implementation that runs here and those in files, with the option and without it."""
    for file in files:
        submission.try_out(submission.load(Path(file)), CPU)
    runnable = [name for name in names() if why_unavailable(name, CPU, F64) is None]
    assert {Path(file).stem for file in files} < {*runnable}
    added: dict[str, Any] = {OPTION: 0.7}  # a field that `Case` has in the copy alone
    for case in CASES:
        with_option = replace(case, **added)
        assert parse(with_option.id) == with_option
        assert not any(catalogue.find(name).takes(with_option) for name in ALTERNATIVES)
        assert resolve("auto", CPU, F64, with_option.options).name == "row_scaled"
        has_an_effect(case, with_option)
        for name in runnable:
            right(name, case)
            if OPTION in find(name).options:
                right(name, with_option)
            else:
                refused(name, with_option)
    print(f"{OPTION}: {', '.join(runnable)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
