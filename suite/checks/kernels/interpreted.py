"""The kernels of `batched_cuda` in Triton's interpreter: the functions that a GPU runs, with one member per group.

A process runs them that has TRITON_INTERPRET=1. Every address is traced. `members.py` runs groups of several members.
Speed, memory order and streams are not checked here.
"""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from impls.gradient.chunks import NUMBERS, limited
from impls.registry import find
from suite.checks.equality.comparisons import Comparison, paired
from suite.checks.equality.pairs import OF_A_LAYER
from suite.checks.faults.faults import Edited, edits
from suite.shared.cases import AGAINST, DROPOUT, RAGGED, VERIFY, VERIFY_TILES, Case
from suite.shared.compare import Verdict, implementation, model_and_draw, relative_error
from suite.shared.oracle import plain

NAME = "batched_cuda"
F32 = torch.float32
_DTYPES = find(NAME).dtypes
_EDGES = (*RAGGED[:3], *DROPOUT[:3], *VERIFY_TILES, *(case for case in VERIFY if case.state == "plain"))
#: The smallest of the sizes that every implementation is checked at, packed sequences, masks of g, all that have edges
#: between tiles, and a sequence of several chunks.
CASES = (*VERIFY[:2], *_EDGES)
#: In float32: wide cases, which meet every condition of `faults/test_reach.py` but those on large sizes.
WIDE = [
    Comparison(case, F32, wide=True)
    for case in (
        Case(T=2, B=66, I=5, H=33, S=9, Z=2, layer_norm=True, state="plain", recurrent_dropout=0.3),
        Case(T=2, B=12, I=97, H=137, S=72, Z=9, layer_norm=True, state="stacked"),
        Case(T=2, B=6, I=20, H=64, S=33, Z=2, L=2, lengths=(2, 2, 2, 1, 1, 1)),
        Case(T=11, B=2, I=40, H=17, S=20, Z=3, state="stacked"),
    )
]
#: Sizes that are padded, and some that are not, so that kernels read a caller's own tensors.
SMALLEST = Case(T=2, B=2, I=3, H=7, S=5, Z=2, layer_norm=True, state="stacked")
OWN = replace(SMALLEST, H=8, S=8)
#: Units enough for norms of values that lose digits.
VALUES = replace(SMALLEST, H=72, S=64)


def _two_steps(one: Comparison) -> Comparison:
    lengths = tuple(min(steps, 2) for steps in one.case.lengths)
    return one._replace(case=replace(one.case, T=min(one.case.T, 2), lengths=lengths))


#: Options in pairs, each gradient of an output alone among them; layouts in memory, addresses that are not aligned;
#: values at which a formula loses digits or overflows.
CALLS = [
    *map(_two_steps, paired(NAME, OF_A_LAYER)),
    Comparison(OWN, F32, "layouts at once", wide=True),
    Comparison(replace(SMALLEST, Z=17), F32, "gradients", wide=True),  # whose gates have products of their own
    Comparison(replace(SMALLEST, layer_norm=False), F32, "calls", wide=True),
    Comparison(VALUES, F32, "means far from 0", wide=True),
    Comparison(replace(VALUES, layer_norm=False), F32, "saturated", wide=True),
]
_TINY = [Comparison(case, dtype) for case in VERIFY[:2] for dtype in _DTYPES]
#: Of a default run: the smallest sizes, packed sequences, some of which end before a chunk begins, and masks.
FEW = [*_TINY, *(Comparison(case, F32) for case in (*RAGGED[:2], DROPOUT[0])), *WIDE, *CALLS]
#: Of a thorough run: each of the other cases in one dtype, and parameters of which one alone is trained.
_MORE = [Comparison(case, _DTYPES[n % len(_DTYPES)]) for n, case in enumerate(_EDGES)]
SOME = list(dict.fromkeys([*FEW, *_MORE, Comparison(SMALLEST, F32, "frozen", wide=True)]))
#: Faults that calls show, each with a part of the names of the uses that show it.
FAULTS = {
    name: (Edited(name, "calls", edits(f"{NAME}/{file}", right, new), NAME, damages=shown_by), word)
    for name, (shown_by, word, file, right, new) in tomllib.loads(
        Path(__file__).with_name("calls.toml").read_text(encoding="utf-8")
    ).items()
}


def judged(one: Comparison, device: torch.device) -> Verdict:
    """Worst verdict of a comparison, if it is not wide in chunks of two steps: a chunk's first and last are special."""
    from impls.batched_cuda import backward, forward  # import Triton, which may be missing

    two_steps = 2 * NUMBERS * one.case.B * one.case.H * one.dtype.itemsize
    chunks = {} if one.wide else {"backward": two_steps}
    with (
        limited(device.type, **chunks),
        patch.object(forward, "room", _poisoned),
        patch.object(backward, "room", _poisoned),
    ):
        return one.worst(implementation(NAME), device)


def compared(one: Comparison) -> tuple[Verdict, dict[str, int]]:
    """Worst verdict of a comparison on one draw, and what was wrong with how many addresses."""
    from suite.checks.kernels.traced import traced

    with patch.object(Comparison, "_draws", return_value=1), traced() as trace:
        worst = judged(one, torch.device("cpu"))
    return worst, dict(trace.wrong)


def _poisoned(cut: Any, numbers: int, like: Tensor) -> Tensor:
    """What `room` makes, with NaN behind the counters: a number that is read before it is written shows."""
    from impls.batched_cuda.layout import room
    from impls.batched_cuda.parts import COUNTER

    buffer = room(cut, numbers, like)
    buffer[cut.groups * COUNTER.value :] = -1  # all bits set
    return buffer


def patch_language_once() -> None:
    """Have the interpreter patch `triton.language` once per module, not at each call: half its time."""
    from triton.runtime import interpreter

    patch: Callable[[Any], Any] = interpreter._patch_lang
    patched: set[int] = set()

    def once(fn: Any) -> Any:
        if id(fn.__globals__) not in patched:
            patched.add(id(fn.__globals__))
            patch(fn)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = once


def caught(name: str) -> bool:
    """True if one of its uses shows a fault, by the damaged tensor or by a line of the trace."""
    from suite.checks.kernels.traced import traced

    fault, word = FAULTS[name]
    with fault.planted() as build, traced() as trace:
        calls = (one.verdicts(build, torch.device("cpu")) for one in CALLS if word in one.use)
        return any(
            (fault.blamed(one.tensor) and not one.ratio <= 1)
            or any(line.endswith(fault.damages) for line in trace.wrong)
            for one in chain.from_iterable(chain.from_iterable(calls))
        )


def lost() -> float:
    """Relative error of the gradient of a bias in bfloat16, to which one chunk adds 1 and each of 8 others 2**-8.5."""
    case, dtype, cpu = Case(T=9, B=1, I=5, H=8, S=8, Z=1), torch.bfloat16, torch.device("cpu")
    model, sample = model_and_draw(NAME, case, dtype, cpu)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        # With a closed forget gate each step is alone.
        model.get_parameter("layers.0.bias").add_(torch.tensor([1, -20, 1, 1])[:, None])
    d_out = torch.full_like(sample.cotangents[0], 2**-8.5)
    d_out[-1] = 1
    sample = sample._replace(cotangents=(d_out, *map(torch.zeros_like, sample.cotangents[1:])))
    with limited("cpu", backward=1):
        found = plain(model, case, sample)["grad layers.0.bias"]
    model.impl = AGAINST
    expected = plain(model.double(), case, tree_map_only(Tensor, Tensor.double, sample))["grad layers.0.bias"]
    return relative_error(found, expected)
