"""What the kernels share: products, pointwise mathematics, layer norm, the barrier. Nothing here knows HyperLSTM.

Every function runs inside a kernel. Sizes are compile-time constants, so that the alignment of each row is known and
its loads are as wide as the size allows; the batch and the steps are not. Offsets that grow with T B are 64 bit.
"""

import inspect

import triton
import triton.language as tl
from triton.runtime import JITFunction

from ..definition import EPS as _EPS

EPS = tl.constexpr(_EPS)
#: Numbers from the counter of one group to that of the next, which have their own lines of memory.
COUNTER = tl.constexpr(32)
#: Polls of a barrier after which its launch ends with an error, some 10 s at half a microsecond each. They are counted,
#: since a program that the card sets aside for another process should not lose that time.
PATIENCE = tl.constexpr(20_000_000)
#: Tiles whose parts of a norm are read at a time.
PARTS = tl.constexpr(64)


def kernel(function):
    """The Triton kernel, compiled once for given types and constants, whatever its other arguments are.

    Triton would compile again for each pointer that is or is not a multiple of 16; `starts` says what always holds.
    Kernels have long lists of parameters because Triton 3.6 to 3.9 does so for tensors in a tuple in any case, and what
    3.6 takes out of a tuple of constants is no constexpr, as `static_range` needs.
    """
    parameters = inspect.signature(function).parameters.values()
    return triton.jit(do_not_specialize=[q.name for q in parameters if q.annotation is q.empty])(function)


@triton.jit
def barrier():
    """Wait for all threads of the program: Triton's barrier, under the only name by which kernels know it."""
    tl.debug_barrier()


@triton.jit
def sync(counter, members, turn, ALONE: tl.constexpr):
    """Wait until all members of a group have come here, and return how many times they have, of which `turn` before.

    What a member wrote before, every member reads after. The counter only goes up, from 0 at the launch.

    If they do not all come, the launch ends with an error of CUDA. No test reads the instructions that this becomes, in
    the order: all threads have written, a fence, the arrival, polls, an invalidation of L1, all threads go on.
    """
    turn += 1
    barrier()  # without which only one thread's writes would come before the arrival
    if not ALONE:
        tl.atomic_add(counter, 1, sem="release", scope="gpu")
        polls = 0
        # The difference stays right where the counter overflows.
        while tl.atomic_add(counter, 0, sem="acquire", scope="gpu") - turn * members < 0:
            polls += 1
            if polls == PATIENCE:
                trap()
        barrier()
    return turn


@triton.jit
def trap():
    """End the launch with an error, of CUDA or of the interpreter, which runs no instructions of a card."""
    tl.inline_asm_elementwise("trap; mov.u32 $0, 0;", "=r", [], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def step_rows(firsts, t, B):
    """The first token of step t, 64 bit, and how many rows are going; firsts is None if all rows always are."""
    if firsts is None:
        return int64(t) * B, B
    else:  # noqa: RET505 - Triton compiles what follows a return, whichever way the constant decides
        first = tl.load(firsts + t)
        return first, (tl.load(firsts + t + 1) - first).to(tl.int32)


@triton.jit
def steps_of_group(firsts, T, start):
    """The steps that rows from `start` take, of T; firsts as in `step_rows`, with the steps of each row behind them."""
    if firsts is None:
        return T
    else:  # noqa: RET505 - see step_rows
        return tl.load(firsts + T + 1 + start).to(tl.int32)


@triton.jit
def starts(p, rows, F: tl.constexpr):
    """Pointers to some rows of p [*, F], at multiples of 16 bytes or of what divides a row: see `dense`."""
    # 16, or the lowest bit of a row's bytes if less. Triton keeps what is said of a sum, not of an argument.
    ALIGN: tl.constexpr = (F * p.dtype.element_ty.primitive_bitwidth // 8) | 16
    return tl.multiple_of(p + rows * F, ALIGN & -ALIGN)


@triton.jit
def int64(n):
    """A number in 64 bits."""
    return n + tl.zeros((), dtype=tl.int64)


@triton.jit
def only(condition, limit):
    """`limit` if condition, else 0; the interpreter cannot combine a scalar and a block into a mask."""
    return tl.where(condition, limit, 0)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """Return acc + a b, accumulated in float32; "float32" multiplies in float32 too. For TF32 see `layout.rounded`."""
    if PRECISION == "float32":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    elif PRECISION == "tf32":  # noqa: RET505 - see step_rows
        return tl.dot(tf32(a), b, acc, input_precision="tf32")
    else:
        return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def tf32(x):
    """Round x to TF32's 10 bits, to nearest, halves away from 0: a tensor core would cut the other 13 off."""
    near = (x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000
    return tl.where(x == x, near.to(tl.float32, bitcast=True), x)  # the sum would carry a NaN into the sign


@triton.jit
def product(
    acc, a, live, w, units, inside, K, F: tl.constexpr, TURNED: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Return acc + a w for some columns `units` of w [K, F]; a [ROWS] points to rows of K numbers.

    TURNED: w is [*, F] and holds the transposed matrix, of which units are rows. K is a multiple of 4.
    """
    for first in range(0, K, DEPTH):
        k = first + tl.arange(0, DEPTH)
        x = tl.load(a[:, None] + k[None, :], mask=live[:, None] & (k < K)[None, :], other=0.0)
        acc = dot(x, some_columns(w, units, inside, k, K, F, TURNED), acc, PRECISION)
    return acc


@triton.jit
def some_columns(w, units, inside, k, K, F: tl.constexpr, TURNED: tl.constexpr):
    """Numbers k of the columns of a matrix that `product` multiplies with."""
    at = starts(w, units, F)[None, :] + k[:, None] if TURNED else starts(w, k, F)[:, None] + units[None, :]
    return tl.load(at, mask=inside[None, :] & (k < K)[:, None], other=0.0)


@triton.jit
def load4(p, mask, F: tl.constexpr):
    """The four gates at p, p + F, p + 2F, p + 3F in float32."""
    i = tl.load(p, mask=mask, other=0.0).to(tl.float32)
    f = tl.load(p + F, mask=mask, other=0.0).to(tl.float32)
    g = tl.load(p + 2 * F, mask=mask, other=0.0).to(tl.float32)
    o = tl.load(p + 3 * F, mask=mask, other=0.0).to(tl.float32)
    return i, f, g, o


@triton.jit
def store4(p, i, f, g, o, mask, F: tl.constexpr):
    """Write the four gates to p, p + F, p + 2F, p + 3F."""
    tl.store(p, i, mask=mask)
    tl.store(p + F, f, mask=mask)
    tl.store(p + 2 * F, g, mask=mask)
    tl.store(p + 3 * F, o, mask=mask)


@triton.jit
def tanh(x):
    """Tanh x to float32's precision, relative to its size near 0 as well, where the quotient would cancel."""
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    s = x * x
    # (tanh(x) / x - 1) / x^2 below 5/8, fitted to the least largest relative error of tanh: 4e-9.
    fit = -0.33333282 + s * (0.13331442 + s * (-0.053739715 + s * (0.020639087 - 0.0057049863 * s)))
    return tl.where(tl.abs(x) < 0.625, x + x * s * fit, tl.where(x < 0, -far, far))


@triton.jit
def factors(kept, scale, rows, units, inside, F: tl.constexpr):
    """A mask's factors of some rows and units: kept [*, F] is 1 where they are `scale`, else 0."""
    kept = kept.to(tl.pointer_type(tl.int8))  # of bits, as which Triton takes bool, no address of a row can be told
    m = tl.load(starts(kept, rows, F)[:, None] + units[None, :], mask=inside, other=0)
    return m.to(tl.float32) * scale


@triton.jit
def carried(first, run, rows, t, units, inside, F: tl.constexpr):
    """A tile of cells before step t in float32: as given, [*, F] of any type, or as the step before it left them."""
    given = (t + tl.zeros(rows.shape, tl.int32) == 0)[:, None]
    start = tl.load(starts(first, rows, F)[:, None] + units[None, :], mask=inside & given, other=0.0).to(tl.float32)
    return start + tl.load(starts(run, rows, F)[:, None] + units[None, :], mask=inside & (given == 0), other=0.0)


@triton.jit
def cell(i, f, g, c, m):
    """c_t from the gates, c_{t-1} and the mask m of g, which is None where there is none."""
    remembered, i, g = tl.sigmoid(f) * c, tl.sigmoid(i), tanh(g)
    if m is not None:
        g *= m
    return remembered + i * g


@triton.jit
def cell_back(i, f, g, o, before, m, tanh_c, dh, dc):
    """The gates' gradients and that of c_{t-1}, given what `cell` was, the gates before sigmoid and tanh."""
    i, f, g, o = tl.sigmoid(i), tl.sigmoid(f), tanh(g), tl.sigmoid(o)
    di, df, dg = dc * g * i * (1.0 - i), dc * before * f * (1.0 - f), dc * i * (1.0 - g * g)
    if m is not None:
        di, dg = di * m, dg * m
    return di, df, dg, dh * tanh_c * o * (1.0 - o), dc * f


@triton.jit
def moments(y, inside, n):
    """The mean and M2, the sum of squares around it, of each row's n numbers inside."""
    mean = tl.sum(tl.where(inside, y, 0.0), axis=1) / n
    centred = tl.where(inside, y - mean[:, None], 0.0)
    return mean, tl.sum(centred * centred, axis=1)


@triton.jit
def part(parts, first, rows, live, B, TILES: tl.constexpr, WIDTH: tl.constexpr, SPAN: tl.constexpr):
    """Some numbers of parts [tiles, B, WIDTH] for SPAN tiles from `first`, [ROWS, SPAN], 0 where there is no tile."""
    tile = first + tl.arange(0, SPAN)
    inside = live[:, None] & (tile < TILES)[None, :]
    return tl.load(parts + (tile[None, :] * B + rows[:, None]) * WIDTH, mask=inside, other=0.0)


@triton.jit
def summed(parts, rows, live, B, TILES: tl.constexpr, WIDTH: tl.constexpr):
    """The sum over tiles of parts [tiles, B, WIDTH]."""
    total = tl.zeros(rows.shape, tl.float32)
    for first in range(0, TILES, PARTS):
        total += tl.sum(part(parts, first, rows, live, B, TILES, WIDTH, PARTS), axis=1)
    return total


@triton.jit
def merged(parts, rows, live, B, F: tl.constexpr, UNITS: tl.constexpr, WIDTH: tl.constexpr):
    """Mean and 1 / std of rows of F numbers from the `moments` of their tiles of UNITS.

    parts [tiles, B, WIDTH] points to a mean, with its M2 behind it.
    """
    TILES: tl.constexpr = (F + UNITS - 1) // UNITS
    mean, m2 = tl.zeros(rows.shape, tl.float32), tl.zeros(rows.shape, tl.float32)
    for first in range(0, TILES, PARTS):
        n = tl.maximum(tl.minimum(F - (first + tl.arange(0, PARTS)) * UNITS, UNITS), 0)[None, :]
        mean += tl.sum(part(parts, first, rows, live, B, TILES, WIDTH, PARTS) * n, axis=1)
    mean /= F
    for first in range(0, TILES, PARTS):
        n = tl.maximum(tl.minimum(F - (first + tl.arange(0, PARTS)) * UNITS, UNITS), 0)[None, :]
        apart = part(parts, first, rows, live, B, TILES, WIDTH, PARTS) - mean[:, None]
        m2 += tl.sum(part(parts + 1, first, rows, live, B, TILES, WIDTH, PARTS) + apart * apart * n, axis=1)
    return mean, tl.rsqrt(m2 / F + EPS)


@triton.jit
def standardised(y, inside, F: tl.constexpr):
    """(y - mean) / std of whole rows y [ROWS, UNITS], 0 outside, and their 1 / std."""
    mean, m2 = moments(y, inside, F)
    rstd = tl.rsqrt(m2 / F + EPS)
    return tl.where(inside, (y - mean[:, None]) * rstd[:, None], 0.0), rstd


@triton.jit
def norm_back(d, x, rstd, inside, F: tl.constexpr):
    """The gradient of whole rows before they were standardised to x, given that of x; all are 0 outside."""
    mean, along_x = tl.sum(d, axis=1) / F, tl.sum(d * x, axis=1) / F
    return tl.where(inside, (d - mean[:, None] - x * along_x[:, None]) * rstd[:, None], 0.0)


@triton.jit
def vector(p, units, known):
    """Some numbers of a parameter in float32 as a row to broadcast, [1, UNITS]."""
    return tl.load(p + units, mask=known, other=0.0).to(tl.float32)[None, :]


@triton.jit
def vector4(p, units, known, F: tl.constexpr):
    """The same of four rows of F."""
    first, second = vector(p, units, known), vector(p + F, units, known)
    return first, second, vector(p + 2 * F, units, known), vector(p + 3 * F, units, known)


#: Whether the kernels are for Triton's interpreter, which is settled when this module is imported.
INTERPRETED = not isinstance(starts, JITFunction)
