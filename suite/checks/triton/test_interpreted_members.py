"""Groups of several members, each a process that waits, and how a wrong barrier between them is found."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
import triton.language as tl

import impls
from impls.batched_cuda import forward, layout, parts
from impls.batched_cuda.split import Split
from impls.definition import dtype_name
from suite.cases.case import Case
from suite.cases.verification import VERIFY_TILES
from suite.checks.faults.planting import Fault, copied
from suite.checks.triton import TRITON
from suite.checks.triton.members import together
from suite.comparison.draws import implementation
from suite.comparison.tolerance import compare

CPU = torch.device("cpu")
#: Two groups, edges of every tile, many z; packed sequences that end in both groups; a mask.
WIDE = Case(T=3, B=18, I=6, H=40, S=21, Z=3, state="stacked")
LONG = Case(T=5, B=18, I=4, H=37, S=9, Z=2, lengths=(*(5,) * 3, *(4,) * 7, *(3,) * 6, 2, 1), layer_norm=True)
#: The instructions of a card differ from 64 rows on, and programs then share out the units of a tile of rows.
TALL = Case(T=2, B=64, I=3, H=40, S=9, Z=2, state="shared")
#: Shows every fault: both passes, layer norm, more than one step.
FAULTY = Case(T=2, B=2, I=3, H=40, S=9, Z=2, layer_norm=True)
#: Members, rows of a group, case and dtype.
RUNS = [
    (2, 16, WIDE, torch.float32),
    (2, 16, replace(WIDE, layer_norm=True), torch.bfloat16),
    (3, 16, LONG, torch.float32),
    (2, 16, VERIFY_TILES[4], torch.float16),  # Z of 33
    (3, 16, VERIFY_TILES[6], torch.float32),  # a mask
    (8, 64, TALL, torch.float32),
    (2, 16, FAULTY, torch.float32),
]
SYNC = "turn = sync(counter, members, turn, ALONE)"


def without_syncs(name: str) -> Iterator[Fault]:
    """The kernel of a pass without its first sync, without its second, and so on."""
    path = f"{TRITON}/{name}_kernel.py"
    source = (Path(impls.__file__).parent / path).read_text(encoding="utf-8")
    parts = source.split(SYNC)
    for n in range(1, len(parts)):
        edited = SYNC.join(parts[:n]) + SYNC.join(parts[n:])
        blames = "read, and written by another program"
        yield Fault(f"{name}: no sync {n}", "barriers", blames, path, [(source, edited)])


FAULTS = [*without_syncs("forward"), *without_syncs("backward")]


@pytest.mark.parametrize(
    ("members", "rows", "case", "dtype"),
    RUNS,
    ids=[f"{n}-members-{case.id}-{dtype_name(dtype)}" for n, _, case, dtype in RUNS],
)
def test_several_members_equal_the_oracle(members: int, rows: int, case: Case, dtype: torch.dtype) -> None:
    with together(members, rows=rows) as wrong:
        worst = compare(implementation(TRITON), case, dtype, CPU, draws=1)[0]
    assert not wrong
    assert not worst.wrong, str(worst)


def test_a_barrier_that_cannot_be_met_ends_with_an_error() -> None:
    """By the instruction that ends a launch on a card, which the interpreter does not know."""

    def never_met(cut: Split, numbers: int, like: torch.Tensor) -> torch.Tensor:
        buffer = layout.room(cut, numbers, like)
        buffer[: cut.groups * parts.COUNTER.value] = -1000
        return buffer

    with (
        mock.patch.object(parts, "PATIENCE", tl.constexpr(50)),
        mock.patch.object(forward, "room", never_met),
        together(2),
        pytest.raises(Exception, match="inline_asm not supported in interpreter mode"),
    ):
        compare(implementation(TRITON), FAULTY, torch.float32, CPU, draws=1)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_missing_sync_is_a_race(fault: Fault) -> None:
    with copied(fault.package, {fault.file: fault.edits}, TRITON) as build, together(2, package=fault.package) as wrong:
        compare(build, replace(FAULTY, T=3), torch.float32, CPU, draws=1)
    assert fault.blames in {finding for _, finding in wrong}
