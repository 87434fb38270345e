"""The kernels of `batched_cuda` without a GPU: interpreted, every address traced, and compiled for cards not here.

`nox -s kernels` compiles for every card too.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context

import pytest
import torch

from impls import why_unavailable
from impls.batched_cuda.split import H100
from suite.cases.workloads import WORKLOADS
from suite.checks.equality.held import held
from suite.checks.equality.values import error_of_cells_far_from_0
from suite.checks.faults.faults import FAULTS, about, assert_rejected, caught
from suite.checks.faults.planting import Fault
from suite.checks.recording import Keep, verify_row
from suite.checks.triton import TRITON, compiled, interpreted
from suite.checks.triton.launched import recorded
from suite.results.outcomes import Verdict
from suite.shared.process import killed_with

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed."),
]
more = pytest.mark.thorough("other cases of batched_cuda, interpreted")
KERNELS = ["forward_steps", "rebuild", "backward_steps"]
#: Most torch operator calls of a training step of one chunk, views included. A batch without layer norm has 60, four of
#: them to line up the states before the first step; packed sequences and layer norm have up to 18 more.
OPERATORS = 78
#: The operator that makes a tensor from Python's numbers. Operators that wait for a GPU raise an error on meta tensors.
FROM_HOST = "aten::lift_fresh"


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """A process with Triton's interpreter on, and with one thread."""
    with ProcessPoolExecutor(1, get_context("spawn"), killed_with, (os.getpid(),)) as pool:
        with pytest.MonkeyPatch.context() as environment:
            for variable in ("TRITON_INTERPRET", "OMP_NUM_THREADS"):
                environment.setenv(variable, "1")
            pool.submit(interpreted.prepare).result()
        yield pool


@pytest.mark.thorough("kernels compiled for a card that is not here")
def test_compiled_kernels_fit_their_card() -> None:
    unfit = compiled.unfit((*what, compiled.SMALLEST) for what in compiled.SOME)
    assert not unfit, "\n".join(unfit)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, id=name, marks=() if each.default else more) for name, each in interpreted.COMPARISONS.items()],
)
def test_interpreted_equals_the_oracle_without_a_race(
    name: str, interpreter: ProcessPoolExecutor, device: torch.device, keep: Keep
) -> None:
    comparison = interpreted.COMPARISONS[name]
    worst, wrong = interpreter.submit(interpreted.compared, name).result()
    # On a card the row is that of a run there.
    if not comparison.name and why_unavailable(TRITON, device) is not None:
        case, dtype, oracle = comparison.case, comparison.dtype, comparison.oracle
        row = verify_row(TRITON, dtype, comparison.id, worst, oracle=oracle, interpreted=True, case=case)
        keep("verify", row)
    assert not worst.wrong, str(worst)
    assert not wrong


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.interpreted], ids=lambda fault: fault.name.replace(" ", "-")
)
def test_a_fault_of_a_kernel_is_rejected(fault: Fault, interpreter: ProcessPoolExecutor, keep: Keep) -> None:
    if reason := fault.stale():
        keep("faults", about(fault) | {"verdict": Verdict.NOT_RUN})
        pytest.skip(reason)
    assert_rejected(fault, *interpreter.submit(caught, fault).result(), keep)


def test_sums_over_chunks_keep_small_parts(interpreter: ProcessPoolExecutor) -> None:
    """In bfloat16, where the tolerance rule allows what a sum in bfloat16 loses."""
    assert interpreter.submit(interpreted.lost).result() < 0.01


def test_cells_are_not_in_half_precision(interpreter: ProcessPoolExecutor) -> None:
    cpu = torch.device("cpu")
    assert interpreter.submit(error_of_cells_far_from_0, TRITON, cpu).result() < 0.05


def test_many_interpreted_steps_hold_no_memory(interpreter: ProcessPoolExecutor) -> None:
    case = replace(interpreted.OWN, T=1)  # what a launch holds does not depend on it
    assert interpreter.submit(held, TRITON, case, torch.device("cpu")).result() == 0


@pytest.mark.parametrize("layer_norm", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("name", ["small", "char-ptb"])
def test_what_a_step_starts(name: str, layer_norm: bool) -> None:
    """At any length one kernel forward, two backward, and few operators.

    No operator copies to the host or waits, as a capture demands; packed sequences copy a small array from the host
    forward, and one backward.
    """
    case = replace(WORKLOADS[name].case, layer_norm=layer_norm)
    lengths = [(3, *[1] * (case.B - 1)), (5, *[4] * (case.B - 1))]
    cases = [replace(case, T=2), replace(case, T=5), *(replace(case, T=one[0], lengths=one) for one in lengths)]
    cases += [replace(one, recurrent_dropout=0.1) for one in cases[1:3]]
    for one_case in cases:
        kernels, operators = recorded(one_case, H100, "bfloat16")
        assert [kernel.name for kernel in kernels] == KERNELS
        assert len(operators) <= OPERATORS
        assert operators.count(FROM_HOST) == (2 if one_case.lengths else 0), "small arrays of packed sequences"
