"""In a plot no two names look alike, and a name looks the same in all of them."""

from collections.abc import Sequence

import pytest

from suite.pages.plots import COLOURS, LOOKS, MARKERS, OWNERS, look, looks
from suite.shared.cases import ORDER


def test_no_two_looks_share_a_colour_or_a_marker() -> None:
    assert len(set(COLOURS)) == len(set(MARKERS)) == len(LOOKS) == 14


@pytest.mark.parametrize("n", range(15))
def test_up_to_fourteen_names_no_two_look_alike(n: int) -> None:
    for names in ([f"added_{k}" for k in range(n)], [*OWNERS, *(f"added_{k}" for k in range(n))][:n]):
        found = [tuple(chosen.items()) for chosen in looks(names).values()]
        assert len(set(found)) == len(names) == n


def test_a_fifteenth_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="names: expected at most 14 that plots can tell apart, got 15"):
        looks([f"added_{k}" for k in range(15)])


@pytest.mark.parametrize(
    "ladder",
    [ORDER, ORDER[::-1], ORDER[3:], ("added", *ORDER), (*ORDER[:5], "added", "another", *ORDER[5:])],
    ids=["as-it-is", "backwards", "without-the-first", "one-more", "two-more-within"],
)
def test_a_name_looks_the_same_whatever_else_there_is(ladder: Sequence[str]) -> None:
    found = looks(ladder)
    assert {name: found[name] for name in ladder if name in ORDER} == {n: look(n) for n in ORDER if n in ladder}


def test_what_is_no_name_has_no_look() -> None:
    with pytest.raises(ValueError, match=r"implementation: expected one of naive, .*, labml, jax; got 'nothing'"):
        look("nothing")
