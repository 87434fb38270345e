"""A visit refuses wrong results, and its first one has memory and costs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from suite.candidates.catalogue import find
from suite.candidates.names import BASELINE, PADDED
from suite.cases.case import lengths
from suite.cases.examples import TINY
from suite.measure import visit
from suite.measure.fakes import job
from suite.measure.job import RefusedError
from suite.results.columns import Row
from suite.results.status import Status


@pytest.mark.parametrize(("step", "tensor"), [("forward", "c"), ("train", r"grad layers\.0\.z_bias")])
def test_a_wrong_candidate_is_refused(step: str, tensor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(model: nn.Module, _: Any, results: Any) -> Any:
        """Results with one wrong number of the last state, or a wrong gradient of one parameter."""
        out, last = results
        if step == "forward" and not torch.is_grad_enabled():
            last[1][0, 0, 0] *= 1.01
        if step == "train" and torch.is_grad_enabled():
            bias = model.get_parameter("layers.0.z_bias")
            out = out + 0.01 * (bias - bias.detach()).sum()  # which changes no number of out
        return out, last

    def build(*arguments: Any) -> nn.Module:
        model = find("deferred").build(*arguments)
        model.register_forward_hook(changed)
        return model

    monkeypatch.setattr(visit, "find", lambda name: replace(find(name), build=build))
    one = job("deferred", case=replace(TINY, B=5))
    with pytest.raises(RefusedError, match=rf"^{tensor} .* \S+e[+-]\d\d, .* \S+e-0[67]$"):
        [*visit.rows(one, True)]
    assert len([*visit.rows(one, False)]) == 2  # a visit after the first compares nothing
    monkeypatch.setattr("suite.candidates.submission.files", lambda: {"deferred": Path("mine.py")})
    with pytest.raises(RefusedError):
        [*visit.rows(one, False)]


def test_jax_is_timed_without_a_peak_memory() -> None:
    pytest.importorskip("jax")
    row, _ = visit.rows(job("jax"), True)
    assert (row["status"], row["peak_bytes"]) == (Status.OK, None)


def test_costs_are_those_of_the_tokens_that_are_computed() -> None:
    """Of those of the workload, although each turn draws lengths of its own."""
    case = replace(TINY, T=16, B=8, lengths=lengths(16, 8))
    padding = 16 * 8 / sum(case.lengths)

    def costs(name: str, dtype: str = "float32") -> list[Row]:
        return [*visit.rows(job(name, case=case, dtype=dtype), True)]

    forward, train = costs(BASELINE)
    padded, _ = costs(PADDED)
    wide, _ = costs(BASELINE, "float64")
    assert (forward["work"], padded["work"]) == (1.0, padding)
    assert padded["multiply_adds"] / forward["multiply_adds"] == padding
    assert train["multiply_adds"] == 3 * forward["multiply_adds"]
    assert wide["least_bytes"] == 2 * forward["least_bytes"] < 2 * train["least_bytes"]
