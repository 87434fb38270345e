"""A registered implementation is listed, and a bad one raises; `suite/test_submission.py` runs some."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from impls import HyperLSTM, Impl, names, register, registry
from impls.definition import Inputs
from suite.candidates import submission
from suite.checks.module.files import BY_HAND
from suite.checks.module.runs import CASE
from suite.comparison.draws import implementation

CPU = torch.device("cpu")
F32 = torch.float32


@pytest.mark.usefixtures("_withdrawn")
def test_is_listed_and_not_taken_for_auto(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BY_HAND)
    submission.load(tmp_path / "mine.py")
    assert names()[-1] == "mine"
    assert "impl=mine" in repr(implementation("mine")(CASE, F32, CPU))
    assert registry.resolve("auto", CPU, F32).name != "mine"
    assert hasattr(torch.ops.hyperlstm_in_mine, "mine")  # a name that no operator of ours can have


@pytest.mark.usefixtures("_withdrawn")
def test_auto_prefers_none_that_a_user_registers() -> None:
    """And a name may be registered again, as by a cell of a notebook that runs twice."""
    register(Impl("other", preference=9, multiples={"H": 8}), run)
    assert registry.resolve("auto", CPU, F32, sizes={"H": 8}).name == "other"
    with pytest.raises(RuntimeError, match=r"other needs a hidden_size that is a multiple of 8, not 4\."):
        HyperLSTM(3, 4, 2, 1, 1, impl="other")(torch.zeros(1, 1, 3))
    register(Impl("other"), run)
    assert HyperLSTM(3, 4, 2, 1, 1, impl="other").impl == names()[-1] == "other"
    assert registry.resolve("auto", CPU, F32).name != "other"


GOOD = Impl("other")


def run(p: object, inputs: Inputs) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("impl", "function", "error", "message"),
    [
        (replace(GOOD, name="batched"), run, ValueError, "^impl.name: expected a name other than .*; got 'batched'"),
        (replace(GOOD, name="auto"), run, ValueError, "^impl.name: expected a name other than .*; got 'auto'"),
        (replace(GOOD, options=frozenset({"proj"})), run, ValueError, "^impl.options: expected some of .*; got proj"),
        (replace(GOOD, dtypes=(torch.int8,)), run, ValueError, "^impl.dtypes: expected floating.*got torch.int8"),
        (replace(GOOD, dtypes=("float32",)), run, ValueError, "^impl.dtypes: expected floating.*got 'float32'"),  # type: ignore[arg-type]
        (replace(GOOD, devices=("cuda:0",)), run, ValueError, "^impl.devices: expected types .*got 'cuda:0'"),
        (replace(GOOD, multiples={"T": 8}), run, ValueError, "^impl.multiples: expected positive numbers by I"),
        (replace(GOOD, probe=True), run, ValueError, "^impl: expected no probe"),
        (replace(GOOD, interpreted_on=("cpu",)), run, ValueError, "^impl: expected no .* interpreted_on"),
        (replace(GOOD, builds_weights=True), run, ValueError, "^impl: expected no .* or builds_weights"),
        (GOOD, None, TypeError, "^register: expected an Impl and a function, got .* and None"),
        ("other", run, TypeError, "^register: expected an Impl and a function, got 'other'"),
    ],
)  # fmt: skip
def test_a_bad_registration_raises_and_adds_nothing(
    impl: Any, function: Any, error: type[Exception], message: str
) -> None:
    before = [*registry.IMPLS]
    with pytest.raises(error, match=message):
        register(impl, function)
    assert before == registry.IMPLS
