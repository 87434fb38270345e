"""Each clause of the rule: what is right passes, and what is wrong fails by the tensor that is wrong."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM, registry
from suite.cases.case import Case, Start
from suite.cases.examples import CPU
from suite.cases.verification import TWO_LAYERS
from suite.comparison.draws import Draw, by_argument, implementation
from suite.comparison.runs import Outcome, plain, run_plain, without_module
from suite.comparison.tensors import (
    COTANGENTS,
    STATE,
    Argument,
    Finding,
    Gradient,
    Output,
    Piece,
    Result,
    Results,
    Wrong,
    X,
    parameter,
)
from suite.comparison.tolerance import (
    DTYPES,
    Judgement,
    Oracle,
    assert_bitwise_equal,
    assert_within_rule,
    compare,
    evaluate,
    judge,
    limit,
    relative_error,
)

F32, F64 = torch.float32, torch.float64
TWO = replace(TWO_LAYERS, T=3, H=7, layer_norm=True)
THREE = replace(TWO_LAYERS, T=3, L=3, state=Start.STACKED)
TWO_DRAWS = Oracle("row_scaled", F64, draws=2)
EXACT = torch.tensor([3.0, 4.0], dtype=F64)
ONE: Results = {Output.OUT: EXACT}


def off(share: float) -> Tensor:
    """The oracle's tensor with this relative error."""
    return EXACT + torch.tensor([-4.0, 3.0], dtype=F64) * share


@pytest.mark.parametrize(
    "result", [Output.OUT, Output.C_HAT, *map(Gradient, (X, STATE[0], parameter("layers.1.z_bias")))], ids=str
)
def test_a_fault_is_found_by_the_tensor_that_it_damages(result: Result) -> None:
    """In the second draw alone."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        results = plain(model, case, sample)
        if torch.initial_seed() == 1:
            results[result] = results[result] * (1 + 1e-10)
        return Outcome(results)

    judgements = compare(implementation("row_scaled"), THREE, F64, CPU, TWO_DRAWS, run=run)
    assert [judgement.subject for judgement in judgements if judgement.wrong] == [result]


@pytest.mark.parametrize("argument", [X, parameter("layers.0.bias"), STATE[1], COTANGENTS[1]], ids=str)
def test_a_changed_argument_is_a_finding(argument: Argument) -> None:
    """In the second draw alone, by one bit; and so is what a run finds."""
    seen = Finding(Wrong.NO_EFFECT, Output.OUT)

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        results = plain(model, case, sample)
        if torch.initial_seed() == 1:
            value = by_argument(sample)[argument]
            value.data[..., -1] = torch.nextafter(value.data[..., -1], torch.tensor(math.inf, dtype=F64))
        return Outcome(results, (seen,) if torch.initial_seed() == 1 else ())

    judgements = compare(implementation("row_scaled"), THREE, F64, CPU, TWO_DRAWS, run=run)
    wrong = [judgement.subject for judgement in judgements if judgement.wrong]
    assert wrong == [seen, Finding(Wrong.ARGUMENT_CHANGED, argument)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("own", [0.0, 1e-2])
def test_an_error_is_allowed_up_to_the_limit(dtype: torch.dtype, own: float) -> None:
    for name in ("naive", "batched_cpu"):
        times, floor = limit(name, dtype)
        allowed = times * own + floor * torch.finfo(dtype).eps
        for share, wrong in ((0.99, False), (1.01, True)):
            (judgement,) = judge(name, {Output.OUT: off(share * allowed)}, ONE, {Output.OUT: off(own)}, dtype)
            assert judgement.wrong == wrong
            assert judgement.allowed == pytest.approx(allowed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_declares_sums_in_float32(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """After which it is allowed less in half precision."""

    def allowed() -> float:
        return min(judgement.allowed for judgement in compare(implementation("batched"), TWO, dtype, CPU))

    before = allowed()
    rows = [replace(row, float32_sums=row.float32_sums or row.name == "batched") for row in registry.IMPLS]
    monkeypatch.setattr(registry, "IMPLS", rows)
    assert (allowed() < before) == (dtype.itemsize == 2)


@pytest.mark.parametrize(
    ("value", "oracle", "error"),
    [
        (EXACT, EXACT, 0),
        (off(0.25), EXACT, 0.25),
        (EXACT * 0, EXACT * 0, 0),
        (EXACT * 1e-30, EXACT * 0, math.inf),
        (EXACT * math.nan, EXACT, math.inf),
        (torch.tensor([3.0, math.inf]), EXACT, math.inf),
        (EXACT[:1], EXACT, math.inf),
    ],
)
def test_the_relative_error(value: Tensor, oracle: Tensor, error: float) -> None:
    assert relative_error(value, oracle) == pytest.approx(error)


@pytest.mark.parametrize(("error", "wrong"), [(1.0, False), (1.0 + 1e-9, True), (math.inf, True), (math.nan, True)])
def test_nan_is_within_no_limit(error: float, wrong: bool) -> None:
    assert Judgement(Output.OUT, error, 1.0).wrong == wrong


def test_an_output_in_another_dtype_is_wrong_but_not_a_gradient() -> None:
    results: list[Result] = [Output.OUT, Piece(Output.C, 0), Piece(Output.C, 0, derivative=True), Gradient(X)]
    for result, wrong in zip(results, (True, True, True, False), strict=True):
        (judgement,) = judge("naive", {result: EXACT.float()}, {result: EXACT}, {result: EXACT}, F32)
        assert judgement.wrong == wrong


def test_findings_come_first_then_the_worst_tensor() -> None:
    oracle: Results = {Output.H: EXACT, Output.C: EXACT}
    changed = Finding(Wrong.ARGUMENT_CHANGED, X)
    judgements = judge("naive", {Output.H: off(1e-7), Output.C: off(1e-3)}, oracle, oracle, F32, [changed])
    assert [judgement.subject for judgement in judgements] == [changed, Output.C, Output.H]
    assert [judgement.columns["tensor"] for judgement in judgements] == ["", "c", "h"]
    assert str(judgements[0]) == judgements[0].columns["finding"] == "argument changed: x"
    with pytest.raises(ValueError, match=r"expected the tensors \['c', 'h'\], got \['h'\]"):
        judge("naive", {Output.H: EXACT}, oracle, oracle, F32)
    with pytest.raises(ValueError, match=r"oracle in torch\.float32: expected h to be finite"):
        judge("naive", oracle, oracle, oracle | {Output.H: EXACT * math.nan}, F32)


def test_dropout_of_everything_is_compared() -> None:
    """The oracle scales what is kept by 1 / (1 - p), which is no number where nothing is."""
    worst = compare(implementation("deferred"), replace(TWO, L=2, dropout=1.0), F64, CPU, TWO_DRAWS)[0]
    assert not worst.wrong, worst


def test_assertions_name_the_tensor() -> None:
    case = replace(TWO, H=5)
    every = evaluate(implementation("batched"), case, F32, CPU, rounded=F32, draws=1).results
    results: Results = {name: every[name] for name in (Output.OUT, Gradient(X))}
    assert_within_rule(results, case, CPU, 1)
    with pytest.raises(AssertionError, match=r"grad x: relative error .*, allowed "):
        assert_within_rule(results | {Gradient(X): results[Gradient(X)] * 1.01}, case, CPU, 1)
    assert_bitwise_equal({Output.H: EXACT}, {Output.H: EXACT.clone()})
    for other in (-EXACT, EXACT[None], EXACT.float(), off(1e-15)):
        with pytest.raises(AssertionError):
            assert_bitwise_equal({Output.H: EXACT}, {Output.H: other})


def test_the_oracle_is_called_without_the_module() -> None:
    class Broken(HyperLSTM):
        forward = None  # type: ignore[assignment]

    run = partial(run_plain, call=without_module)
    outcome = evaluate(implementation("row_scaled", Broken), TWO, F64, CPU, rounded=F64, draws=1, run=run)
    assert outcome.results[Output.OUT].shape == (1, 3, 3, 7)
