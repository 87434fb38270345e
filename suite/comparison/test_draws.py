"""Draws are random, and the same each time."""

from dataclasses import replace

import torch

from suite.cases.case import Start
from suite.cases.examples import CPU
from suite.cases.verification import TWO_LAYERS
from suite.comparison.draws import draw
from suite.comparison.tolerance import assert_bitwise_equal

F32 = torch.float32


def test_draws_are_random_and_the_same_each_time() -> None:
    case = replace(TWO_LAYERS, L=3, H=40, S=30, I=20, Z=6, layer_norm=True, T=4, B=9, state=Start.STACKED)
    one, again, other = (draw(case, seed, F32, CPU) for seed in (0, 0, 1))
    assert_bitwise_equal({"x": one.x, **one.params}, {"x": again.x, **again.params})
    assert one.x.data_ptr() != again.x.data_ptr()
    assert one.x.shape == (4, 9, 20)
    assert not one.x.is_contiguous()
    for name, p in one.params.items():
        assert not p.equal(other.params[name])
        assert p.unique().numel() > 0.99 * p.numel()
