"""The cells of a step backward, of both LSTMs: from dh and dc to the gradients of the gates."""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

import triton
import triton.language as tl

from .parts import (
    EPS,
    accumulate,
    barrier,
    cell_back,
    factors,
    merge,
    moments,
    norm_back,
    standardised,
    starts,
    store4,
    summed,
    tanh,
    vector,
    wide,
)
from .phases import TILE


@triton.jit
def whole_row(y, to, live, H: tl.constexpr, HN: tl.constexpr, UNITS: tl.constexpr):
    """Write mean and 1 / std of rows at y, tile after tile."""
    mean, m2 = tl.zeros((TILE,), tl.float32), tl.zeros((TILE,), tl.float32)
    for unit0 in range(0, HN, UNITS):
        units = unit0 + tl.arange(0, UNITS)
        real = live[:, None] & (units < HN)[None, :]
        n = tl.minimum(HN - unit0, UNITS)
        here, m2_here = moments(tl.load(y[:, None] + units[None, :], mask=real, other=0.0).to(tl.float32), real, n)
        mean, m2 = merge(mean, m2, unit0, here, m2_here, n)
    tl.store(to, mean, mask=live)
    tl.store(to + 1, tl.rsqrt(m2 / HN + EPS), mask=live)


@triton.jit
def read_y(y, stats, gate, units, inside, weight, bias, live, H: tl.constexpr, NORM: tl.constexpr):
    """A gate before its sigmoid or tanh, its row standardised, and 1 / std; y points to rows of y."""
    known = units < H
    value = tl.load(y[:, None] + gate * H + units[None, :], mask=inside, other=0.0).to(tl.float32)
    if not NORM:
        return value, value, 1.0
    else:  # noqa: RET505 - Triton compiles what follows a return, whichever way the constant decides
        mean = tl.load(stats + 2 * gate, mask=live, other=0.0)
        rstd = tl.load(stats + 2 * gate + 1, mask=live, other=0.0)
        x = (value - mean[:, None]) * rstd[:, None]
        value = x * vector(weight + gate * H, units, known) + vector(bias + gate * H, units, known)
        return value, x, rstd


@triton.jit
def through_tanh(c, stats, dh, o, c_weight, c_bias, units, live, inside, H: tl.constexpr, NORM: tl.constexpr):
    """Return tanh of the (normalised) cell, its gradient, the cell standardised, and 1 / std."""
    x = tl.load(c[:, None] + units[None, :], mask=inside, other=0.0)
    rstd = 1.0
    shown = x
    if NORM:
        mean = tl.load(stats + 8, mask=live, other=0.0)
        rstd = tl.load(stats + 9, mask=live, other=0.0)
        x = (x - mean[:, None]) * rstd[:, None]
        shown = x * vector(c_weight, units, units < H) + vector(c_bias, units, units < H)
    tanh_c = tanh(shown)
    return tanh_c, dh * tl.sigmoid(o) * (1.0 - tanh_c * tanh_c), x, rstd


@triton.jit
def dh_of(parts, d_out, rows, at, units, inside, B, H: tl.constexpr, S: tl.constexpr):
    """Return dh_t of a tile: the sum of its four parts [4, B, H + S], and the output's gradient."""
    dh = tl.load(starts(d_out, at, H)[:, None] + units[None, :], mask=inside, other=0.0).to(tl.float32)
    for gate in range(4):
        dh += tl.load(starts(parts, gate * B + rows, H + S)[:, None] + units[None, :], mask=inside, other=0.0)
    return dh


@triton.jit
def cells_back(
    parts, d_out, dd, stats, c, before, kept, scale, dc, dys, row_sums, totals,
    n_weight, n_bias, c_weight, c_bias, rows, at, live, unit0, B,
    H: tl.constexpr, HN: tl.constexpr, S: tl.constexpr, NORM: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Write dc_{t-1} of a tile, and the gradients of its four gates to dys [B, 4H], before their norm if there is none.

    With NORM the latter are times the norms' weights, whose own gradients grow in totals, and row_sums [tiles, B, 10],
    which has the sums of `cell_norm_sums`, gets what the norms of the gates sum over rows.
    """
    units = unit0 + tl.arange(0, UNITS)
    known = units < HN
    inside = live[:, None] & known[None, :]
    y, own = starts(dd, at, 12 * H) + 8 * H, stats
    if NORM:
        own = stats + at * 10
    dh = dh_of(parts, d_out, rows, at, units, inside, B, H, S)
    i, _, _ = read_y(y, own, 0, units, inside, n_weight, n_bias, live, H, NORM)
    f, _, _ = read_y(y, own, 1, units, inside, n_weight, n_bias, live, H, NORM)
    g, _, _ = read_y(y, own, 2, units, inside, n_weight, n_bias, live, H, NORM)
    o, _, _ = read_y(y, own, 3, units, inside, n_weight, n_bias, live, H, NORM)
    carried = starts(dc, rows, H)[:, None] + units[None, :]
    dc_t = tl.load(carried, mask=inside, other=0.0)
    c_prev = tl.load(starts(before, rows, H)[:, None] + units[None, :], mask=inside, other=0.0)
    m = factors(kept, scale, at, units, inside, H) if kept is not None else None
    tanh_c, d_c, x_c, r_c = through_tanh(
        starts(c, at, H), own, dh, o, c_weight, c_bias, units, live, inside, H, NORM
    )  # fmt: skip
    if NORM:
        TILES: tl.constexpr = (HN + UNITS - 1) // UNITS
        mean = summed(row_sums, rows, live, B, TILES, 10) / HN
        along_x = summed(row_sums + 1, rows, live, B, TILES, 10) / HN
        weight = vector(c_weight, units, known)
        dc_t += (d_c * weight - mean[:, None] - x_c * along_x[:, None]) * r_c[:, None]
        accumulate(totals + 8 * H, tl.where(inside, d_c * x_c, 0.0), units, known)
        accumulate(totals + 9 * H, tl.where(inside, d_c, 0.0), units, known)
    else:
        dc_t += d_c
    di, df, dg, do, dc_t = cell_back(i, f, g, o, c_prev, m, tanh_c, dh, dc_t)
    barrier()  # no thread overwrites what another has still to read
    tl.store(carried, dc_t, mask=inside)
    to = starts(dys, rows, 4 * H)[:, None] + units[None, :]
    store4(to, di, df, dg, do, inside, H)
    if NORM:
        barrier()
        sums = row_sums + ((unit0 // UNITS) * B + rows) * 10
        for gate in range(4):
            d = tl.load(to + gate * H, mask=inside, other=0.0)
            _y, x, _r = read_y(y, own, gate, units, inside, n_weight, n_bias, live, H, NORM)
            accumulate(totals + gate * H, tl.where(inside, d * x, 0.0), units, known)
            accumulate(totals + (4 + gate) * H, d, units, known)
            d *= vector(n_weight + gate * H, units, known)
            tl.store(to + gate * H, d, mask=inside)
            tl.store(sums + 2 + 2 * gate, tl.sum(d, axis=1), mask=live)
            tl.store(sums + 3 + 2 * gate, tl.sum(tl.where(inside, d * x, 0.0), axis=1), mask=live)


@triton.jit
def cell_norm_sums(
    parts, d_out, dd, stats, c, row_sums, n_weight, n_bias, c_weight, c_bias, rows, at, live, unit0, B,
    H: tl.constexpr, HN: tl.constexpr, S: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Write what the norm of the cell sums over rows of a tile, to the first two of row_sums [tiles, B, 10]."""
    units = unit0 + tl.arange(0, UNITS)
    known = units < HN
    inside, own = live[:, None] & known[None, :], stats + at * 10
    dh = dh_of(parts, d_out, rows, at, units, inside, B, H, S)
    o, _, _ = read_y(starts(dd, at, 12 * H) + 8 * H, own, 3, units, inside, n_weight, n_bias, live, H, True)
    _, d_c, x_c, _ = through_tanh(starts(c, at, H), own, dh, o, c_weight, c_bias, units, live, inside, H, True)
    d = tl.where(inside, d_c * vector(c_weight, units, known), 0.0)
    sums = row_sums + ((unit0 // UNITS) * B + rows) * 10
    tl.store(sums, tl.sum(d, axis=1), mask=live)
    tl.store(sums + 1, tl.sum(d * x_c, axis=1), mask=live)


@triton.jit
def norms_back(
    dd, stats, dys, row_sums, rows, at, live, tile0, tiles, B, H: tl.constexpr, HN: tl.constexpr, UNITS: tl.constexpr
):
    """Put dy in the place of the gradients that `cells_back` left in dys of some tiles; their sums over rows are there.

    These do not depend on the tile, so they are added up once for all of a gate.
    """
    TILES: tl.constexpr = (HN + UNITS - 1) // UNITS
    for gate in range(4):
        mean = tl.load(stats + at * 10 + 2 * gate, mask=live, other=0.0)
        rstd = tl.load(stats + at * 10 + 2 * gate + 1, mask=live, other=0.0)
        of_d = summed(row_sums + 2 + 2 * gate, rows, live, B, TILES, 10) / HN
        of_dx = summed(row_sums + 3 + 2 * gate, rows, live, B, TILES, 10) / HN
        for tile in range(tile0, tiles):
            units = tile * UNITS + tl.arange(0, UNITS)
            inside = live[:, None] & (units < HN)[None, :]
            y = tl.load(starts(dd, at, 12 * H)[:, None] + (8 + gate) * H + units[None, :], mask=inside, other=0.0)
            x = (y.to(tl.float32) - mean[:, None]) * rstd[:, None]
            to = starts(dys, rows, 4 * H)[:, None] + gate * H + units[None, :]
            d = tl.load(to, mask=inside, other=0.0)
            barrier()
            tl.store(to, (d - of_d[:, None] - x * of_dx[:, None]) * rstd[:, None], mask=inside)


@triton.jit
def hyper_back(
    parts, hat_parts, uh, vx, bias, c_hat, before, dc_hat, d_uh, d_vx, totals, dys,
    weight, n_bias, c_weight, c_bias, first, token, alive, B,
    H: tl.constexpr, S: tl.constexpr, SN: tl.constexpr, NORM: tl.constexpr, SHARES: tl.constexpr,
    SOME: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Write da of SOME rows from `first`, whole rows at a time, and dc_hat_{t-1} in place."""
    units = tl.arange(0, WHOLE)
    known = units < SN
    D: tl.constexpr = 4 * H + 4 * S
    rows = wide(first) + tl.arange(0, SOME)
    live = rows < alive
    inside, k = live[:, None] & known[None, :], units[None, :]
    dh = tl.zeros((SOME, WHOLE), dtype=tl.float32)
    for gate in range(4):
        dh += tl.load(starts(parts, gate * B + rows, H + S)[:, None] + H + k, mask=inside, other=0.0)
    for share in range(SHARES):
        dh += tl.load(starts(hat_parts, share * B + rows, S)[:, None] + k, mask=inside, other=0.0)
    to_u = starts(d_uh, token + rows, D)[:, None] + 4 * H + k
    to_v = starts(d_vx, token + rows, D)[:, None] + 4 * H + k
    at_u = starts(uh, token + rows, D)[:, None] + 4 * H + k
    at_v = starts(vx, token + rows, D)[:, None] + 4 * H + k
    i, _, _ = hyper_gate(at_u, at_v, bias, weight, n_bias, 0, units, known, inside, S, SN, NORM)
    f, _, _ = hyper_gate(at_u, at_v, bias, weight, n_bias, 1, units, known, inside, S, SN, NORM)
    g, _, _ = hyper_gate(at_u, at_v, bias, weight, n_bias, 2, units, known, inside, S, SN, NORM)
    o, _, _ = hyper_gate(at_u, at_v, bias, weight, n_bias, 3, units, known, inside, S, SN, NORM)
    c = tl.load(starts(c_hat, token + rows, S)[:, None] + k, mask=inside, other=0.0)
    c_prev = tl.load(starts(before, rows, S)[:, None] + k, mask=inside, other=0.0)
    carried = starts(dc_hat, rows, S)[:, None] + k
    dc = tl.load(carried, mask=inside, other=0.0)
    if NORM:
        x_c, r_c = standardised(c, inside, SN)
        w_c = vector(c_weight, units, known)
        c = x_c * w_c + vector(c_bias, units, known)
    tanh_c = tanh(c)
    d_c = tl.where(inside, dh * tl.sigmoid(o) * (1.0 - tanh_c * tanh_c), 0.0)
    if NORM:
        accumulate(totals + 8 * S, d_c * x_c, units, known)
        accumulate(totals + 9 * S, d_c, units, known)
        d_c = norm_back(d_c * w_c, x_c, r_c, SN)
    di, df, dg, do, dc = cell_back(i, f, g, o, c_prev, None, tanh_c, dh, dc + d_c)
    barrier()
    tl.store(carried, dc, mask=inside)
    full = live[:, None] & (units < S)[None, :]  # what pads the units becomes 0
    if NORM:
        own = starts(dys, rows, 4 * S)[:, None] + k
        store4(own, di, df, dg, do, inside, S)
        barrier()
        for gate in range(4):
            d = tl.load(own + gate * S, mask=inside, other=0.0)
            _a, x, rstd = hyper_gate(at_u, at_v, bias, weight, n_bias, gate, units, known, inside, S, SN, NORM)
            accumulate(totals + gate * S, d * x, units, known)
            accumulate(totals + (4 + gate) * S, d, units, known)
            d = tl.where(inside, norm_back(d * vector(weight + gate * S, units, known), x, rstd, SN), 0.0)
            tl.store(to_u + gate * S, d, mask=full)
            tl.store(to_v + gate * S, d, mask=full)
    else:
        di, df = tl.where(inside, di, 0.0), tl.where(inside, df, 0.0)
        dg, do = tl.where(inside, dg, 0.0), tl.where(inside, do, 0.0)
        store4(to_u, di, df, dg, do, full, S)
        store4(to_v, di, df, dg, do, full, S)


@triton.jit
def hyper_gate(
    u, v, bias, weight, n_bias, gate, units, known, inside, S: tl.constexpr, SN: tl.constexpr, NORM: tl.constexpr
):
    """A gate of whole rows before its sigmoid or tanh, its rows standardised, and their 1 / std."""
    a = tl.load(u + gate * S, mask=inside, other=0.0).to(tl.float32)
    a += tl.load(v + gate * S, mask=inside, other=0.0).to(tl.float32) + vector(bias + gate * S, units, known)
    if not NORM:
        return a, a, 1.0
    else:  # noqa: RET505 - Triton compiles what follows a return, whichever way the constant decides
        x, rstd = standardised(a, inside, SN)
        return x * vector(weight + gate * S, units, known) + vector(n_bias + gate * S, units, known), x, rstd
