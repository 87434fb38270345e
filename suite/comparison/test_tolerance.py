"""Each clause of the rule: what is right passes, and what is wrong fails by the tensor that is wrong."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM, registry
from suite.cases.case import Case
from suite.cases.examples import CPU
from suite.cases.verification import TWO_LAYERS
from suite.comparison.draws import DRAWS, Draw, by_name, draw, implementation
from suite.comparison.runs import Outcome, Run, plain
from suite.comparison.tensors import Gradient, Result, Results
from suite.comparison.tolerance import (
    DTYPES,
    Judgement,
    assert_bitwise_equal,
    assert_within_rule,
    compare,
    evaluate,
    judge,
    limit,
    reference,
    relative_error,
)

F32, F64 = torch.float32, torch.float64
TWO = replace(TWO_LAYERS, T=3, H=7, layer_norm=True)
THREE = replace(TWO_LAYERS, T=3, L=3, state="stacked")
EXACT = torch.tensor([3.0, 4.0], dtype=F64)


def off(share: float) -> Tensor:
    """The oracle's tensor with this relative error."""
    return EXACT + torch.tensor([-4.0, 3.0], dtype=F64) * share


def on_two_draws(run: Run) -> list[Judgement]:
    return compare(implementation("row_scaled"), THREE, F64, CPU, "row_scaled", draws=2, run=run)


def test_every_parameter_is_random_and_the_same_each_time() -> None:
    one, again, other = (draw(replace(TWO, L=3), seed, F64, CPU).params for seed in (0, 0, 1))
    assert_bitwise_equal(one, again)
    for name, p in one.items():
        assert not p.equal(other[name])
        assert p.unique().numel() > 0.99 * p.numel()


@pytest.mark.parametrize("result", ["out", "c_hat", *map(Gradient, ("x", "state h", "layers.1.z_bias"))], ids=str)
def test_a_fault_is_found_by_the_tensor_that_it_damages(result: Result) -> None:
    """In the second draw alone."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        results = plain(model, case, sample)
        if torch.initial_seed() == 1:
            results[result] = results[result] * (1 + 1e-10)
        return Outcome(results)

    assert [judgement.tensor for judgement in on_two_draws(run) if judgement.wrong] == [str(result)]


@pytest.mark.parametrize("argument", ["x", "layers.0.bias", "state c", "grad h"])
def test_a_changed_argument_is_a_finding(argument: str) -> None:
    """In the second draw alone, by one bit; and so is what a run finds."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        results = plain(model, case, sample)
        if torch.initial_seed() == 1:
            value = by_name(sample)[argument]
            value.data[..., -1] = torch.nextafter(value.data[..., -1], torch.tensor(math.inf, dtype=F64))
            return Outcome(results, ("missing graph: out",))
        return Outcome(results)

    wrong = [judgement.finding for judgement in on_two_draws(run) if judgement.wrong]
    assert wrong == ["missing graph: out", f"argument changed: {argument}"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("own", [0.0, 1e-2])
def test_an_error_is_allowed_up_to_the_limit(dtype: torch.dtype, own: float) -> None:
    for name in ("naive", "batched_cpu"):
        times, floor = limit(name, dtype)
        allowed = times * own + floor * torch.finfo(dtype).eps
        for share, wrong in ((0.99, False), (1.01, True)):
            (judgement,) = judge(name, {"out": off(share * allowed)}, {"out": EXACT}, {"out": off(own)}, dtype)
            assert judgement.wrong == wrong


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


def test_an_output_in_another_dtype_is_wrong_but_not_a_gradient() -> None:
    results: dict[Result, bool] = {"out": True, Gradient("x"): False}
    for result, wrong in results.items():
        (judgement,) = judge("naive", {result: EXACT.float()}, {result: EXACT}, {result: EXACT}, F32)
        assert judgement.wrong == wrong


def test_findings_come_first_then_the_worst_tensor() -> None:
    oracle: Results = {"h": EXACT, "c": EXACT}
    judgements = judge("naive", {"h": off(1e-7), "c": off(1e-3)}, oracle, oracle, F32, ["argument changed: x"])
    assert [(judgement.finding, judgement.tensor) for judgement in judgements] == [
        ("argument changed: x", ""),
        ("", "c"),
        ("", "h"),
    ]
    with pytest.raises(ValueError, match=r"expected .*\['c', 'h'\], got \['h'\]"):
        judge("naive", {"h": EXACT}, oracle, oracle, F32)
    with pytest.raises(ValueError, match=r"torch\.float32: expected h "):
        judge("naive", oracle, oracle, oracle | {"h": EXACT * math.nan}, F32)


def test_dropout_of_everything_is_compared() -> None:
    """The oracle scales what is kept by 1 / (1 - p), which is no number where nothing is."""
    worst = compare(implementation("deferred"), replace(TWO, L=2, dropout=1.0), F64, CPU)[0]
    assert not worst.wrong, worst


def test_assertions_name_the_tensor() -> None:
    case = replace(TWO, H=5)
    every = evaluate(implementation("batched"), case, F32, CPU, rounded=F32, draws=1).results
    grad_x = Gradient("x")
    results: Results = {"out": every["out"], grad_x: every[grad_x]}
    assert_within_rule(results, case, CPU, 1)
    with pytest.raises(AssertionError, match=r"grad x: relative error .*, allowed "):
        assert_within_rule(results | {grad_x: every[grad_x] * 1.01}, case, CPU, 1)
    assert_bitwise_equal({"h": EXACT}, {"h": EXACT.clone()})
    for other in (-EXACT, EXACT[None], EXACT.float(), off(1e-15)):
        with pytest.raises(AssertionError):
            assert_bitwise_equal({"h": EXACT}, {"h": other})


def test_the_oracle_is_called_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HyperLSTM, "forward", None)
    of_no_other_test = replace(TWO, T=2)  # references are cached
    assert reference("row_scaled", of_no_other_test, F64, CPU, F64)["out"].shape == (DRAWS, 2, 3, 7)
