"""An allocation of batched_cpu that fails, on any thread, is an error without a result, and harms no later call."""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count

import psutil
import pytest
import torch

from impls import batched_cpu
from impls.definition import dtype_name
from impls.gradient.chunks import limited
from suite.cases.case import Case
from suite.checks.cpu.instrumented import counted, fail, instrumented
from suite.checks.module.runs import by_grad
from suite.comparison.draws import model_and_draw
from suite.comparison.tolerance import assert_bitwise_equal

CPU = torch.device("cpu")
#: Two panels of units, and rows for two groups.
CASE = Case(T=2, B=2, I=2, H=20, S=5, Z=1)
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
thorough = pytest.mark.thorough("batched_cpu: allocations that fail on one thread, and in a group in other dtypes")

pytestmark = [
    pytest.mark.impl(name="batched_cpu"),
    pytest.mark.usefixtures("built", "two_threads"),
    pytest.mark.address_sanitizer,
]
TWO_GROUPS, ONE_GROUP = (2, 1), (1, 2)
#: Splits by name, with the dtypes of a default run.
SPLITS = (("two groups", TWO_GROUPS, DTYPES), ("a group of two", ONE_GROUP, DTYPES[:1]), ("one thread", (1, 1), ()))


@pytest.mark.parametrize(
    ("split", "dtype"),
    [
        pytest.param(split, dtype, id=f"{name}-{dtype_name(dtype)}", marks=[] if dtype in default else [thorough])
        for name, split, default in SPLITS
        for dtype in DTYPES
    ],
)
def test_an_allocation_that_fails_is_an_error_without_a_result(
    split: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every one of each thread in turn, until a training step succeeds."""
    monkeypatch.setattr(batched_cpu, "SPLIT", split)
    case = replace(CASE, layer_norm=split != ONE_GROUP)
    # Torch's own products, of bfloat16, do not tell why they fail.
    error = RuntimeError if dtype == torch.bfloat16 else torch.OutOfMemoryError
    # Chunks of one step; where threads wait for one another, residuals are saved.
    with limited("cpu", rows=case.B, residuals=split != TWO_GROUPS), instrumented(dtype) as library:
        step = partial(by_grad, *model_and_draw("batched_cpu", case, dtype, CPU))
        expected, (of_threads, _) = step(), counted(library)
        threads = psutil.Process().num_threads()
        for thread in range(split[0] * split[1]):
            assert of_threads["tries"][thread] > 0
            for number in count():
                fail(library, thread, number)
                results = None
                with suppress(error):
                    results = step()
                of_threads, held = counted(library)
                assert held == 0, "memory is not freed"
                if results is not None:
                    assert of_threads["tries"][thread] <= number, "an allocation failed without an error"
                    assert_bitwise_equal(results, expected)
                    break
        assert psutil.Process().num_threads() <= threads  # one that OpenMP has let go may still have been counted
