"""How operands are rounded, and what packed sequences save, in the interpreter: run by `test_interpreter.py`.

TF32 operands must be rounded to nearest before a product, which a tensor core would cut off instead.
"""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

from unittest import mock

import numpy as np
import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder

from impls.batched_cuda import layout
from impls.batched_cuda.parts import tf32
from impls.definition import LayerParams
from suite.cases.case import Case
from suite.checks.triton import TRITON
from suite.checks.triton.traced import programs_traced
from suite.comparison.draws import implementation, model_and_draw
from suite.comparison.tolerance import assert_bitwise_equal, evaluate

CPU = torch.device("cpu")
#: Bits of a float32 that TF32 drops.
DROPPED = 13


@triton.jit
def rounded(x, to, N: tl.constexpr):
    """Write N numbers as a product would take them."""
    k = tl.arange(0, N)
    tl.store(to + k, tf32(tl.load(x + k)))


def test_tf32_operands_are_rounded_to_nearest() -> None:
    torch.manual_seed(0)
    x = torch.randn(4096) * torch.logspace(-30, 37, 4096)
    x[:5] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0])
    # A NaN whose last bits are all set is what a card makes; added to, it would become -0.
    x.view(torch.int32)[5] = 0x7FFFFFFF
    in_kernel, names = torch.empty_like(x), ("weight_h", "hyper_weight_h", "hyper_weight_s", "z_weight", "d_weight")
    rounded[(1,)](x, in_kernel, len(x))
    before_it = layout.rounded(LayerParams(**dict.fromkeys(LayerParams._fields) | dict.fromkeys(names, x)))
    fraction, exponent = torch.frexp(x.double())
    steps = 2 ** (24 - DROPPED)
    nearest = torch.ldexp((fraction.abs() * steps + 0.5).floor().copysign(fraction) / steps, exponent).float()
    for got in (in_kernel, *(getattr(before_it, name) for name in names)):
        bad = ~((got == nearest) | (x.isnan() & got.isnan()))
        assert not bad.any(), f"expected {nearest[bad][:3].tolist()}, got {got[bad][:3].tolist()}"


def test_no_operand_has_bits_that_tf32_drops():
    case = Case(T=4, B=3, I=5, H=16, S=8, Z=4, state="shared", layer_norm=True)
    before, multiply, operands = torch.backends.cuda.matmul.fp32_precision, InterpreterBuilder.create_dot, []

    def noted(self, a, b, *others):
        operands.extend((a.data, b.data))
        return multiply(self, a, b, *others)

    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"  # after which torch.get_float32_matmul_precision() raises
        with mock.patch.object(InterpreterBuilder, "create_dot", noted):
            evaluate(implementation(TRITON), case, torch.float32, CPU, rounded=torch.float32, draws=1)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert operands, "no product was noted"
    assert not any((q.view(np.int32) & 0x1FFF).any() for q in operands)


def test_packed_rows_end_with_their_lengths():
    """A group takes no step that none of its rows has, and the end of one row changes no other row."""
    model, (_, x, *_) = model_and_draw(TRITON, Case(T=6, B=66, I=3, H=7, S=5, Z=2), torch.float32, CPU)
    outs, accesses = [], []
    for T in (6, 1):
        lengths = torch.tensor([T] * 64 + [1] * 2)  # the last group has the last two rows
        with programs_traced() as programs, torch.no_grad():
            outs.append(model(torch.nn.utils.rnn.pack_padded_sequence(x, lengths))[0])
        accesses.append(len(programs[max(programs)].accesses))
    assert accesses[0] == accesses[1]
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(outs[0])
    with torch.no_grad():
        alone, _ = model(x[:, :1])
    assert_bitwise_equal({"out": padded[:, 0]}, {"out": alone[:, 0]})
