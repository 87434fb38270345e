"""What forward and backward share of a step: z and the scales d of sixteen rows, and the gates' layer norm.

A program works on tiles of 16 rows. What one of its threads writes to memory and another reads is behind a barrier of
the program, which its caller makes.
"""

import triton
import triton.language as tl
from triton import constexpr_function

from . import scratch, split
from .parts import dot, merged, product, standardised, starts, vector, vector4

TILE = tl.constexpr(split.TILE)
#: The layout of scratch memory, for kernels.
forward_room = constexpr_function(scratch.forward_room)
backward_room = constexpr_function(scratch.backward_room)
backward_state = constexpr_function(scratch.backward_state)
numbers = constexpr_function(scratch.numbers)
MOMENTS = tl.constexpr(scratch.MOMENTS)
CELL = tl.constexpr(scratch.CELL)
NORMS = tl.constexpr(scratch.NORMS)


@triton.jit
def embed(
    h_hat, live, w_z, z_bias, z, S: tl.constexpr, Z: tl.constexpr, SPAN: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the twelve z of some rows; h_hat and z point to the starts of the rows."""
    for first in range(0, 12 * Z, SPAN):
        k = first + tl.arange(0, SPAN)
        known = k < 12 * Z
        bias = vector(z_bias, k, k < 8 * Z)  # z_b has none
        acc = tl.zeros((TILE, SPAN), dtype=tl.float32)
        acc = product(acc, h_hat, live, w_z, k, known, S, S, True, DEPTH, PRECISION)
        tl.store(z[:, None] + k[None, :], acc + bias, mask=live[:, None] & known[None, :])


@triton.jit
def d_columns(
    w_d, source, gate0, unit0, first,
    H: tl.constexpr, Z: tl.constexpr, GATES: tl.constexpr, UNITS: tl.constexpr, ZS: tl.constexpr,
):  # fmt: skip
    """Some of d_weight of a source for gates side by side, [ZS, GATES UNITS]: what some z of these gates multiply.

    Gates share one product: the weights of each are where the z of the others meet zeros.
    """
    column, k = tl.arange(0, GATES * UNITS), first + tl.arange(0, ZS)
    unit, own = unit0 + column % UNITS, k[:, None] - (column // UNITS)[None, :] * Z
    at = starts(w_d, (source * 4 + gate0 + column // UNITS) * H + unit, Z)[None, :] + own
    return tl.load(at, mask=(own >= 0) & (own < Z) & (unit < H)[None, :], other=0.0)


@triton.jit
def scaled_sum(
    uh, vx, z, u_rows, rows, live, w_d, bias, gate0, unit0,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, GATES: tl.constexpr, UNITS: tl.constexpr, ZS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """d_h, d_x and y = d_h u + d_x v + b of some gates, side by side, behind their numbers in [4H] and which are real.

    u are rows of uh, v of vx [*, 4H + 4S], in float32; z points to the starts of rows. All is read before anything is
    multiplied, so that loads wait together.
    """
    D: tl.constexpr = 4 * H + 4 * S
    column = tl.arange(0, GATES * UNITS)
    unit = unit0 + column % UNITS
    inside = live[:, None] & (unit < H)[None, :]
    own = ((gate0 + column // UNITS) * H + unit)[None, :]
    d_h = tl.zeros((TILE, GATES * UNITS), dtype=tl.float32)
    d_x = tl.zeros((TILE, GATES * UNITS), dtype=tl.float32)
    d_b = tl.zeros((TILE, GATES * UNITS), dtype=tl.float32)
    for first in tl.static_range(0, GATES * Z, ZS):
        k = first + tl.arange(0, ZS)
        of_z, mask = z[:, None] + gate0 * Z + k[None, :], live[:, None] & (k < GATES * Z)[None, :]
        z_h, z_x = tl.load(of_z, mask=mask, other=0.0), tl.load(of_z + 4 * Z, mask=mask, other=0.0)
        z_b = tl.load(of_z + 8 * Z, mask=mask, other=0.0)
        w_h = d_columns(w_d, 0, gate0, unit0, first, H, Z, GATES, UNITS, ZS)
        w_x = d_columns(w_d, 1, gate0, unit0, first, H, Z, GATES, UNITS, ZS)
        w_b = d_columns(w_d, 2, gate0, unit0, first, H, Z, GATES, UNITS, ZS)
        if first == 0:
            b = vector(bias, (gate0 + column // UNITS) * H + unit, unit < H)
            u = tl.load(starts(uh, u_rows, D)[:, None] + own, mask=inside, other=0.0)
            v = tl.load(starts(vx, rows, D)[:, None] + own, mask=inside, other=0.0)
        d_h, d_x = dot(z_h, w_h, d_h, PRECISION), dot(z_x, w_x, d_x, PRECISION)
        d_b = dot(z_b, w_b, d_b, PRECISION)
    return own, inside, d_h, d_x, d_h * u + d_x * v + d_b + b


@triton.jit
def norm_tile(y, inside, weight, bias, F: tl.constexpr):
    """The layer norm of y [ROWS, UNITS], whose tile holds whole rows; weight, bias [1, UNITS]."""
    x, _ = standardised(y, inside, F)
    return x * weight + bias


@triton.jit
def norm4(i, f, g, o, inside, units, known, weight, bias, F: tl.constexpr, FN: tl.constexpr):
    """The four normalised gates of a tile that holds whole rows of FN numbers; weight, bias [4, F]."""
    w_i, w_f, w_g, w_o = vector4(weight, units, known, F)
    b_i, b_f, b_g, b_o = vector4(bias, units, known, F)
    i, f = norm_tile(i, inside, w_i, b_i, FN), norm_tile(f, inside, w_f, b_f, FN)
    return i, f, norm_tile(g, inside, w_g, b_g, FN), norm_tile(o, inside, w_o, b_o, FN)


@triton.jit
def norm_part(y, parts, rows, live, B, weight, bias, units, known, F: tl.constexpr, UNITS: tl.constexpr,
              WIDTH: tl.constexpr):  # fmt: skip
    """The layer norm of a tile whose rows span tiles, from the `moments` of all: see `merged`."""
    mean, rstd = merged(parts, rows, live, B, F, UNITS, WIDTH)
    return (y - mean[:, None]) * rstd[:, None] * vector(weight, units, known) + vector(bias, units, known)
