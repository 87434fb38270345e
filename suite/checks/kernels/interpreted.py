"""The kernels of `batched_cuda` in Triton's interpreter: the functions that a GPU runs, with one member per group.

Run as `python -m suite.checks.kernels.interpreted FILE EXTENT` with TRITON_INTERPRET=1. Every address is traced.
`members.py` runs groups of several members. Speed, memory order and streams are not checked here.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from impls.definition import dtype_name
from impls.gradient.chunks import limited
from impls.registry import find
from suite.shared.cases import AGAINST, DROPOUT, RAGGED, VERIFY, VERIFY_TILES, Case
from suite.shared.compare import Verdict, compare, implementation
from suite.shared.process import append_row

NAME = "batched_cuda"
_DTYPES = find(NAME).dtypes
_EDGES = (*RAGGED[:3], *DROPOUT[:3], *VERIFY_TILES, *(case for case in VERIFY if case.state == "plain"))
#: The smallest of the sizes that every implementation is checked at, packed sequences, masks of g, all that have edges
#: between tiles, and a sequence of several chunks.
PAIRS = [(case, dtype) for case in (*VERIFY[:2], *_EDGES) for dtype in _DTYPES]
#: Of a thorough run: each of the other cases in one dtype.
SOME_PAIRS = [*PAIRS[: 2 * len(_DTYPES)], *((case, _DTYPES[i % len(_DTYPES)]) for i, case in enumerate(_EDGES))]
#: Of a default run: the smallest sizes, packed sequences and masks.
FEW_PAIRS = SOME_PAIRS[: 4 * len(_DTYPES)]
#: Of every run, in float32: wide cases, which meet every condition of `faults/test_reach.py` but those on large sizes.
WIDE = (
    Case(T=2, B=70, I=97, H=137, S=40, Z=9, layer_norm=True, state="plain", recurrent_dropout=0.3),
    Case(T=3, B=6, I=20, H=64, S=33, Z=2, L=2, lengths=(3, 3, 2, 2, 1, 1)),
    Case(T=12, B=2, I=40, H=17, S=20, Z=3, state="stacked"),
)
#: The first Triton whose interpreter runs with NumPy 2.4.
_OF_NUMPY_2_4 = "3.7"
#: Draws of a case. A card's `exp` and division err at random, so that one draw could decide; the interpreter's do not.
DRAWS, SOME_DRAWS = 8, 1


def why_not() -> str | None:
    """None if Triton's interpreter runs here, else the reason in a sentence."""
    if find_spec("triton") is None:
        return "Triton is not installed."
    import triton

    if TorchVersion(triton.__version__) < _OF_NUMPY_2_4 and TorchVersion(np.__version__) >= "2.4":
        return f"The interpreter of Triton {triton.__version__} does not run with NumPy {np.__version__}, only to 2.3."
    return None


def judged(case: Case, dtype: torch.dtype, device: torch.device, draws: int = DRAWS) -> Verdict:
    """Worst verdict on a case, in chunks of two steps: a chunk's first and last step are special."""
    from impls.batched_cuda import backward, forward  # import Triton, which may be missing

    two_steps = limited(device.type, backward=2 * 40 * case.B * case.H * dtype.itemsize)
    with two_steps, patch.object(forward, "room", _poisoned), patch.object(backward, "room", _poisoned):
        return compare(implementation(NAME), case, dtype, device, draws=draws)[0]


def judged_wide(case: Case, device: torch.device) -> Verdict:
    """Worst verdict on a wide case, whose oracle is row_scaled."""
    return compare(implementation(NAME), case, torch.float32, device, against=AGAINST, draws=SOME_DRAWS)[0]


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


def _wrong(trace: Any) -> str:
    return ", ".join(f"{fault}: {n} times" for fault, n in trace.wrong.items())


if __name__ == "__main__":
    from suite.checks.kernels.traced import traced

    everything = sys.argv[2] == "all"
    patch_language_once()
    for case, dtype in {"few": FEW_PAIRS, "all": PAIRS}.get(sys.argv[2], SOME_PAIRS):
        with traced() as trace:
            worst = judged(case, dtype, torch.device("cpu"), DRAWS if everything else SOME_DRAWS)
        results = vars(worst) | vars(trace) | {"wrong": _wrong(trace)}
        append_row(Path(sys.argv[1]), {"case": case.id, "dtype": dtype_name(dtype), **results})
    for case in WIDE:
        with traced() as trace:
            worst = judged_wide(case, torch.device("cpu"))
        about = {"case": case.id, "dtype": "float32"}
        append_row(Path(sys.argv[1]), about | vars(worst) | vars(trace) | {"wrong": _wrong(trace)})
