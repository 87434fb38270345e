"""Cases cost what their models do, and those that are drawn are the same each time."""

from dataclasses import replace
from inspect import signature

import pytest
import torch

from impls import HyperLSTM
from suite.candidates.catalogue import find
from suite.candidates.lstm import LSTM
from suite.cases.case import MODEL_OPTIONS, Case, lengths
from suite.cases.examples import CPU
from suite.cases.verification import DROPOUT, TWO_LAYERS
from suite.cases.workloads import WORKLOADS
from suite.shared.arithmetic import Arithmetic, eps

F32 = torch.float32


@pytest.mark.parametrize(("L", "layer_norm"), [(1, False), (3, True)])
def test_costs_of_a_case_are_those_of_its_model(L: int, layer_norm: bool) -> None:
    case = Case(T=3, B=2, I=5, H=7, S=11, Z=13, L=L, layer_norm=layer_norm)
    steps = [4 * 7 * (7 + I) + 4 * 11 * (7 + I + 11) + 12 * 13 * (11 + 7) for I in (5, 7, 7)[:L]]
    assert case.multiply_adds() == 6 * sum(steps)
    ragged, x, h = replace(case, lengths=(3, 1)), 6 * sum((5, 7, 7)[:L]), 6 * 7 * L
    assert ragged.multiply_adds() == 4 * sum(steps)
    assert LSTM.multiply_adds(ragged) == 4 * sum(4 * 7 * (7 + I) for I in (5, 7, 7)[:L])
    assert case.least_numbers(100, 9, train=False) == x + h + 100
    assert case.least_numbers(100, 9, train=True) == 2 * x + 3 * h + 2 * 6 * 9 * L + 300
    assert ragged.least_numbers(0, 9, train=True) == 4 / 6 * (2 * x + 3 * h + 2 * 6 * 9 * L)
    assert [find(name).saved(case) for name in ("batched", "jax", "torch.nn.LSTM")] == [7 + 22, 7 + 22, 7]


def test_ids_name_what_a_case_needs() -> None:
    assert DROPOUT[2].id == "T4-B3-I4-H7-S5-Z2-L2-lengths2.4.1-dropout0.25-recurrent_dropout0.4"
    assert DROPOUT[4].id == "T3-B2-I3-H6-S5-Z3-L2-dropout0.5-recurrent_dropout0.5-eval"
    assert replace(TWO_LAYERS, layer_norm=True).id == "T7-B3-I5-H16-S8-Z4-L2-strided-shared-norm"
    assert set(DROPOUT[0].options) == {"layer_norm", "recurrent_dropout"}


def test_a_workload_is_shortened_with_its_lengths() -> None:
    whole = WORKLOADS["char-ptb-ragged"]
    short = whole.shortened.case
    assert (short.T, short.B, short.lengths) == (20, 64, lengths(20, 64))
    assert whole.shortened.whole == whole.whole == whole.case != short
    assert WORKLOADS["medium"].shortened == WORKLOADS["medium"]
    packed = [workload.case for workload in WORKLOADS.values() if workload.case.lengths]
    assert len(packed) == 3
    assert all(case.lengths == lengths(case.T, case.B) for case in packed)


@pytest.mark.parametrize(("T", "B"), [(20, 64), (9, 1), (4, 3)])
def test_lengths_are_sorted_and_at_least_a_quarter_of_the_longest(T: int, B: int) -> None:
    drawn = lengths(T, B)
    assert drawn == lengths(T, B) == tuple(sorted(drawn, reverse=True))
    assert (len(drawn), drawn[0]) == (B, T)
    assert min(drawn) >= T // 4
    assert B < 9 or 0.5 < sum(drawn) / (T * B) < 0.75
    assert B < 9 or (min(drawn) == T // 4 and drawn != lengths(T, B, draw=1))


def test_the_options_of_a_case_are_those_of_the_model() -> None:
    every = signature(HyperLSTM).parameters.values()
    keywords = {parameter.name for parameter in every if parameter.kind is parameter.KEYWORD_ONLY}
    assert {*MODEL_OPTIONS} == keywords - {"batch_first", "impl", "device", "dtype"}


GPU = torch.device("cuda")


def test_arithmetic_is_set_for_products_of_all_libraries() -> None:
    states = []
    for arithmetic in (Arithmetic.TF32, Arithmetic.BFLOAT16, Arithmetic.FLOAT32):
        arithmetic.use()
        of_products = [eps(dtype, GPU) for dtype in (F32, torch.bfloat16)]
        states.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, of_products))
        assert eps(F32, CPU) == torch.finfo(F32).eps
    coarse, fine, half = (torch.finfo(dtype).eps for dtype in (torch.float16, F32, torch.bfloat16))
    assert states == [("high", True, [coarse, half]), *[("highest", False, [fine, half])] * 2]


def test_an_arithmetic_has_the_dtype_of_its_name() -> None:
    dtypes = {str(arithmetic): str(arithmetic.dtype) for arithmetic in Arithmetic}
    assert dtypes == {**{name: f"torch.{name}" for name in dtypes}, "tf32": "torch.float32"}
    with pytest.raises(ValueError, match="'nn' is not a valid Arithmetic"):
        Arithmetic("nn")


@pytest.mark.parametrize(("capability", "able"), [((7, 5), False), ((8, 0), True)])
def test_tf32_needs_a_gpu_that_has_it(capability: tuple[int, int], able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    refused = "tf32 needs a GPU of compute capability 8.0 or higher."
    assert Arithmetic.TF32.why_not(GPU) == (None if able else refused)
    assert Arithmetic.TF32.why_not(CPU) == refused
    assert Arithmetic.FLOAT32.why_not(GPU) is None
