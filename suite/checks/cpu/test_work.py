"""What makes batched_cpu slow and changes no result: weights packed for a single step, and idle threads."""

import pytest
import torch

from suite.cases.case import Case
from suite.checks.cpu.instrumented import counted, instrumented
from suite.comparison.draws import model_and_draw

CPU, F32 = torch.device("cpu"), torch.float32

pytestmark = [pytest.mark.impl(name="batched_cpu"), pytest.mark.usefixtures("built", "threads_as_before")]


@pytest.mark.parametrize("B", [1, 4])
def test_a_call_of_one_step_packs_no_weight_of_h(B: int) -> None:
    """As in generation: packing takes longer than the step."""
    case = Case(T=1, B=B, I=1, H=64, S=16, Z=4)
    model, sample = model_and_draw("batched_cpu", case, F32, CPU)
    with instrumented(F32) as library, torch.no_grad():
        model(sample.x)
        packed = counted(library)[0]["packed"].sum()
    assert 0 < packed < dict(model.named_parameters())["layers.0.weight_h"].numel()


@pytest.mark.parametrize("threads", [3, 5, 6, 12])
@pytest.mark.parametrize(
    "case",
    [Case(T=1, B=16, I=8, H=32, S=8, Z=2), Case(T=1, B=16, I=20, H=144, S=44, Z=1)],
    ids=["small weights", "weights of a group"],
)
def test_no_thread_is_idle(case: Case, threads: int) -> None:
    model, sample = model_and_draw("batched_cpu", case, F32, CPU)
    torch.set_num_threads(threads)
    with instrumented(F32) as library:
        out, _ = model(sample.x)
        forward, _ = counted(library)
        out.sum().backward()
        backward, _ = counted(library)
    for of_threads in (forward, backward):
        assert (of_threads["groups"] > 0).sum() == threads
