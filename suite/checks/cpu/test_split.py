"""batched_cpu splits a batch among threads, rows by units: the same result for any split, and no deadlock."""

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import torch

from impls import batched_cpu
from impls.batched_cpu import build, loading
from impls.definition import dtype_name
from impls.gradient.chunks import limited
from suite.cases.case import Case
from suite.checks.cpu.instrumented import counted, instrumented, limit_team, make_late, started_with
from suite.checks.equality.comparisons import WIDE_ORACLE
from suite.comparison.draws import implementation
from suite.comparison.tensors import OUTPUTS, Gradient, Results
from suite.comparison.tolerance import assert_bitwise_equal, evaluate, judge, reference

CPU = torch.device("cpu")
SPLITS = [(1, 1), (1, 2), (1, 3), (1, 8), (2, 1), (2, 3), (3, 2), (4, 1)]
#: Several panels of units in each LSTM, with edges, on any CPU; rows for groups of different sizes.
CASES = [Case(T=5, B=5, I=4, H=150, S=70, Z=2, layer_norm=norm, state="stacked") for norm in (False, True)]
#: Weights so large, and rows so few, that the weights are not packed into panels; one to four rows per group.
FEW = [
    Case(T=3, B=4, I=4, H=515, S=21, Z=2, state="stacked"),
    Case(T=3, B=3, I=4, H=515, S=21, Z=2, layer_norm=True),
]
#: More rows than a product takes at a time, and some steps with enough rows to divide a panel.
MANY = [
    Case(T=3, B=40, I=4, H=70, S=21, Z=2, state="stacked"),
    Case(T=4, B=30, I=4, H=70, S=21, Z=2, layer_norm=True, lengths=(4,) * 5 + (3,) * 12 + (2,) * 6 + (1,) * 7),
]
#: Rows of a group that end at different steps.
RAGGED = [Case(T=7, B=6, I=4, H=150, S=70, Z=2, layer_norm=norm, lengths=(7, 2, 5, 7, 1, 5)) for norm in (False, True)]
SPLITS_OF_OTHERS = [(1, 1), (1, 3), (1, 8), (2, 2)]
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
splits = pytest.mark.thorough("batched_cpu: splits without layer norm")

pytestmark = [pytest.mark.impl(name="batched_cpu"), pytest.mark.usefixtures("built")]


@pytest.fixture(autouse=True)
def several_threads(threads_as_before: None) -> None:
    """Give torch two threads or more, even if tests run in parallel: one thread has nothing to split.

    Not if the build starts its own threads: the thread sanitizer accepts no others.
    """
    if "-DHYPERLSTM_STD_THREADS" not in build.extra_flags():
        torch.set_num_threads(max(torch.get_num_threads(), 2))


def of_split(case: Case, split: tuple[int, int] | None, dtype: torch.dtype = torch.float32) -> Results:
    """Results of a case, with a split that later calls keep."""
    batched_cpu.SPLIT = split
    return evaluate(implementation("batched_cpu"), case, dtype, CPU, rounded=dtype, draws=1).results


@pytest.mark.address_sanitizer
@pytest.mark.thread_sanitizer
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case.layer_norm else splits, id=case.id) for case in CASES + FEW + MANY + RAGGED],
)
def test_any_split_keeps_the_rule(case: Case, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {}
    oracle = reference(WIDE_ORACLE, case, torch.float64, CPU, dtype, 1)
    in_dtype = reference(WIDE_ORACLE, case, dtype, CPU, dtype, 1)
    with limited("cpu", rows=2 * case.B):  # chunks of two steps, and one of one
        for split in SPLITS if case in CASES else SPLITS_OF_OTHERS:
            monkeypatch.setattr(batched_cpu, "SPLIT", split)
            outcome, repeat = (
                evaluate(implementation("batched_cpu"), case, dtype, CPU, rounded=dtype, draws=1) for _ in range(2)
            )
            worst = judge("batched_cpu", outcome.results, oracle, in_dtype, dtype, outcome.findings)[0]
            assert not worst.wrong, (split, worst)
            assert_bitwise_equal(repeat.results, outcome.results)
            runs[split] = outcome.results
    for results in runs.values():  # forward, no sum is split
        assert_bitwise_equal({name: results[name] for name in OUTPUTS}, {name: runs[1, 1][name] for name in OUTPUTS})


#: Rows of two tiles, which a thread recomputes one after the other: 256 in bfloat16, 384 in other dtypes.
ROWS = [Case(T=T, B=64, I=4, H=70, S=21, Z=2, state="stacked") for T in (4, 6)]


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in (*ROWS, *MANY)])
def test_recomputed_residuals_equal_saved_ones(case: Case, dtype: torch.dtype) -> None:
    torch.set_num_threads(1)
    results = []
    for residuals in (True, False):
        with limited("cpu", rows=case.T * case.B, residuals=residuals):
            results.append(of_split(case, None, dtype))
    assert_bitwise_equal(*results)


def test_the_number_of_threads_is_that_of_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_cpu, "SPLIT", None)  # which is undone at the end
    alone, two = (of_split(MANY[0], split) for split in ((1, 1), (2, 1)))
    gradient = Gradient("layers.0.bias")
    assert not torch.equal(alone[gradient], two[gradient])
    for threads, expected in ((2, two), (1, alone)):
        torch.set_num_threads(threads)
        assert_bitwise_equal(of_split(MANY[0], None), expected)


def test_a_call_on_one_thread_starts_no_other() -> None:
    """In a new thread of Python, for which OpenMP would start new ones."""

    def threads() -> tuple[int, int]:
        torch.set_num_threads(1)
        before = psutil.Process().num_threads()
        of_split(MANY[0], None)
        return before, psutil.Process().num_threads()

    with ThreadPoolExecutor(1) as pool:
        before, after = pool.submit(threads).result()
    assert after == before


#: Four, three and two threads make 2, 3 and 2 groups.
SMALLER = Case(T=3, B=12, I=4, H=256, S=20, Z=2, state="stacked")


@pytest.mark.parametrize("split", [None, (2, 2)], ids=["chosen", "2x2"])
def test_a_smaller_team_than_requested_computes_the_same(
    split: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where OpenMP starts fewer threads, with OMP_THREAD_LIMIT, say."""
    monkeypatch.setattr(batched_cpu, "SPLIT", (1, 1))
    groups = set[int]()
    with instrumented(torch.float32) as library:
        expected = of_split(SMALLER, (1, 1))
        torch.set_num_threads(4)
        for threads in (4, 3, 2, 1):
            limit_team(library, threads)
            counted(library)
            results = of_split(SMALLER, split)
            assert_bitwise_equal({name: results[name] for name in OUTPUTS}, {name: expected[name] for name in OUTPUTS})
            groups.add(counted(library)[0]["groups"].max())
    assert split is not None or groups == {1, 2, 3}


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(torch.float32, id="float32", marks=[pytest.mark.address_sanitizer, pytest.mark.thread_sanitizer]),
        pytest.param(torch.bfloat16, id="bfloat16"),  # without: a build under a sanitizer takes long
    ],
)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_members_that_are_late_read_what_was_written_for_them(
    case: Case, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What members share is not overwritten before the last of them has read it."""
    for split in ((1, 3), (2, 2)):
        monkeypatch.setattr(batched_cpu, "SPLIT", split)
        with instrumented(dtype) as library:
            expected = of_split(case, split, dtype)
            make_late(library, 200)
            assert_bitwise_equal(of_split(case, split, dtype), expected)


#: Functions in place of torch's and OpenMP's, by why a call then runs on no other thread.
ALONE: dict[str, dict[str, Any]] = {
    "no OpenMP": dict.fromkeys(loading._OPENMP),
    "inside a parallel region": {"omp_in_parallel": ctypes.CFUNCTYPE(ctypes.c_int32)(lambda: 1)},
    "an unknown number of threads": {
        "torch_get_num_threads": ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(lambda _: 1)
    },
}


@pytest.mark.parametrize("split", [None, (2, 2)], ids=["chosen", "2x2"])
@pytest.mark.parametrize("why", ALONE)
def test_where_no_threads_can_start_a_call_runs_on_its_own(
    why: str, split: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_cpu, "SPLIT", (1, 1))
    with instrumented(torch.float32) as library:
        expected = of_split(SMALLER, (1, 1))
        counted(library)
        with started_with(library, ALONE[why]):
            assert_bitwise_equal(of_split(SMALLER, split), expected)
        of_threads, _ = counted(library)
    assert (of_threads["groups"][0], of_threads["members"][0]) == (1, 1)
    assert not of_threads["groups"][1:].any()


def test_other_threads_of_python_go_on_during_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls here sleep most of the time."""
    monkeypatch.setattr(batched_cpu, "SPLIT", None)
    turns, during = [0], list[int]()

    def watched(call: Callable[..., int]) -> Callable[..., int]:
        def watching(*arguments: object) -> int:
            before = turns[0]
            outcome = call(*arguments)
            during.append(turns[0] - before)
            return outcome

        return watching

    with instrumented(torch.float32) as library, ThreadPoolExecutor(1) as pool:
        for name in ("forward", "backward"):
            monkeypatch.setattr(library, name, watched(getattr(library, name)))
        make_late(library, 10_000)
        results = pool.submit(of_split, CASES[0], (1, 2))
        while not results.done():
            time.sleep(0.001)
            turns[0] += 1
    assert len(during) == 2
    assert min(during) > 5
