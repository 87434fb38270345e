"""A size that a person names is that of a case, or an error names the part."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from suite.cases import verification
from suite.cases.case import Case, Start
from suite.cases.spelling import MEDIUM, SPELLING, Axis, SizeError, axis, parse, short
from suite.cases.workloads import TIMED, WORKLOADS

TABLES = (
    verification.VERIFY,
    verification.RAGGED,
    verification.DROPOUT,
    verification.VERIFY_FIRST,
    verification.VERIFY_TINY,
    verification.VERIFY_TILES,
    verification.WIDE,
)
EVERY = [
    *(case for table in TABLES for case in table),
    verification.SPLIT,
    verification.ROWS,
    *TIMED,
    *(workload.case for workload in WORKLOADS.values()),
]


def test_every_case_is_what_its_id_says() -> None:
    assert len(EVERY) > 90
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
    assert WORKLOADS["medium"].case == MEDIUM
    assert parse("H512") == replace(MEDIUM, H=512)
    assert parse("norm-L2-B1-recurrent_dropout0.1") == replace(MEDIUM, B=1, L=2, layer_norm=True, recurrent_dropout=0.1)
    assert parse("lengths3.9.4") == replace(MEDIUM, T=9, B=3, lengths=(3, 9, 4))


@pytest.mark.parametrize(
    ("read", "text", "part", "expected"),
    [
        (parse, "H512-Q3", "'Q3'", "one of T, B, I, H, S, Z, L, lengths"),
        (parse, "H", "'H'", "one of T"),
        (parse, "", "''", "one of T"),
        (parse, "H0", "'H0'", "a whole number of 1 or more"),
        (parse, "H2.5", "'H2.5'", "a whole number"),
        (parse, "H5-S3-H6", "'H6'", "H once, not twice"),
        (parse, "shared-stacked", "'stacked'", "state once, not twice"),
        (parse, "proj8", "'proj8'", "one of T"),
        (parse, "layer_norm", "'layer_norm'", "one of T"),
        (parse, "dropout1.5", "'dropout1.5'", "a probability"),
        (parse, "dropout0", "'dropout0'", "a probability"),
        (parse, "dropout0.1.2", "'dropout0.1.2'", "a probability"),
        (parse, "lengths3.0", "'lengths3.0'", "a whole number of 1"),
        (parse, "B2-lengths3.1.1", "'B2'", "B3, which the lengths have"),
        (parse, "T9-lengths3.1.1", "'T9'", "T3, which the lengths have"),
        (axis, "H", "'H='", "a whole number"),
        (axis, "Q=1,2", "'Q=1,2'", "one size and its values, such as H=128,256,512"),
        (axis, "TB=1,2", "'TB=1,2'", "one size"),
        (axis, "=1,2", "'=1,2'", "one size"),
        (axis, "H=8,0", "'H=0'", "a whole number of 1 or more"),
        (axis, "H=8,x", "'H=x'", "a whole number"),
        (axis, "H=8", "'H=8'", "two values or more"),
        (axis, "H=8,8,9", "'H=8,8,9'", "two values or more, each once"),
    ],
)
def test_a_wrong_part_is_named_beside_the_spelling(
    read: Callable[[str], object], text: str, part: str, expected: str
) -> None:
    with pytest.raises(SizeError) as error:
        read(text)
    assert str(error.value).startswith(f"{part}: expected {expected}")
    assert SPELLING in str(error.value)


def test_all_parts_of_an_id_are_read_together() -> None:
    every = Case(2, 2, 2, 2, 2, 2, 2, layer_norm=True, strided=True, lengths=(2, 1), training=False)
    every = replace(every, dropout=0.5, recurrent_dropout=0.25)
    for start in (Start.SHARED, Start.STACKED):
        assert parse(replace(every, state=start).id) == replace(every, state=start)


def test_the_spelling_is_one() -> None:
    case = parse(SPELLING.replace("T50-B32", "T50-B3"))
    assert case.lengths == (50, 40, 7)
    assert case.id.count("-") == SPELLING.count("-")


def test_an_axis_has_values_of_one_size_in_order() -> None:
    assert axis("H=512,128,256") == Axis("H", (128, 256, 512))
    assert [case.L for case in axis("L=1,3").along(parse("H64-norm"))] == [1, 3]
    assert {replace(case, L=1) for case in axis("L=1,3").along(parse("H64-norm"))} == {parse("H64-norm")}
    with pytest.raises(SizeError, match="'T=2': expected another size beside lengths"):
        axis("T=2,3").along(parse("lengths3.2"))
    assert len(axis("H=2,3").along(parse("lengths3.2"))) == 2
