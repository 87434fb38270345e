"""What the phases of a step share: products, pointwise mathematics, layer norm. Nothing here knows HyperLSTM.

Every function runs inside a kernel. Sizes are compile-time constants, so that the alignment of each row is known and
its loads are as wide as the size allows; the batch and the step are not. Offsets that grow with T B are 64 bit.
"""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

import inspect

import triton
import triton.language as tl

from ..definition import EPS as _EPS

EPS = tl.constexpr(_EPS)


def kernel(function):
    """Return the Triton kernel, compiled once for given types and constants, whatever its other arguments are.

    Triton would compile again for each pointer that is or is not a multiple of 16, and a graph's replay could need
    another binary than the same launch from Python; `starts` says instead what holds at all times.
    """
    known = inspect.signature(function).parameters.values()
    return triton.jit(do_not_specialize=[q.name for q in known if q.annotation is q.empty])(function)


@triton.jit
def starts(p, rows, F: tl.constexpr):
    """Return where some rows of p [*, F] start, at multiples of 16 bytes or of what divides a row: see `dense`."""
    # 16, or the lowest bit of a row's bytes if less. Triton keeps what is said of a sum, not of an argument.
    ALIGN: tl.constexpr = (F * p.dtype.element_ty.primitive_bitwidth // 8) | 16
    return tl.multiple_of(p + rows * F, ALIGN & -ALIGN)


@triton.jit
def along(p, k, F: tl.constexpr):
    """Return where numbers k of a row of F at p stand; k goes up by ones from a multiple of 16."""
    ALIGN: tl.constexpr = (F * p.dtype.element_ty.primitive_bitwidth // 8) | 16
    return tl.multiple_of(p + k, ALIGN & -ALIGN)


@triton.jit
def corner(B, F: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr):
    """Return the batch rows and the units of this program's tile, 64 bit, with what is inside [B, F]."""
    tiles: tl.constexpr = (F + UNITS - 1) // UNITS
    tile = tl.program_id(0)
    rows = (tile // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    units = (tile % tiles).to(tl.int64) * UNITS + tl.arange(0, UNITS)
    return rows, units, rows < B, units < F


@triton.jit
def only(condition, limit):
    """Return limit if condition, else 0: a bound, since the interpreter makes no mask of a scalar and a block."""
    return tl.where(condition, limit, 0)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """Return acc + a b, accumulated in float32; "wide" multiplies in float32 too."""
    if PRECISION == "wide":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    elif PRECISION == "tf32":  # noqa: RET505 - Triton compiles what follows a return, whichever way the constant decides
        return tl.dot(tf32(a), tf32(b), acc, input_precision="tf32")
    else:
        return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def tf32(x):
    """Return x rounded to TF32's 10 bits, to nearest, halves away from 0: a tensor core would cut the other 13 off."""
    near = (x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000
    return tl.where(x == x, near.to(tl.float32, bitcast=True), x)  # the sum would carry a NaN into the sign


@triton.jit
def weights(w, rows, live, k, K: tl.constexpr):
    """Return the columns k of some rows of w [*, K], transposed: [k, rows]."""
    return tl.load(starts(w, rows, K)[None, :] + k[:, None], mask=live[None, :] & (k < K)[:, None], other=0.0)


@triton.jit
def product(acc, a, live, w, units, inside, K: tl.constexpr, KS: tl.constexpr, PRECISION: tl.constexpr):
    """Return acc + a w^T: a [ROWS] points to the rows' starts, w is [F, K]."""
    for first in range(0, K, KS):
        k = first + tl.arange(0, KS)
        x = tl.load(a[:, None] + k[None, :], mask=live[:, None] & (k < K)[None, :], other=0.0)
        acc = dot(x, weights(w, units, inside, k, K), acc, PRECISION)
    return acc


@triton.jit
def gates_product(
    i, f, g, o, a, live, w, units, inside, F: tl.constexpr, K: tl.constexpr, KS: tl.constexpr, PRECISION: tl.constexpr
):
    """Return the four gates' sums plus a w^T, w [4F, K]: one pass over a for all of them."""
    for first in range(0, K, KS):
        k = first + tl.arange(0, KS)
        x = tl.load(a[:, None] + k[None, :], mask=live[:, None] & (k < K)[None, :], other=0.0)
        i = dot(x, weights(w, units, inside, k, K), i, PRECISION)
        f = dot(x, weights(w, units + F, inside, k, K), f, PRECISION)
        g = dot(x, weights(w, units + 2 * F, inside, k, K), g, PRECISION)
        o = dot(x, weights(w, units + 3 * F, inside, k, K), o, PRECISION)
    return i, f, g, o


@triton.jit
def load_row(p, k, live, F: tl.constexpr):
    """Return numbers k of a row of F in float32, see `along`."""
    return tl.load(along(p, k, F), mask=live, other=0.0).to(tl.float32)


@triton.jit
def load4_row(p, k, live, F: tl.constexpr):
    """Return numbers k of each of four rows of F in float32."""
    i, f = load_row(p, k, live, F), load_row(p + F, k, live, F)
    return i, f, load_row(p + 2 * F, k, live, F), load_row(p + 3 * F, k, live, F)


@triton.jit
def store4_row(p, k, i, f, g, o, live, F: tl.constexpr):
    """Write numbers k of each of four rows of F."""
    store_row(p, k, i, live, F)
    store_row(p + F, k, f, live, F)
    store_row(p + 2 * F, k, g, live, F)
    store_row(p + 3 * F, k, o, live, F)


@triton.jit
def store_row(p, k, value, live, F: tl.constexpr):
    """Write numbers k of a row of F."""
    tl.store(along(p, k, F), value, mask=live)


@triton.jit
def load4(p, mask, F: tl.constexpr):
    """Return the four gates at p, p + F, p + 2F, p + 3F in float32."""
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
    """Return tanh x to float32's precision, relative to its size near 0 as well, where the quotient would cancel."""
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    s = x * x
    # (tanh(x) / x - 1) / x^2 below 5/8, fitted to the least largest relative error of tanh: 4e-9.
    fit = -0.33333282 + s * (0.13331442 + s * (-0.053739715 + s * (0.020639087 - 0.0057049863 * s)))
    return tl.where(tl.abs(x) < 0.625, x + x * s * fit, tl.where(x < 0, -far, far))


@triton.jit
def factors(kept, scale, rows, units, inside, F: tl.constexpr):
    """Return a mask's factors of some rows and units: kept [*, F] is 1 where they are `scale`, else 0."""
    m = tl.load(starts(kept, rows, F)[:, None] + units[None, :], mask=inside, other=0)
    return m.to(tl.float32) * scale


@triton.jit
def cell(i, f, g, c, m):
    """Return c_t from the gates, c_{t-1} and the mask m of g, which is None where there is none."""
    remembered, i, g = tl.sigmoid(f) * c, tl.sigmoid(i), tanh(g)
    if m is not None:
        g *= m
    return remembered + i * g


@triton.jit
def cell_back(i, f, g, o, before, m, tanh_c, dh, dc):
    """Return the gates' gradients and that of c_{t-1}, given what `cell` was, the gates before sigmoid and tanh."""
    i, f, g, o = tl.sigmoid(i), tl.sigmoid(f), tanh(g), tl.sigmoid(o)
    di, df, dg = dc * g * i * (1.0 - i), dc * before * f * (1.0 - f), dc * i * (1.0 - g * g)
    if m is not None:
        di, dg = di * m, dg * m
    return di, df, dg, dh * tanh_c * o * (1.0 - o), dc * f


@triton.jit
def moments(y, F: tl.constexpr, BLOCK: tl.constexpr):
    """Return mean and 1 / std of the row of F numbers at y; blocks are merged by mean and M2, which does not cancel."""
    mean, m2 = 0.0, 0.0
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        value = load_row(y, k, k < F, F)
        mean, m2 = merge(mean, m2, first, value, k < F, F)
    return mean, tl.rsqrt(m2 / F + EPS)


@triton.jit
def merge(mean, m2, seen, value, inside, F: tl.constexpr):
    """Return mean and M2 of `seen` numbers and one more block of the row (Chan, Golub, LeVeque 1979)."""
    n = tl.sum(inside.to(tl.float32))
    here = tl.sum(tl.where(inside, value, 0.0)) / n
    centred = tl.where(inside, value - here, 0.0)
    share = n / (seen + n)
    apart = here - mean
    return mean + apart * share, m2 + tl.sum(centred * centred) + apart * apart * seen * share


@triton.jit
def norm_tile(y, inside, weight, bias, F: tl.constexpr):
    """Return the layer norm of y [ROWS, UNITS], whose tile holds whole rows."""
    x, _ = standardised(y, inside, F)
    return x * weight[None, :] + bias[None, :]


@triton.jit
def standardised(y, inside, F: tl.constexpr):
    """Return (y - mean) / std of whole rows y [ROWS, UNITS], 0 outside, and their 1 / std."""
    mean = tl.sum(tl.where(inside, y, 0.0), axis=1) / F
    centred = tl.where(inside, y - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, axis=1) / F + EPS)
    return centred * rstd[:, None], rstd


@triton.jit
def norm_back(d, x, rstd, F: tl.constexpr):
    """Return the gradient of whole rows before they were standardised to x, given that of x, 0 outside as x is."""
    mean, along_x = tl.sum(d, axis=1) / F, tl.sum(d * x, axis=1) / F
    return (d - mean[:, None] - x * along_x[:, None]) * rstd[:, None]
