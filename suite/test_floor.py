"""The model of a step's floor agrees with what the design page counts."""

from dataclasses import replace

import pytest

from .cases import WORKLOADS
from .floor import A100, GAPS, H100, floor, forward_phases


@pytest.mark.parametrize(("workload", "phases"), [("char-ptb", 2), ("enwik8", 3), ("handwriting", 2)])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_counts_the_phases(workload: str, phases: int, layer_norm: bool) -> None:
    case = replace(WORKLOADS[workload], layer_norm=layer_norm)
    assert len(forward_phases(case, rows=64, units=16)) == phases + 2 * layer_norm


def test_a_floor_is_no_less_than_its_gaps() -> None:
    for case in WORKLOADS.values():
        for card in (A100, H100):
            for start, gap in GAPS.items():
                model = floor(case, card, start, rows=64, units=16)
                assert model.seconds >= gap * len(model.phases)


def test_names_what_it_expected() -> None:
    with pytest.raises(ValueError, match="start: expected one of plain, graph, persistent, got 'stream'"):
        floor(WORKLOADS["char-ptb"], A100, "stream", rows=64, units=16)
