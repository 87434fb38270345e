"""What the threads of batched_cpu do: no product is made twice, weights are read once, each thread gets its part."""

import platform
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from impls import batched_cpu, why_unavailable
from impls.batched_cpu import KEEPS_V_FROM, sets
from impls.gradient.chunks import limited
from suite.cases.case import Case, lengths
from suite.cases.workloads import WORKLOADS, resized
from suite.checks.cpu.instrumented import Counted, Instrumented, instrumented
from suite.comparison.draws import implementation

CPU, F32 = torch.device("cpu"), torch.float32
#: Of the baseline instruction set, which every build has: lanes of a vector, columns of a panel.
LANES, PANEL = 4, 16
#: From `split.h`: weights from which threads form groups and from which more rows are worth another, and these rows.
SYNC, LARGE, ROWS, ROWS_LARGE = 1 << 17, 1 << 20, 4, 2 * LANES
#: The fewest units of a thread.
UNITS = 64
#: What vectors and panels that are not full add at most.
PADDING = 1.03

pytestmark = [
    pytest.mark.usefixtures("threads_as_before"),
    pytest.mark.skipif(
        why_unavailable("batched_cpu", CPU) is not None, reason=f"{why_unavailable('batched_cpu', CPU)}"
    ),
]


@pytest.fixture
def library() -> Iterator[Instrumented]:
    """A library that counts products and makes none."""
    with instrumented(F32) as loaded:
        loaded.count_only(True)
        yield loaded


class Pass(NamedTuple):
    """What each thread did in a pass."""

    of_threads: list[Counted]

    @property
    def all(self) -> Counted:
        """Sums over the threads, which mean something for what is counted."""
        return Counted(*map(sum, zip(*self.of_threads, strict=True)))

    @property
    def multiply_adds(self) -> int:
        """In steps and in jobs."""
        return self.all.in_steps + self.all.in_jobs

    @property
    def most(self) -> int:
        """Multiply-adds in steps of the thread that has most of them."""
        return max(counted.in_steps for counted in self.of_threads)

    @property
    def split(self) -> tuple[int, int]:
        """Groups, and threads of each."""
        (split,) = {(counted.groups, counted.members) for counted in self.of_threads if counted.groups}
        return split


def passes(library: Instrumented, case: Case, threads: int, *, of_x: bool = True) -> tuple[Pass, Pass]:
    """The forward and the backward pass of a training step in float32, on some threads; of_x: x has a gradient too."""
    torch.set_num_threads(threads)
    model = implementation("batched_cpu")(case, F32, torch.device("meta")).to_empty(device=CPU)
    x = torch.zeros(case.T, case.B, case.I, requires_grad=of_x)
    library.counted()
    out, _ = model(pack_padded_sequence(x, list(case.lengths)) if case.lengths else x)
    forward, _ = library.counted()
    (out.data if case.lengths else out).sum().backward()
    backward, _ = library.counted()
    return Pass(forward), Pass(backward)


def formulas(case: Case) -> tuple[int, int, int, int]:
    """Multiply-adds a token of either LSTM's products with x and states, of z and of d (impls/README.md, Costs)."""
    H, S, Z, I = case.H, case.S, case.Z, case.I
    return 4 * H * (I + H), 4 * S * (I + H + S), 12 * Z * S, 12 * H * Z


@pytest.mark.parametrize("residuals", [True, False], ids=["saved", "recomputed"])
@pytest.mark.parametrize(
    ("case", "split"),
    [
        (Case(T=10, B=8, I=32, H=64, S=16, Z=4), (2, 1)),
        (Case(T=10, B=8, I=32, H=64, S=16, Z=4, layer_norm=True), (1, 2)),
        (Case(T=10, B=2, I=KEEPS_V_FROM, H=64, S=16, Z=4), (1, 1)),
        (Case(T=5, B=24, I=32, H=64, S=16, Z=4, lengths=lengths(5, 24)), (2, 2)),
        (Case(T=3, B=2, I=32, H=512, S=16, Z=4), (1, 2)),
    ],
    ids=["rows", "units", "one thread and v", "packed", "weights as stored"],
)
def test_no_product_is_made_twice(
    case: Case, split: tuple[int, int], residuals: bool, library: Instrumented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At sizes that fill vectors and panels."""
    monkeypatch.setattr(batched_cpu, "SPLIT", split)
    main, hyper, z, d = formulas(case)
    with limited("cpu", rows=4 * case.B, residuals=residuals):  # in several chunks
        forward, backward = passes(library, case, threads=4)
    members = split[1]  # each of which makes z of all rows
    assert forward.multiply_adds == case.tokens * (main + hyper + members * z + d)
    # The gradients of the weights, of x and of the states; z and d again, since they are not saved.
    again = z * members + d
    if case.I < KEEPS_V_FROM or not residuals:
        again += 4 * case.H * case.I
    if not residuals:
        again += 4 * case.H * case.H + hyper
    assert backward.multiply_adds == case.tokens * (2 * (main + hyper + z + d) + again)


def test_a_gradient_of_x_that_nobody_asks_for_is_not_computed(library: Instrumented) -> None:
    case = Case(T=10, B=8, I=32, H=64, S=16, Z=4)
    (_, asked), (_, not_asked) = (passes(library, case, 2, of_x=of_x) for of_x in (True, False))
    assert asked.multiply_adds - not_asked.multiply_adds == case.tokens * 4 * (case.H + case.S) * case.I


def of_h(case: Case) -> int:
    """Numbers of the two weights that h is multiplied by."""
    return 4 * case.H * (case.H + case.S)


def others(case: Case) -> int:
    """Numbers of the other matrices of a forward pass."""
    H, S, Z, I = case.H, case.S, case.Z, case.I
    return 4 * I * (H + S) + 4 * S * S + 12 * Z * S


@pytest.mark.parametrize("split", [(1, 1), (1, 2)], ids=["one thread", "two members"])
@pytest.mark.parametrize(
    "case",
    [
        Case(T=10, B=1, I=32, H=512, S=16, Z=4),
        Case(T=3, B=4, I=32, H=512, S=16, Z=4, layer_norm=True),
        Case(T=1, B=4, I=32, H=64, S=16, Z=4),
        Case(T=4, B=1, I=32, H=64, S=16, Z=4),
        Case(T=5, B=1, I=32, H=256, S=768, Z=4),  # the fewest of many weights
    ],
    ids=lambda case: case.id,
)
def test_few_rows_read_weights_once_a_step_and_pack_none_of_them(
    case: Case, split: tuple[int, int], library: Instrumented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many weights, or where so few tokens are all."""
    monkeypatch.setattr(batched_cpu, "SPLIT", split)
    forward, backward = passes(library, case, threads=2)
    assert (forward.all.read, backward.all.read) == (case.T * of_h(case), case.T * of_h(case))
    assert (forward.all.packed, forward.all.packed_singly) == (others(case), 0)


@pytest.mark.parametrize(
    "case",
    [
        Case(T=10, B=5, I=32, H=512, S=16, Z=4),
        Case(T=5, B=1, I=32, H=64, S=16, Z=4),
        Case(T=5, B=1, I=32, H=256, S=752, Z=4),
    ],
    ids=lambda case: case.id,
)
def test_other_calls_pack_each_weight_once_by_whole_vectors(case: Case, library: Instrumented) -> None:
    forward, backward = passes(library, case, threads=2)
    assert (forward.all.read, backward.all.read) == (0, 0)
    assert (forward.all.packed, forward.all.packed_singly) == (of_h(case) + others(case), 0)


@pytest.mark.parametrize("threads", [2, 4])
def test_jobs_are_cut_into_pieces_for_a_thread_that_loses_its_core(threads: int, library: Instrumented) -> None:
    case = Case(T=2, B=32, I=96, H=256, S=64, Z=4)
    forward, backward = passes(library, case, threads)
    assert forward.all.pieces >= 8 * threads
    assert backward.all.pieces >= 2 * 8 * threads  # of packing, and of products
    assert forward.all.pieces_alone == 0
    assert backward.all.pieces_alone < 8  # of what is too little for a second thread


#: By instruction set, the most tiles whose sums a forward and a backward pass of `DEEP` start, each for a part of its
#: depth that stays in a cache. Where a number falls, lower it here.
SUMS = {"baseline": (35472, 65736), "avx512": (5424, 12555)}
DEEP = Case(T=4, B=64, I=64, H=512, S=64, Z=4)


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="The numbers are of the blocks on x86-64.")
def test_sums_of_products_are_seldom_stored_and_read_again(name: str) -> None:
    if name not in ("baseline", sets.instruction_set(F32)):
        pytest.skip(f"this processor has no {name}")
    with instrumented(F32, name) as library:
        library.count_only(True)
        forward, backward = passes(library, DEEP, threads=2)
    most_forward, most_backward = SUMS[name]
    assert forward.all.sums <= most_forward
    assert backward.all.sums <= most_backward


#: The most tiles of a forward and a backward pass of `ALONE`, whose steps fill two tiles together. Where a number
#: falls, lower it here.
SUMS_ALONE = (364, 591)
ALONE = Case(T=12, B=1, I=32, H=64, S=16, Z=4)


def test_steps_of_few_rows_share_what_they_read_of_the_weights_of_x(library: Instrumented) -> None:
    forward, backward = passes(library, ALONE, threads=1)
    assert forward.all.sums <= SUMS_ALONE[0]
    assert backward.all.sums <= SUMS_ALONE[1]


def test_jobs_too_small_for_a_second_thread_run_on_one(library: Instrumented) -> None:
    forward, backward = passes(library, Case(T=2, B=2, I=8, H=16, S=8, Z=2), threads=4)
    for counted in (forward.all, backward.all):
        assert counted.pieces > 0
    assert forward.all.pieces_alone == forward.all.pieces


@pytest.mark.parametrize("rows", [1, 4, 5, 8])
def test_several_rows_share_what_they_read_of_d_weight(
    rows: int, library: Instrumented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_cpu, "SPLIT", (1, 1))
    case = Case(T=3, B=rows, I=32, H=64, S=16, Z=16)
    forward, _ = passes(library, case, threads=1)
    assert forward.all.scales == case.T * -(-rows // 4) * 12 * case.Z * case.H


def expected_split(case: Case, threads: int) -> tuple[int, int]:
    """Groups, and threads of each: as many busy threads as can be, then as many groups; idle threads form more."""
    weights = sum(formulas(case)[:2])
    if weights < SYNC:
        return min(case.B, threads), 1
    most = min(threads, max(1, case.B // (ROWS if weights < LARGE else ROWS_LARGE)))
    splits = [(groups, min(threads // groups, -(-case.H // UNITS))) for groups in range(1, most + 1)]
    groups, members = max(splits, key=lambda split: (split[0] * split[1], split[0]))
    return max(groups, min(case.B, threads // members)), members


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(
    "sizes",
    [
        *(
            pytest.param(WORKLOADS[name].shortened.case, id=name)
            for name in ("small", "medium", "medium-ragged", "char-ptb", "stream")
        ),
        pytest.param(replace(WORKLOADS["char-ptb"].case, B=2 * ROWS_LARGE), id="char-ptb with few rows"),
        pytest.param(replace(WORKLOADS["medium"].case, B=1), id="medium with one row"),
        pytest.param(Case(T=2, B=1, I=20, H=144, S=44, Z=1), id="the fewest weights of a group"),
        pytest.param(Case(T=2, B=2, I=16, H=144, S=44, Z=1), id="too few weights for a group"),
        pytest.param(Case(T=2, B=ROWS_LARGE, I=384, H=128, S=256, Z=1), id="the fewest of large weights"),
        pytest.param(Case(T=2, B=ROWS_LARGE, I=380, H=128, S=256, Z=1), id="less than large weights"),
    ],
)
def test_each_thread_gets_its_part(sizes: Case, threads: int, library: Instrumented) -> None:
    case = resized(sizes, T=8 if sizes.lengths else 2, B=sizes.B)
    both = passes(library, case, threads)
    groups, members = expected_split(case, threads)
    assert [each.split for each in both] == [(groups, members)] * 2

    def part(items: int) -> float:
        """A thread's part of some items that are not divided."""
        return -(-items // members) / items

    rows = -(-case.B // groups)
    tokens = case.tokens / groups + case.T if case.lengths else rows * case.T
    H, S, I = case.H, case.S, case.I
    main, hyper, z, d = formulas(case)
    forward = (main + d) * part(-(-H // LANES)) + hyper * part(-(-S // LANES)) + z
    of_units = 4 * H * (H + S + (I if I < KEEPS_V_FROM else 0)) + 3 * d
    backward = of_units * part(-(-H // PANEL)) + 4 * S * S * part(-(-S // PANEL)) + z + z * part(rows)
    for counted, expected in zip(both, (forward, backward), strict=True):
        assert counted.most <= tokens * expected * PADDING
