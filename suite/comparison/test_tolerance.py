"""A right call passes the comparison, and a wrong one fails by the tensor that it damages, at the rule's very edge."""

import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM
from suite.cases.case import Case, Start
from suite.cases.examples import CPU
from suite.cases.verification import TWO_LAYERS
from suite.comparison import tolerance
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
    FLOOR,
    TIMES,
    Judgement,
    Oracle,
    assert_bitwise_equal,
    assert_within_rule,
    compare,
    evaluate,
    judge,
    relative_error,
)

F32, F64 = torch.float32, torch.float64
TWO = replace(TWO_LAYERS, T=3, H=7, layer_norm=True)
THREE = replace(TWO_LAYERS, T=3, L=3, state=Start.STACKED)
TWO_DRAWS = Oracle("row_scaled", F64, draws=2)


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


ORACLE = torch.tensor([3.0, 4.0], dtype=F64)
ONE: Results = {Output.OUT: ORACLE}
ZERO = torch.zeros(2, dtype=F64)


def off(share: float) -> Tensor:
    """Return the oracle's tensor with this relative error."""
    return ORACLE + torch.tensor([-4.0, 3.0], dtype=F64) * share


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("own", [0.0, 1e-2])
def test_the_rule_at_both_sides_of_its_edge(dtype: torch.dtype, own: float) -> None:
    allowed = TIMES * own + FLOOR[dtype] * torch.finfo(dtype).eps
    for share, right in ((0.99, True), (1.01, False)):
        (judgement,) = judge({Output.OUT: off(share * allowed)}, ONE, {Output.OUT: off(own)}, dtype)
        assert judgement.wrong != right
        assert judgement.allowed == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("value", "oracle", "error"),
    [
        (ORACLE, ORACLE, 0),
        (off(0.25), ORACLE, 0.25),
        (ZERO, ZERO, 0),
        (ORACLE * 1e-30, ZERO, math.inf),
        (ORACLE * math.nan, ORACLE, math.inf),
        (torch.tensor([3.0, math.inf]), ORACLE, math.inf),
        (ORACLE[:1], ORACLE, math.inf),
    ],
)
def test_the_relative_error(value: Tensor, oracle: Tensor, error: float) -> None:
    assert relative_error(value, oracle) == pytest.approx(error)


def test_an_output_in_another_dtype_is_wrong() -> None:
    for name in (Output.OUT, Piece(Output.C, 0), Piece(Output.C, 0, derivative=True)):
        (judgement,) = judge({name: ORACLE.float()}, {name: ORACLE}, {name: ORACLE}, F32)
        assert judgement.ratio == math.inf
    of_x: Results = {Gradient(X): ORACLE}
    (judgement,) = judge({Gradient(X): ORACLE.float()}, of_x, of_x, F32)
    assert judgement.ratio == 0


def test_dropout_of_everything_is_compared() -> None:
    """The oracle scales what is kept by 1 / (1 - p), which is no number where nothing is."""
    worst = compare(implementation("deferred"), replace(TWO, L=2, dropout=1.0), F64, CPU, TWO_DRAWS)[0]
    assert not worst.wrong, worst


def test_findings_come_first_then_the_worst_tensor() -> None:
    oracle: Results = {Output.H: ORACLE, Output.C: ORACLE, Output.OUT: ORACLE}
    results: Results = {Output.H: off(1e-7), Output.C: off(1e-3), Output.OUT: off(1e-9)}
    changed = Finding(Wrong.ARGUMENT_CHANGED, X)
    finding, *tensors = judge(results, oracle, oracle, F32, [changed])
    assert (finding.subject, finding.ratio, str(finding)) == (changed, math.inf, "argument changed: x")
    assert (finding.columns["finding"], finding.columns["tensor"]) == ("argument changed: x", "")
    assert [judgement.subject for judgement in tensors] == [Output.C, Output.H, Output.OUT]
    assert (tensors[0].columns["finding"], tensors[0].columns["tensor"]) == ("", "c")
    assert str(replace(tensors[0], use="observed")).startswith("c, observed: relative error 1.00e-03, allowed ")
    with pytest.raises(ValueError, match=r"expected the tensors \['c', 'h', 'out'\], got \['h'\]"):
        judge({Output.H: ORACLE}, oracle, oracle, F32)
    with pytest.raises(ValueError, match=r"oracle in torch\.float32: expected h to be finite"):
        judge(oracle, oracle, oracle | {Output.H: ORACLE * math.nan}, F32)


def test_assertions_name_the_tensor() -> None:
    case = replace(TWO, H=5)
    every = evaluate(implementation("batched"), case, F32, CPU, rounded=F32, draws=1).results
    results: Results = {name: every[name] for name in (Output.OUT, Gradient(X))}
    assert_within_rule(results, case, CPU, 1)
    with pytest.raises(AssertionError, match=r"grad x: relative error .*, allowed "):
        assert_within_rule(results | {Gradient(X): results[Gradient(X)] * 1.01}, case, CPU, 1)
    assert_bitwise_equal({Output.H: ORACLE}, {Output.H: ORACLE.clone()})
    for other in (-ORACLE, ORACLE[None], ORACLE.float(), off(1e-15)):
        with pytest.raises(AssertionError):
            assert_bitwise_equal({Output.H: ORACLE}, {Output.H: other})


def test_what_is_spelled_alike_is_compared_apart() -> None:
    both = {Gradient(X): ORACLE, str(Gradient(X)): ORACLE}
    with pytest.raises(AssertionError):
        assert_bitwise_equal(both | {Gradient(X): -ORACLE}, both)


@pytest.mark.parametrize(("error", "wrong"), [(1.0, False), (1.0 + 1e-9, True), (math.inf, True), (math.nan, True)])
def test_whatever_is_not_within_its_limit_is_wrong(error: float, wrong: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    judgement = Judgement(Output.OUT, error, 1.0)
    monkeypatch.setattr(tolerance, "judge", lambda *_: [judgement])
    assert judgement.wrong == wrong
    with pytest.raises(AssertionError, match="out: relative error") if wrong else nullcontext():
        assert_within_rule({}, TWO, CPU, 1)


def test_the_layer_function_is_called_without_the_module() -> None:
    class Broken(HyperLSTM):
        forward = None  # type: ignore[assignment]

    run = partial(run_plain, call=without_module)
    outcome = evaluate(implementation("row_scaled", Broken), TWO, F64, CPU, rounded=F64, draws=1, run=run)
    assert outcome.results[Output.OUT].shape == (1, 3, 3, 7)
