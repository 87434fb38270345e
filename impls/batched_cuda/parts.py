"""What the phases of a step share: products, pointwise mathematics, layer norm. Nothing here knows HyperLSTM.

Every function runs inside a kernel. Sizes are compile-time constants, so that the alignment of each row is known and
its loads are as wide as the size allows; the batch and the step are not. Offsets that grow with T B are 64 bit.
"""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

import triton
import triton.language as tl

from ..layer import EPS as _EPS

EPS = tl.constexpr(_EPS)


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
    else:  # noqa: RET505 - Triton compiles what follows a return, whichever way the constant decides
        return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def weights(w, rows, live, k, K: tl.constexpr):
    """Return the columns k of some rows of w [*, K], transposed: [k, rows]."""
    return tl.load(w + rows[None, :] * K + k[:, None], mask=live[None, :] & (k < K)[:, None], other=0.0)


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
def cell(i, f, g, c):
    """Return c_t from the gates and c_{t-1}."""
    return tl.sigmoid(f) * c + tl.sigmoid(i) * tanh(g)


@triton.jit
def cell_back(i, f, g, o, before, tanh_c, dh, dc):
    """Return the gates' gradients and that of c_{t-1}, given the gates before their sigmoid and tanh."""
    i, f, g, o = tl.sigmoid(i), tl.sigmoid(f), tanh(g), tl.sigmoid(o)
    di, df, dg = dc * g * i * (1.0 - i), dc * before * f * (1.0 - f), dc * i * (1.0 - g * g)
    return di, df, dg, dh * tanh_c * o * (1.0 - o), dc * f


@triton.jit
def moments(y, F: tl.constexpr, BLOCK: tl.constexpr):
    """Return mean and 1 / std of the row of F numbers at y; blocks are merged by mean and M2, which does not cancel."""
    mean, m2 = 0.0, 0.0
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        value = tl.load(y + k, mask=k < F, other=0.0).to(tl.float32)
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
    mean = tl.sum(tl.where(inside, y, 0.0), axis=1) / F
    centred = tl.where(inside, y - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, axis=1) / F + EPS)
    return centred * rstd[:, None] * weight[None, :] + bias[None, :]
