"""Groups of several members, each a process that waits, and how a wrong barrier between them is found."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import impls
from impls.definition import dtype_name
from suite.checks.faults.faults import Edited, edits
from suite.checks.kernels.interpreted import NAME
from suite.checks.kernels.members import LIMIT, together
from suite.shared.cases import VERIFY_TILES, Case
from suite.shared.compare import compare, implementation

CPU = torch.device("cpu")
#: Two groups, edges of every tile, many z; packed sequences that end in both groups; a mask.
WIDE = Case(T=3, B=18, I=6, H=40, S=21, Z=3, state="stacked")
LONG = Case(T=5, B=18, I=4, H=37, S=9, Z=2, lengths=(*(5,) * 3, *(4,) * 7, *(3,) * 6, 2, 1), layer_norm=True)
#: The instructions of a card differ from 64 rows on, and programs then share out the units of a tile of rows.
TALL = Case(T=2, B=64, I=3, H=40, S=9, Z=2, state="plain")
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


def without_sync(file: str, n: int) -> list[str]:
    """A kernel without its n-th sync, as a row of `barriers.toml`."""
    source = (Path(impls.__file__).parent / NAME / f"{file}.py").read_text(encoding="utf-8")
    parts = source.split(SYNC)
    return ["read, and written by another program", file, source, SYNC.join(parts[:n]) + SYNC.join(parts[n:])]


FAULTS = {
    **{f"forward: no sync {n}": without_sync("forward_kernel", n) for n in range(1, 5)},
    **{f"backward: no sync {n}": without_sync("backward_kernel", n) for n in range(1, 6)},
    **tomllib.loads(Path(__file__).with_name("barriers.toml").read_text(encoding="utf-8")),
}
#: Seconds after which a fault hangs.
SOON = 10.0


@pytest.mark.parametrize(
    ("members", "rows", "case", "dtype"),
    RUNS,
    ids=[f"{n}-members-{case.id}-{dtype_name(dtype)}" for n, _, case, dtype in RUNS],
)
def test_several_members_equal_the_oracle(members: int, rows: int, case: Case, dtype: torch.dtype) -> None:
    with together(members, rows=rows) as trace:
        worst = compare(implementation(NAME), case, dtype, CPU, draws=1)[0]
    assert not trace.wrong
    assert worst.ratio <= 1, str(worst)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_barrier_is_found(fault: str) -> None:
    outcome, file, right, new = FAULTS[fault]
    edited = Edited(fault, "barrier", edits(f"{NAME}/{file}", right, new), NAME)
    limit = SOON if outcome == "hang" else LIMIT
    with edited.planted() as build, together(2, package=edited.package, limit=limit) as trace:
        if outcome == "hang":
            with pytest.raises(TimeoutError, match="forward_steps: 2 of 2 programs still wait after 10 s"):
                compare(build, FAULTY, torch.float32, CPU, draws=1)
        else:
            worst = compare(build, replace(FAULTY, T=3), torch.float32, CPU, draws=1)[0]
            assert outcome in {"wrong" if worst.ratio > 1 else "", *(wrong.split(": ", 1)[1] for wrong in trace.wrong)}
