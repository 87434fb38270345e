"""Memory of batched_cpu: nothing is read before it is written or beyond an array, and no more is held than said."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from impls import batched_cpu, why_unavailable
from impls.batched_cpu import loading
from impls.definition import Inputs, LayerParams, LayerState, Mask, cell_dtype, dtype_name, shapes
from impls.gradient.chunks import Limits
from impls.gradient.operator import NAMES, Saved, allocate_states
from suite.cases.case import Case
from suite.checks.cpu.guarded import Guarded
from suite.checks.cpu.instrumented import instrumented
from suite.checks.cpu.programs import NEEDS_COMPILER, run
from suite.comparison.tolerance import assert_bitwise_equal

HERE = Path(__file__).parent
F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
#: Bytes of a huge page.
HUGE = 2 << 20

pytestmark = [
    pytest.mark.usefixtures("two_threads"),
    pytest.mark.impl(name="batched_cpu"),
    pytest.mark.skipif(sys.platform != "linux", reason="Pages are protected as Linux does it."),
    NEEDS_COMPILER,
    pytest.mark.skipif(
        why_unavailable("batched_cpu", "cpu") is not None, reason=f"{why_unavailable('batched_cpu', 'cpu')}"
    ),
]


@pytest.fixture
def guarded() -> Iterator[Callable[..., Guarded]]:
    """A function that makes a `Guarded`, whose arrays live until the test has ended and its failure is shown."""
    made = list[Guarded]()

    def make(**options: bool) -> Guarded:
        made.append(Guarded(**options))
        return made[-1]

    yield make
    for memory in made:
        memory.close()


class Layer:
    """Both passes of a layer, each array of which is where `placed` copies it.

    steps: of a chunk of the backward pass. residuals: whether they are saved.
    """

    def __init__(
        self,
        case: Case,
        dtype: torch.dtype,
        placed: Callable[[Tensor], Tensor] = Tensor.clone,
        *,
        steps: int = 1 << 20,
        residuals: bool = True,
    ) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.placed = placed
        I, H, S = case.I, case.H, case.S
        over = (case.tokens,) if case.lengths else (case.T, case.B)
        of_shapes = shapes(I, H, S, case.Z, layer_norm=case.layer_norm).values()
        self.p = LayerParams(*(self._numbers(shape, dtype) for shape in of_shapes))
        cell = cell_dtype(dtype)
        states = zip((H, H, S, S), (dtype, cell, dtype, cell), strict=True)
        start = LayerState(*(self._numbers((case.B, F), of_state) for F, of_state in states))
        mask = None
        if case.recurrent_dropout:
            mask = Mask(placed(torch.rand(*over, H, generator=self.generator) < 0.5), 2.0)
        rows = case.batch_sizes
        self.inputs = Inputs(self._numbers((*over, I), dtype), start, mask, rows)
        self.d_out = self._numbers((*over, H), dtype)
        self.out = placed(torch.empty(*over, H, dtype=dtype))
        self.states = [placed(q) for q in allocate_states(self.p, self.inputs.x, over)]
        self.residuals: Tensor | None = None
        if residuals:
            self.residuals = placed(torch.empty(*over, batched_cpu._residuals(I, H, S), dtype=dtype))
        self.limits = Limits(forward=1 << 40, backward=1 << 40, rows=steps * case.B)
        self.needed = [name for name in NAMES if getattr(self.p, name, self.d_out) is not None]

    def _numbers(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        numbers = torch.randn(*shape, generator=self.generator, dtype=F64)
        return self.placed(numbers.to(dtype))

    def forward(self) -> dict[str, Tensor]:
        """All that a forward pass writes for a backward pass."""
        last = batched_cpu.forward(self.p, self.inputs, self.out, self.states, self.residuals)
        written = {f"last {name}": part for name, part in last._asdict().items()}
        for name, part in zip(("h", "c", "h_hat", "c_hat"), (self.out, *self.states), strict=False):
            written[f"all {name}"] = part
        return written if self.residuals is None else {**written, "residuals": self.residuals}

    def backward(self) -> dict[str, Tensor]:
        """The gradients."""
        saved = Saved(LayerState(self.out, *self.states), self.residuals, self.limits)
        return batched_cpu.backward(self.p, self.inputs, saved, self.d_out, [None] * 4, self.needed)


class Sized(NamedTuple):
    """A case, its split among threads, and whether residuals are saved."""

    case: Case
    split: tuple[int, int]
    residuals: bool


#: Sizes of one, of whole vectors and of parts of them; panels whose rows are divided; weights as they are stored.
SIZED = {
    "ones": Sized(Case(T=1, B=1, I=1, H=1, S=1, Z=1), (1, 1), True),
    "ones-norm-dropped": Sized(
        Case(T=3, B=2, I=3, H=1, S=1, Z=1, layer_norm=True, recurrent_dropout=0.5), (2, 1), False
    ),
    "edges": Sized(Case(T=3, B=7, I=5, H=37, S=19, Z=3), (1, 2), False),
    "edges-norm-dropped": Sized(
        Case(T=3, B=7, I=5, H=37, S=19, Z=3, layer_norm=True, recurrent_dropout=0.5), (2, 1), True
    ),
    "divided": Sized(Case(T=3, B=14, I=5, H=37, S=19, Z=3), (1, 2), True),
    "whole": Sized(Case(T=3, B=40, I=33, H=64, S=16, Z=4, recurrent_dropout=0.5), (1, 2), True),
    "stored": Sized(Case(T=1, B=3, I=97, H=71, S=9, Z=5, layer_norm=True), (1, 2), True),
    "packed": Sized(
        Case(T=4, B=9, I=6, H=70, S=17, Z=2, lengths=(4, 4, 3, 3, 2, 2, 1, 1, 1), layer_norm=True), (1, 2), False
    ),
    "packed-dropped": Sized(
        Case(T=4, B=3, I=6, H=21, S=9, Z=2, lengths=(4, 2, 1), recurrent_dropout=0.5), (1, 1), True
    ),
}
#: Libraries as they are used, and those of other instruction sets, whose scratch arrays do not share a block.
LIBRARIES: tuple[tuple[str, torch.dtype], ...] = (
    *(("", dtype) for dtype in (F64, F32, BF16)),
    *(("baseline", dtype) for dtype in (F32, BF16)),
    ("avx2", F32),
)


@contextmanager
def used(instruction_set: str, dtype: torch.dtype) -> Iterator[loading.Library]:
    """The library that batched_cpu runs while the context is open: that for use, or one built for tests."""
    if not instruction_set:
        yield loading.library(dtype)
        return
    if instruction_set != "baseline" and not torch.cpu.get_capabilities().get(instruction_set):
        pytest.skip(f"This processor has no {instruction_set}.")
    with instrumented(dtype, instruction_set) as library:
        yield library


@pytest.mark.parametrize("at_end", [True, False], ids=["end", "begin"])
@pytest.mark.parametrize("layer", SIZED)
@pytest.mark.parametrize(
    ("instruction_set", "dtype"),
    [pytest.param(*each, id=f"{each[0] or 'used'}-{dtype_name(each[1])}") for each in LIBRARIES],
)
def test_only_what_was_written_is_read_and_nothing_beyond_an_array(
    layer: str,
    instruction_set: str,
    dtype: torch.dtype,
    at_end: bool,
    guarded: Callable[..., Guarded],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read or write beyond an array ends the process of the test."""
    if dtype == BF16 and torch.cpu.get_capabilities().get("amx_bf16"):
        pytest.skip("With AMX, torch's own product of bfloat16 reads beyond rows (oneDNN's issue 5717).")
    case, split, residuals = SIZED[layer]
    monkeypatch.setattr(batched_cpu, "SPLIT", split)
    with used(instruction_set, dtype) as library:
        usual = Layer(case, dtype, steps=1, residuals=residuals)
        expected = usual.forward() | usual.backward()
        memory = guarded(at_end=at_end)
        with memory.of(library), monkeypatch.context() as changed:
            watched = Layer(case, dtype, memory.placed, steps=1, residuals=residuals)
            changed.setattr(torch, "empty_like", memory.like)
            changed.setattr(torch, "zeros_like", memory.zeros_like)
            results = watched.forward() | watched.backward()
        assert memory.live == 0
        assert_bitwise_equal(results, expected)
        assert all(bool(result.isfinite().all()) for result in results.values())


#: So many rows, beside so few weights, that most of its memory is of tokens.
TOKENS = Case(T=3, B=64, I=8, H=16, S=8, Z=2)


@pytest.mark.parametrize("residuals", [True, False], ids=["saved", "recomputed"])
def test_a_backward_pass_holds_the_arrays_of_two_chunks_for_any_number_of_steps(
    residuals: bool, guarded: Callable[..., Guarded]
) -> None:
    torch.set_num_threads(1)  # of several, as many hold scratch arrays of a job as run at that time
    peaks = []
    with instrumented(F32) as library:
        for T in (3, 4, 12):
            memory = guarded()
            layer = Layer(replace(TOKENS, T=T), F32, steps=1, residuals=residuals)
            layer.forward()
            with memory.of(library):
                layer.backward()
            peaks.append(memory.peak)
    assert peaks[0] == peaks[1] == peaks[2] > 0


def test_an_inference_holds_the_states_of_two_steps(guarded: Callable[..., Guarded]) -> None:
    torch.set_num_threads(1)
    peaks = []
    with instrumented(F32) as library:
        for T in (2, 3, 12):
            memory = guarded()
            layer = Layer(replace(TOKENS, T=T), F32, residuals=False)
            layer.states = []
            with memory.of(library):
                layer.forward()
            peaks.append(memory.peak)
    assert peaks[0] == peaks[1] == peaks[2] > 0


def test_a_single_chunk_has_freed_the_packed_weights_before_gradients_are_allocated(
    guarded: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large weights and few tokens are what the first training steps of a large model run out of memory with."""
    torch.set_num_threads(1)
    case = Case(T=2, B=5, I=8, H=128, S=8, Z=2)
    held = list[int]()
    allocate = batched_cpu._Gradients.allocate

    def watched(gradients: batched_cpu._Gradients) -> Iterable[int]:
        held.append(memory.live)
        return allocate(gradients)

    monkeypatch.setattr(batched_cpu._Gradients, "allocate", watched)
    with instrumented(F32) as library:
        for steps in (1, 2):
            memory = guarded()
            layer = Layer(case, F32, steps=steps, residuals=False)
            layer.forward()
            with memory.of(library):
                layer.backward()
    of_two, of_one = held
    weights = 4 * (case.H + case.S) * case.H * F32.itemsize
    assert of_one < weights < 2 * weights < of_two  # which packs them for either direction


def is_advised(address: int) -> bool:
    """Whether huge pages were requested for the memory at an address."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if bounds:
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    return False


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="This system has no transparent huge pages."
)
def test_huge_pages_are_requested_for_large_arrays(guarded: Callable[..., Guarded]) -> None:
    """Faulting in small ones takes longer than computing what is written to them."""
    case = Case(T=16, B=128, I=512, H=512, S=16, Z=1)
    memory = guarded()
    layer = Layer(case, F32, memory.placed)
    with memory.of(loading.library(F32)), pytest.MonkeyPatch.context() as changed:
        changed.setattr(torch, "empty_like", memory.like)
        layer.forward()
        gradients = layer.backward()
    written = {"out": layer.out, "residuals": layer.residuals, "x": gradients["x"], "weight": gradients["weight_h"]}
    advised = {}
    for name, array in written.items():
        assert array is not None
        assert array.nbytes >= 2 * HUGE
        advised[name] = is_advised(array.data_ptr() + array.nbytes // 2)
    assert advised == dict.fromkeys(written, True)


def test_scratch_arrays_are_apart_and_large_blocks_stay_with_the_process(tmp_path: Path) -> None:
    assert run(tmp_path / "memory", f'#include "{HERE / "memory_test.cpp"}"\n') == "as said\n"
