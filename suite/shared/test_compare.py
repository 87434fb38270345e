"""A right call passes the comparison, and a wrong one fails by the tensor that it damages, at the rule's very edge."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM
from suite.shared.cases import TWO_LAYERS, Case
from suite.shared.compare import (
    FLOOR,
    TIMES,
    assert_bitwise_equal,
    assert_close,
    compare,
    draw,
    evaluate,
    implementation,
    judge,
    relative_error,
)
from suite.shared.examples import CPU
from suite.shared.oracle import Draw, Results, plain, without_module

F32, F64 = torch.float32, torch.float64
TWO = replace(TWO_LAYERS, T=3, H=7, layer_norm=True)
THREE = replace(TWO_LAYERS, T=3, L=3, state="stacked")


@pytest.mark.parametrize(
    "tensor", ["out", "c_hat", "grad x", "grad state h", "grad layers.1.z_bias", "input x", "input layers.0.bias"]
)
def test_a_fault_is_found_by_the_tensor_that_it_damages(tensor: str) -> None:
    """In the second draw alone."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Results:
        results = plain(model, case, sample)
        kind, name = tensor.split()[0], tensor.split()[-1]
        if torch.initial_seed() == 1 and kind == "input":
            value = sample.x if name == "x" else dict(model.named_parameters())[name]
            value.data[..., -1] = torch.nextafter(value.data[..., -1], torch.tensor(math.inf, dtype=F64))
        elif torch.initial_seed() == 1:
            results[tensor] = results[tensor] * (1 + 1e-10)
        return results

    build = implementation("row_scaled")
    verdicts = compare(build, THREE, F64, CPU, against="row_scaled", draws=2, run=run)
    assert [verdict.tensor for verdict in verdicts if verdict.ratio > 1] == [tensor]


ORACLE = torch.tensor([3.0, 4.0], dtype=F64)
ONE, ZERO = {"out": ORACLE}, torch.zeros(2, dtype=F64)


def off(share: float) -> Tensor:
    """Return the oracle's tensor with this relative error."""
    return ORACLE + torch.tensor([-4.0, 3.0], dtype=F64) * share


@pytest.mark.parametrize("dtype", FLOOR)
@pytest.mark.parametrize("own", [0.0, 1e-2])
def test_the_rule_at_both_sides_of_its_edge(dtype: torch.dtype, own: float) -> None:
    allowed = TIMES * own + FLOOR[dtype] * torch.finfo(dtype).eps
    for share, right in ((0.99, True), (1.01, False)):
        (verdict,) = judge({"out": off(share * allowed)}, ONE, {"out": off(own)}, dtype)
        assert (verdict.ratio <= 1) == right
        assert verdict.allowed == pytest.approx(allowed)


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
    (verdict,) = judge({"out": ORACLE.float()}, ONE, ONE, F32)
    assert verdict.ratio == math.inf


def test_the_worst_verdict_comes_first_and_changed_arguments_are_wrong() -> None:
    oracle = {"a": ORACLE, "b": ORACLE, "c": ORACLE}
    results = {"a": off(1e-7), "input x": ORACLE, "b": off(1e-3), "c": off(1e-9)}
    assert [verdict.tensor for verdict in judge(results, oracle, oracle, F32)] == ["input x", "b", "a", "c"]
    with pytest.raises(ValueError, match=r"expected the tensors \['a', 'b', 'c'\], got \['a'\]"):
        judge({"a": ORACLE}, oracle, oracle, F32)
    with pytest.raises(ValueError, match="naive form: expected a to be finite"):
        judge(oracle, oracle, oracle | {"a": ORACLE * math.nan}, F32)


def test_assertions_name_the_tensor() -> None:
    case = replace(TWO, H=5)
    every = evaluate(implementation("batched"), case, F32, CPU, rounded=F32, draws=1)
    results = {name: every[name] for name in ("out", "grad x")}
    assert_close(results, case, CPU, 1)
    with pytest.raises(AssertionError, match=r"grad x: relative error .*, allowed "):
        assert_close(results | {"grad x": results["grad x"] * 1.01}, case, CPU, 1)
    assert_bitwise_equal({"a": ORACLE}, {"a": ORACLE.clone()})
    for other in (-ORACLE, ORACLE[None], ORACLE.float(), off(1e-15)):
        with pytest.raises(AssertionError):
            assert_bitwise_equal({"a": ORACLE}, {"a": other})


def test_draws_are_random_and_the_same_each_time() -> None:
    case = replace(THREE, H=40, S=30, I=20, Z=6, layer_norm=True, T=4, B=9)
    one, again, other = (draw(case, seed, F32, CPU) for seed in (0, 0, 1))
    assert_bitwise_equal({"x": one.x, **one.params}, {"x": again.x, **again.params})
    assert one.x.data_ptr() != again.x.data_ptr()
    assert one.x.shape == (4, 9, 20)
    assert not one.x.is_contiguous()
    for name, p in one.params.items():
        assert not p.equal(other.params[name])
        assert p.unique().numel() > 0.99 * p.numel()


def test_the_layer_function_is_called_without_the_module() -> None:
    class Broken(HyperLSTM):
        forward = None  # type: ignore[assignment]

    run = partial(plain, call=without_module)
    results = evaluate(implementation("row_scaled", Broken), TWO, F64, CPU, rounded=F64, draws=1, run=run)
    assert results["out"].shape == (1, 3, 3, 7)
