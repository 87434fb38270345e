"""The id of a comparison, in the key of its row, says which comparison it is."""

from collections import Counter

from impls import names
from suite.cases.case import Start
from suite.checks.equality.catalogue import grouped, of_every_implementation, paired, small, wide
from suite.checks.equality.pairs import Call, Trained


def test_comparisons_of_an_implementation_in_a_dtype_have_ids_of_their_own() -> None:
    """Whatever their oracle is."""
    tasks = of_every_implementation(small, wide, grouped, paired)
    ids = Counter((task.name, task.comparison.dtype, task.comparison.id) for task in tasks)
    assert {name for name, _, _ in ids} == {*names()}
    assert [key for key, number in ids.items() if number > 1] == []


def test_a_name_has_both_of_two_equal_words() -> None:
    """What is trained and the output with a gradient may have one word."""
    word = Trained.X.value
    both = Call(trained=Trained.X, arriving=(word,), state=Start.SHARED)
    assert both.name == f"pair-{word}-{word}"
    assert both._replace(trained=Trained.ALL).name == f"pair-{word}"
