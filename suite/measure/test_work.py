"""Inputs of workloads are of their sizes and lengths, and candidates are right at them."""

import random
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch

from impls import registry
from suite.candidates.catalogue import candidates, find
from suite.candidates.names import PADDED
from suite.cases.case import Case
from suite.cases.examples import CPU, TINY
from suite.cases.workloads import Pass
from suite.measure import work
from suite.measure.step import Step
from suite.measure.timing import Call
from suite.shared.marks import impl_params

CASE = Case(T=4, B=3, I=9, H=14, S=9, Z=3)


def test_inputs_are_new_with_any_seed() -> None:
    inputs = list[torch.Tensor]()
    for _ in range(3):
        torch.manual_seed(7)
        random.seed(7)
        inputs.append(work.example(TINY, torch.float32, CPU)[0].data)
    assert all((a != b).any() for a, b in combinations(inputs, 2))


def test_the_padded_baseline_runs_all_steps_of_all_rows() -> None:
    case = replace(TINY, B=3, lengths=(3, 2, 1))
    x, padded, packed = work.example(case, torch.float32, CPU)[0], find(PADDED), find("torch.nn.LSTM")
    model, lstm = padded.build(case, torch.float32, CPU), packed.build(case, torch.float32, CPU)
    lstm.load_state_dict(model.state_dict())
    out, _ = model(x)
    assert out.shape == (3, 3, TINY.H)
    torch.testing.assert_close(out[0], lstm(x)[0].data[:3])


#: What cases have beside their sizes.
MORE: list[dict[str, Any]] = [
    {},
    {"lengths": (4, 3, 3)},
    {"state": "stacked", "strided": True},
    {"L": 2, "state": "shared", "lengths": (2, 4, 3), "dropout": 0.4, "recurrent_dropout": 0.3},
]
#: Every candidate that is compared, except on a GPU.
COMPARED = [one.name for one in candidates() if one.compared and one.name != "batched_cuda"]


@pytest.mark.parametrize("step", Pass)
@pytest.mark.parametrize("name", impl_params(COMPARED))
def test_a_timed_call_of_each_candidate_is_right(name: str, step: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    one = find(name)
    if reason := one.why_unavailable(CPU, torch.float32):
        pytest.skip(reason)
    if name == "compiled":  # only a thorough run compiles its step
        from suite.candidates import compiled_lstm  # takes seconds to import

        monkeypatch.setattr(compiled_lstm, "_run", registry.find("batched").run)
    for case in filter(
        one.takes, (replace(CASE, layer_norm=norm, **more) for norm in one.layer_norms for more in MORE)
    ):
        run = Step(one.build(case, torch.float32, CPU), step)
        run.before()
        inputs, results, random_at = [], [], []
        for _ in range(3):
            inputs.append(work.example(case, torch.float32, CPU))
            random_at.append(torch.get_rng_state())
            results.append(run(*inputs[-1]))
        right = Call(*inputs[1], run.parameters_at(1), results[1], random_at[1])
        assert work.wrong(one, case, step, right) == ""
        slips: dict[str, Any] = {"results": results[2]}
        if case.state != "none":
            slips["state"] = inputs[2][1]
        if step is Pass.TRAIN:
            slips["parameters"] = run.parameters_at(2)
        if step is Pass.TRAIN and case.recurrent_dropout:
            slips["random"] = random_at[2]
        for name_of, value in slips.items():
            wrong = work.wrong(one, case, step, replace(right, **{name_of: value}))
            assert "of a timed call is off by " in wrong, name_of


def test_no_candidate_is_its_own_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own rounding alone may be that of its own form."""
    pairs = dict[str, list[tuple[str, torch.dtype]]]()

    def expected(impl: str, case: Case, dtype: torch.dtype, *given: Any) -> dict[str, torch.Tensor]:
        pairs[name].append((impl, dtype))
        return {"out": torch.ones(2, dtype=dtype)}

    monkeypatch.setattr(work, "expected", expected)
    for name in COMPARED:
        pairs[name] = []
        one = replace(find(name), to_ours=dict)
        call = Call(torch.ones(1), None, {}, (torch.ones(2),), torch.ones(1))
        work.judgements(one, CASE, Pass.FORWARD, call)
    oracles = {name: oracle for name, ((oracle, dtype), _) in pairs.items() if dtype == torch.float64}
    assert oracles == dict.fromkeys(COMPARED, "deferred") | {"deferred": "batched"}
    rounded = {name: own for name, (_, (own, dtype)) in pairs.items() if dtype == torch.float32}
    assert rounded == dict.fromkeys(COMPARED, "batched") | {"naive": "naive"}
