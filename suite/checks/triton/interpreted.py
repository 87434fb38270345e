"""The kernels of `batched_cuda` in Triton's interpreter: the functions that a GPU runs, with one member per group.

A process runs them that has TRITON_INTERPRET=1; tests that it runs take this file as a plugin. Every address is traced.
`members.py` runs groups of several members. Speed, memory order and streams are not checked here.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from impls.definition import dtype_name
from impls.gradient.chunks import NUMBERS, limited
from impls.registry import ORACLE, find
from suite.cases.case import Case
from suite.cases.verification import DROPOUT, RAGGED, VERIFY, VERIFY_TILES
from suite.checks.equality import calls, extremes, gradients, layouts
from suite.checks.equality.catalogue import paired
from suite.checks.equality.comparisons import WIDE_ORACLE, Comparison, against_naive, against_wide
from suite.checks.equality.pairs import OF_A_LAYER
from suite.checks.triton import TRITON
from suite.comparison.draws import Draw, implementation, model_and_draw
from suite.comparison.runs import plain
from suite.comparison.tensors import Gradient
from suite.comparison.tolerance import Judgement, relative_error

BIAS = "layers.0.bias"
GRADIENT_OF_BIAS = Gradient(BIAS)
F32 = torch.float32
_DTYPES = find(TRITON).dtypes
_EDGES = (*RAGGED[:3], *DROPOUT[:3], *VERIFY_TILES, *(case for case in VERIFY if case.state == "shared"))
#: The smallest of the sizes that every implementation is checked at, packed sequences, masks of g, all that have edges
#: between tiles, and a sequence of several chunks.
CASES = (*VERIFY[:2], *_EDGES)
#: In float32: wide cases, on either side of each size that decides what the kernels do, but of large ones.
WIDE = (
    Case(T=2, B=66, I=5, H=33, S=9, Z=2, layer_norm=True, state="shared", recurrent_dropout=0.3),
    Case(T=2, B=12, I=97, H=137, S=72, Z=9, layer_norm=True, state="stacked"),
    Case(T=2, B=6, I=20, H=64, S=33, Z=2, L=2, lengths=(2, 2, 2, 1, 1, 1)),
    Case(T=11, B=2, I=40, H=17, S=20, Z=3, state="stacked"),
)
#: Sizes that are padded, and some that are not, so that kernels read a caller's own tensors.
SMALLEST = Case(T=2, B=2, I=3, H=7, S=5, Z=2, layer_norm=True, state="stacked")
OWN = replace(SMALLEST, H=8, S=8)
#: Units enough for norms of values that lose digits.
VALUES = replace(SMALLEST, H=72, S=64)


def _by_id(comparisons: Sequence[Comparison]) -> dict[str, Comparison]:
    """Comparisons by id and dtype. Of two that differ in `default` alone it is the first; others are a ValueError."""
    by_id: dict[str, Comparison] = {}
    for comparison in comparisons:
        name = f"{comparison.id}-{dtype_name(comparison.dtype)}"
        first = by_id.setdefault(name, comparison)
        if comparison._replace(default=first.default) != first:
            raise ValueError(f"{name}: expected one comparison of this id, got two")
    return by_id


def _two_steps(comparison: Comparison) -> Comparison:
    case = comparison.case
    lengths = tuple(min(steps, 2) for steps in case.lengths)
    return comparison._replace(case=replace(case, T=min(case.T, 2), lengths=lengths))


#: Sizes with which gates have products of their own.
_OF_GATES = replace(SMALLEST, Z=17)
#: What is compared, by an id that a process of the interpreter is given. In a default run the smallest sizes, packed
#: sequences, some of which end before a chunk begins, masks, and wide cases; options in pairs, each gradient of an
#: output alone among them; values at which a formula loses digits or overflows. In a thorough one layouts in memory,
#: addresses that are not aligned, each of the other cases in one dtype, and parameters of which one alone is trained.
COMPARISONS = _by_id(
    [
        *(against_naive(case, dtype) for case in VERIFY[:2] for dtype in _DTYPES),
        *(against_naive(case, F32) for case in (*RAGGED[:2], DROPOUT[0])),
        *(against_wide(case, F32) for case in (_OF_GATES, *WIDE)),
        *(_two_steps(comparison) for comparison in paired(TRITON, OF_A_LAYER)),
        against_wide(OWN, F32, "layouts at once", layouts.AT_ONCE, default=False),
        against_wide(_OF_GATES, F32, "gradients", gradients.GRADIENTS, default=False),
        against_wide(replace(SMALLEST, layer_norm=False), F32, "calls", calls.CALLS),
        against_wide(VALUES, F32, "means far from 0", extremes.MEANS_FAR_FROM_0),
        against_wide(replace(VALUES, layer_norm=False), F32, "saturated", extremes.SATURATED),
        *(against_naive(case, _DTYPES[n % len(_DTYPES)], default=False) for n, case in enumerate(_EDGES)),
        against_wide(SMALLEST, F32, "frozen", gradients.FROZEN, default=False),
    ]
)


def judged(comparison: Comparison, device: torch.device) -> Judgement:
    """The worst judgement. A small case runs in chunks of two steps, because a chunk's first and last step are special.

    device: one that runs the kernels.
    """
    from impls.batched_cuda import backward, forward  # import Triton, which may be missing

    case = comparison.case
    chunks = {}
    if comparison.oracle == ORACLE:
        chunks["backward"] = 2 * NUMBERS * case.B * case.H * comparison.dtype.itemsize
    with (
        limited(device.type, **chunks),
        patch.object(forward, "room", _poisoned),
        patch.object(backward, "room", _poisoned),
    ):
        return comparison.worst(implementation(TRITON), device)


def compared(name: str) -> tuple[Judgement, Counter[tuple[str, str]]]:
    """Worst judgement of a comparison of `COMPARISONS`, and what was wrong with how many addresses.

    It takes one draw, and in half precision all: of a single one the naive form may happen to err little.
    """
    from suite.checks.triton.traced import launches_traced

    comparison = COMPARISONS[name]
    if comparison.dtype.itemsize > 2:
        comparison = comparison._replace(draws=1)
    with launches_traced() as wrong:
        worst = judged(comparison, torch.device("cpu"))
    return worst, wrong


def _poisoned(cut: Any, numbers: int, like: Tensor) -> Tensor:
    """What `room` makes, with NaN behind the counters: a number that is read before it is written shows."""
    from impls.batched_cuda.layout import room
    from impls.batched_cuda.parts import COUNTER

    buffer = room(cut, numbers, like)
    buffer[cut.groups * COUNTER.value :] = -1  # all bits set
    return buffer


def pytest_configure() -> None:
    """Prepare a run of pytest that loads this file as a plugin."""
    prepare()


def prepare() -> None:
    """Have the interpreter of this process round to bfloat16 as a GPU does, and take half the time."""
    from triton.runtime import interpreter

    interpreter._convert_float = partial(_converted, interpreter._convert_float)
    patch: Callable[[Any], Any] = interpreter._patch_lang
    patched: set[int] = set()

    def once(fn: Any) -> Any:
        if id(fn.__globals__) not in patched:
            patched.add(id(fn.__globals__))
            patch(fn)
        return SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = once  # which else patches `triton.language` at each call


def _converted(convert: Callable[..., Any], numbers: Any, of: Any, to: Any, mode: Any) -> Any:
    """Numbers in another dtype; in bfloat16 rounded to nearest unless a kernel asks for another mode."""
    import triton.language as tl
    from triton.runtime.interpreter import _ir

    # The interpreter cuts bits off, and loses the carry where it is asked to round to nearest.
    if of == tl.float32 and to == tl.bfloat16 and mode in (None, _ir.ROUNDING_MODE.RTNE):
        return torch.tensor(numbers).bfloat16().view(torch.uint16).numpy()
    return convert(numbers, of, to, mode)


def lost() -> float:
    """Relative error of the gradient of a bias in bfloat16, to which one chunk adds 1 and each of 8 others 2**-8.5."""
    case = Case(T=9, B=1, I=5, H=8, S=8, Z=1)
    model, sample = model_and_draw(TRITON, case, torch.bfloat16, torch.device("cpu"))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        # With a closed forget gate each step is alone.
        model.get_parameter(BIAS).add_(torch.tensor([1, -20, 1, 1])[:, None])
    d_out = torch.full_like(sample.cotangents[0], 2**-8.5)
    d_out[-1] = 1
    sample = sample._replace(cotangents=(d_out, *map(torch.zeros_like, sample.cotangents[1:])))
    with limited("cpu", backward=1):
        gradient = plain(model, case, sample)[GRADIENT_OF_BIAS]
    model.impl = WIDE_ORACLE
    exact: Draw = tree_map_only(Tensor, Tensor.double, sample)
    expected = plain(model.double(), case, exact)[GRADIENT_OF_BIAS]
    return relative_error(gradient, expected)
