"""What a call does once a call like it was made: it opens, imports and compiles nothing, and draws what it must.

Time on the host is what small models and single steps take, and no comparison of results shows it.
"""

from dataclasses import replace
from functools import partial
from unittest import mock

import pytest
import torch

from impls import HyperLSTM, batched_cpu, names
from impls.batched_cpu.loading import library
from suite.candidates import submission
from suite.cases.case import Case, Start
from suite.checks.cost.counted import audited, cache_misses, calls_of_python, random_state
from suite.checks.implementations import skip_unless_checked
from suite.comparison.draws import Draw, inputs, model_and_draw
from suite.comparison.runs import outputs, plain
from suite.shared.marks import impl_params

CPU, F32 = torch.device("cpu"), torch.float32
ONE = Case(T=3, B=2, I=5, H=7, S=5, Z=2)
DROPPED = replace(ONE, L=3, layer_norm=True, dropout=0.3, recurrent_dropout=0.4)
#: Forms of a call, in each of which the host does something else.
FORMS = {
    "plain": ONE,
    "norm": replace(ONE, layer_norm=True),
    "dropped": replace(ONE, recurrent_dropout=0.4),
    "packed": replace(ONE, lengths=(3, 1)),
    "stacked": replace(ONE, state=Start.STACKED),
}


def passes(name: str, case: Case, device: torch.device) -> dict[str, partial[None]]:
    """Calls of a model by name, each made before."""
    model, sample = model_and_draw(name, case, F32, device)
    both = {"forward": partial(_forward, model, case, sample), "train": partial(_train, model, case, sample)}
    for each in both.values():
        each()
    return both


def _forward(model: HyperLSTM, case: Case, sample: Draw) -> None:
    with torch.no_grad():
        outputs(model, case, inputs(sample))


def _train(model: HyperLSTM, case: Case, sample: Draw) -> None:
    results = list(outputs(model, case, inputs(sample)).values())
    torch.autograd.grad(results, list(model.parameters()), sample.cotangents)


@pytest.fixture(params=impl_params(name for name in names() if name not in submission.files()))
def name(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Every implementation of the project that runs here in float32; a file's own may be as slow as it likes."""
    skip_unless_checked(request.param, device)
    return str(request.param)


@pytest.mark.parametrize("case", [ONE, DROPPED, FORMS["packed"]], ids=["one", "dropped", "packed"])
def test_opens_imports_and_compiles_nothing(name: str, case: Case, device: torch.device) -> None:
    calls = passes(name, case, device)
    before = cache_misses()
    with audited() as events:
        for call in calls.values():
            call()
    assert events == []
    assert cache_misses() == before


@pytest.mark.parametrize("lengths", [(), (3, 1)], ids=["batch", "packed"])
def test_draws_one_number_for_four_elements_of_a_mask(
    name: str, lengths: tuple[int, ...], device: torch.device
) -> None:
    """Of 64 bits, for each mask of inputs and of g, and no other in either pass."""
    case = replace(DROPPED, lengths=lengths)
    model, sample = model_and_draw(name, case, F32, device)
    torch.manual_seed(0)
    plain(model, case, sample)
    drawn = random_state(device)
    torch.manual_seed(0)
    for _ in range(2 * case.L - 1):
        torch.randint(-(2**63), 2**63 - 1, (-(-case.tokens * case.H // 4),), dtype=torch.int64, device=device)
    assert drawn.equal(random_state(device))


#: Most functions that the package's Python calls in a call of one layer of `batched_cpu`, forward and in training. From
#: Python 3.12 on there are fewer. Where a number falls, lower it here.
MOST = {
    "plain": (162, 401),
    "norm": (178, 473),
    "dropped": (175, 417),
    "packed": (168, 406),
    "stacked": (188, 427),
}
#: A slip that takes time on the host calls more than this factor allows; a new line of checks may not.
SPARE = 1.05


@pytest.mark.parametrize("form", FORMS)
def test_batched_cpu_calls_as_many_functions_for_any_number_of_steps(form: str) -> None:
    skip_unless_checked("batched_cpu", CPU)
    short = FORMS[form]
    long = replace(short, T=4 * short.T, lengths=tuple(4 * length for length in short.lengths))
    counts = [[calls_of_python(call) for call in passes("batched_cpu", case, CPU).values()] for case in (short, long)]
    assert counts[0] == counts[1]
    assert all(count <= SPARE * most for count, most in zip(counts[0], MOST[form], strict=True)), counts[0]


@pytest.mark.parametrize("case", [ONE, DROPPED, FORMS["packed"]], ids=["one", "dropped", "packed"])
def test_batched_cpu_calls_its_library_once_for_a_pass_of_a_layer(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_checked("batched_cpu", CPU)
    calls = passes("batched_cpu", case, CPU)
    watched = mock.Mock(wraps=library(F32))
    monkeypatch.setattr(batched_cpu, "library", lambda dtype: watched)
    calls["forward"]()
    assert (watched.forward.call_count, watched.backward.call_count) == (case.L, 0)
    calls["train"]()
    assert (watched.forward.call_count, watched.backward.call_count) == (2 * case.L, case.L)


@pytest.mark.thorough("what a compiled model compiles in a second call")
def test_a_compiled_model_is_compiled_once(name: str, device: torch.device) -> None:
    model, sample = model_and_draw(name, DROPPED, F32, device)
    model.compile(backend="eager", fullgraph=True)
    _train(model, DROPPED, sample)
    with torch.compiler.set_stance("fail_on_recompile"):
        _train(model, DROPPED, sample)
