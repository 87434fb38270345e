"""batched_cpu reads nothing before it is written, touches nothing beyond an array, and frees all its memory."""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from impls import batched_cpu
from impls.batched_cpu import loading
from impls.definition import Inputs, LayerParams, LayerState, Mask, cell_dtype, dtype_name, shapes
from impls.gradient.chunks import Limits
from impls.gradient.operator import NAMES, Saved, allocate_states
from suite.cases.case import Case
from suite.checks.cpu.guarded import guarded
from suite.checks.cpu.instrumented import instrumented
from suite.comparison.tolerance import assert_bitwise_equal

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16

pytestmark = [
    pytest.mark.impl(name="batched_cpu"),
    pytest.mark.usefixtures("built", "two_threads"),
    pytest.mark.skipif(sys.platform != "linux", reason="Pages are protected as Linux does it."),
]

#: By name: a case, its split among threads, and whether residuals are saved. Sizes of one, of whole vectors and of
#: parts of them; panels whose rows are divided; weights as they are stored.
LAYERS = {
    "ones": (Case(T=1, B=1, I=1, H=1, S=1, Z=1), (1, 1), True),
    "ones-norm-dropped": (Case(T=3, B=2, I=3, H=1, S=1, Z=1, layer_norm=True, recurrent_dropout=0.5), (2, 1), False),
    "edges": (Case(T=3, B=7, I=5, H=37, S=19, Z=3), (1, 2), False),
    "edges-norm-dropped": (
        Case(T=3, B=7, I=5, H=37, S=19, Z=3, layer_norm=True, recurrent_dropout=0.5),
        (2, 1),
        True,
    ),
    "divided": (Case(T=3, B=14, I=5, H=37, S=19, Z=3), (1, 2), True),
    "whole": (Case(T=3, B=40, I=33, H=64, S=16, Z=4, recurrent_dropout=0.5), (1, 2), True),
    "stored": (Case(T=1, B=3, I=97, H=71, S=9, Z=5, layer_norm=True), (1, 2), True),
    "packed": (
        Case(T=4, B=9, I=6, H=70, S=17, Z=2, lengths=(4, 4, 3, 3, 2, 2, 1, 1, 1), layer_norm=True),
        (1, 2),
        False,
    ),
    "packed-dropped": (Case(T=4, B=3, I=6, H=21, S=9, Z=2, lengths=(4, 2, 1), recurrent_dropout=0.5), (1, 1), True),
}
#: Instruction sets, with "" for the library in use. In the others, built for tests, no scratch arrays share a block.
LIBRARIES = (("", F64), ("", F32), ("", BF16), ("baseline", F32), ("baseline", BF16), ("avx2", F32))


def results_of_both_passes(
    case: Case, dtype: torch.dtype, residuals: bool, placed: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """All that a forward pass, and a backward pass in chunks of one step, write to arrays that `placed` copies."""
    generator = torch.Generator().manual_seed(0)
    I, H, S, cell = case.I, case.H, case.S, cell_dtype(dtype)
    over = (case.tokens,) if case.lengths else (case.T, case.B)

    def numbers(shape: Sequence[int], of: torch.dtype = dtype) -> Tensor:
        return placed(torch.randn(*shape, generator=generator, dtype=F64).to(of))

    p = LayerParams(*map(numbers, shapes(I, H, S, case.Z, layer_norm=case.layer_norm).values()))
    start = LayerState(*(numbers((case.B, F), of) for F, of in ((H, dtype), (H, cell), (S, dtype), (S, cell))))
    mask = None
    if case.recurrent_dropout:
        mask = Mask(placed(torch.rand(*over, H, generator=generator) < 0.5), 2.0)
    inputs = Inputs(numbers((*over, I)), start, mask, case.batch_sizes)
    d_out = numbers((*over, H))

    out = placed(torch.empty(*over, H, dtype=dtype))
    states = [placed(q) for q in allocate_states(p, inputs.x, over)]
    saved = placed(torch.empty(*over, batched_cpu._residuals(I, H, S), dtype=dtype)) if residuals else None
    last = batched_cpu.forward(p, inputs, out, states, saved)

    limits = Limits(forward=1 << 40, backward=1 << 40, rows=case.B)
    needed = [name for name in NAMES if getattr(p, name, out) is not None]
    of_forward = Saved(LayerState(out, *states), saved, limits)
    gradients = batched_cpu.backward(p, inputs, of_forward, d_out, [None] * 4, needed)

    results = {f"last {name}": part for name, part in last._asdict().items()}
    results |= {"out": out, "c": states[0], "h_hat": states[1], "c_hat": states[2]}
    if saved is not None:
        results["residuals"] = saved
    return results | {f"gradient of {name}": d for name, d in gradients.items()}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("instruction_set", "dtype"),
    [pytest.param(*each, id=f"{each[0] or 'used'}-{dtype_name(each[1])}") for each in LIBRARIES],
)
@pytest.mark.parametrize("at_end", [True, False], ids=["end", "begin"])
def test_only_what_was_written_is_read_and_nothing_beyond_an_array(
    layer: str, instruction_set: str, dtype: torch.dtype, at_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read or write beyond an array ends the process of the test."""
    if dtype == BF16 and torch.cpu.get_capabilities().get("amx_bf16"):
        pytest.skip("With AMX, torch's own product of bfloat16 reads beyond rows (oneDNN's issue 5717).")
    case, split, residuals = LAYERS[layer]
    monkeypatch.setattr(batched_cpu, "SPLIT", split)
    in_use = instrumented(dtype, instruction_set) if instruction_set else nullcontext(loading.library(dtype))
    with in_use as library:
        expected = results_of_both_passes(case, dtype, residuals, Tensor.clone)
        with guarded(library, at_end=at_end) as placed:
            results = results_of_both_passes(case, dtype, residuals, placed)
    assert_bitwise_equal(results, expected)
    assert all(bool(result.isfinite().all()) for result in results.values())
