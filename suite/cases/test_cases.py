"""Cases cost what their models do; a size that a person names is that of a case, or an error names the part."""

import re
from collections.abc import Callable
from dataclasses import replace
from inspect import signature

import pytest
import torch

from impls import HyperLSTM
from suite.candidates.catalogue import find
from suite.candidates.lstm import LSTM
from suite.cases.case import MODEL_OPTIONS, Case, lengths
from suite.cases.examples import CPU
from suite.cases.spelling import MEDIUM, SPELLING, SizeError, along, axis, parse, short
from suite.cases.verification import (
    DROPOUT,
    IN_EVERY_DTYPE,
    IN_FLOAT64,
    ROWS,
    SPLIT,
    TWO_LAYERS,
    VERIFY_TILES,
    WIDE,
)
from suite.cases.workloads import TIMED, WORKLOADS
from suite.shared.arithmetic import Arithmetic, eps

F32, GPU = torch.float32, torch.device("cuda")
EVERY = [
    *IN_EVERY_DTYPE,
    *IN_FLOAT64,
    *VERIFY_TILES,
    *WIDE,
    SPLIT,
    ROWS,
    *TIMED,
    *(workload.case for workload in WORKLOADS.values()),
]


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
    workload = WORKLOADS["char-ptb-ragged"]
    short = workload.shortened.case
    assert (short.T, short.B, short.lengths) == (20, 64, lengths(20, 64))
    assert workload.shortened.whole == workload.case != short
    assert WORKLOADS["medium"].shortened == WORKLOADS["medium"]
    assert max(lengths(20, 64)) == 20
    assert 0.5 < sum(lengths(20, 64)) / (20 * 64) < 0.75


def test_the_options_of_a_case_are_those_of_the_model() -> None:
    every = signature(HyperLSTM).parameters.values()
    keywords = {parameter.name for parameter in every if parameter.kind is parameter.KEYWORD_ONLY}
    assert {*MODEL_OPTIONS} == keywords - {"batch_first", "impl", "device", "dtype"}


def test_every_case_is_what_its_id_says() -> None:
    for case in EVERY:
        assert parse(case.id) == parse(short(case)) == case


@pytest.mark.parametrize("probability", [5e-5, 0.1234567, 1 / 3])
def test_an_id_has_every_digit_of_a_probability(probability: float) -> None:
    case = replace(MEDIUM, recurrent_dropout=probability)
    assert parse(case.id) == case


def test_the_short_name_has_what_is_not_medium() -> None:
    assert short(MEDIUM) == "H256"
    assert short(replace(MEDIUM, H=512, B=1, L=2, layer_norm=True)) == "B1-H512-L2-norm"


def test_parts_stand_in_any_order_and_may_be_left_out() -> None:
    assert parse("H512") == replace(MEDIUM, H=512)
    assert parse("norm-L2-B1-recurrent_dropout0.1") == replace(MEDIUM, B=1, L=2, layer_norm=True, recurrent_dropout=0.1)
    assert parse("lengths3.9.4") == replace(MEDIUM, T=9, B=3, lengths=(3, 9, 4))
    assert parse(SPELLING).lengths == (50, 40, 7)


@pytest.mark.parametrize(
    ("read", "text", "part", "names"),
    [
        (parse, "H512-Q3", "'Q3'", "T, B, I, H, S, Z, L, lengths"),
        (parse, "", "''", "T"),
        (parse, "H0", "'H0'", ""),
        (parse, "H2.5", "'H2.5'", ""),
        (parse, "H5-S3-H6", "'H6'", "H"),
        (parse, "shared-stacked", "'stacked'", "state"),
        (parse, "dropout0", "'dropout0'", ""),
        (parse, "dropout0.1.2", "'dropout0.1.2'", ""),
        (parse, "lengths3.0", "'lengths3.0'", ""),
        (parse, "B2-lengths3.1.1", "'B2'", "B3"),
        (axis, "Q=1,2", "'Q=1,2'", "H=128,256,512"),
        (axis, "H=8,x", "'H=x'", ""),
        (axis, "H=8,8,9", "'H=8,8,9'", ""),
    ],
)
def test_a_wrong_part_is_named_beside_the_spelling(
    read: Callable[[str], object], text: str, part: str, names: str
) -> None:
    with pytest.raises(SizeError, match=f"^{part}: expected .*{names}") as error:
        read(text)
    assert SPELLING in str(error.value)


def test_an_axis_has_values_of_one_size_in_order() -> None:
    assert axis("H=512,128,256") == ("H", [128, 256, 512])
    assert along(parse("H64-norm"), *axis("L=1,3")) == [parse("H64-norm"), parse("H64-L3-norm")]
    assert len(along(parse("lengths3.2"), *axis("H=2,3"))) == 2
    with pytest.raises(SizeError, match="'T=2': expected "):
        along(parse("lengths3.2"), *axis("T=2,3"))


def test_arithmetic_is_set_for_products_of_all_libraries() -> None:
    states = []
    for arithmetic in (Arithmetic.TF32, Arithmetic.BFLOAT16, Arithmetic.FLOAT32):
        arithmetic.use()
        of_products = [eps(dtype, GPU) for dtype in (F32, torch.bfloat16)]
        states.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, of_products))
        assert eps(F32, CPU) == torch.finfo(F32).eps
    coarse, fine, half = (torch.finfo(dtype).eps for dtype in (torch.float16, F32, torch.bfloat16))
    assert states == [("high", True, [coarse, half]), *[("highest", False, [fine, half])] * 2]


@pytest.mark.parametrize(("capability", "able"), [((7, 5), False), ((8, 0), True)])
def test_tf32_needs_a_gpu_that_has_it(capability: tuple[int, int], able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert (Arithmetic.TF32.why_not(GPU) is None) is able
    assert re.match("tf32 .*8.0", str(Arithmetic.TF32.why_not(CPU)))
    assert Arithmetic.FLOAT32.why_not(GPU) is None
