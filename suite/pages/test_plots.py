"""In a plot no two names look alike."""

from suite.pages.plots import COLOURS, LOOKS, MARKERS
from suite.shared.cases import ORDER


def test_every_name_has_its_own_look() -> None:
    assert set(ORDER) <= set(LOOKS)
    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKERS)) == len(MARKERS)
