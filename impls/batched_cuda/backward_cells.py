"""The cells of a step backward, of both LSTMs: from dh and dc to the gradients of the gates."""

import triton
import triton.language as tl

from .parts import (
    EPS,
    barrier,
    cell_back,
    factors,
    int64,
    load4,
    moments,
    norm_back,
    standardised,
    starts,
    store4,
    summed,
    tanh,
    vector,
    vector4,
)
from .phases import MOMENTS, TILE


@triton.jit
def whole_row(y, to, live, HN: tl.constexpr, UNITS: tl.constexpr):
    """Write mean and 1 / std of rows at y, merging the moments of tile after tile."""
    mean, m2 = tl.zeros((TILE,), tl.float32), tl.zeros((TILE,), tl.float32)
    for unit0 in range(0, HN, UNITS):
        units, n = unit0 + tl.arange(0, UNITS), tl.minimum(HN - unit0, UNITS)
        real = live[:, None] & (units < HN)[None, :]
        of_tile, more = moments(tl.load(y[:, None] + units[None, :], mask=real, other=0.0).to(tl.float32), real, n)
        apart, share = of_tile - mean, n / (unit0 + n)
        mean += apart * share
        m2 += more + apart * apart * share * unit0
    tl.store(to, mean, mask=live)
    tl.store(to + 1, tl.rsqrt(m2 / HN + EPS), mask=live)


@triton.jit
def normed(p, gate, stats, units, inside, weight, bias, live, H: tl.constexpr, NORM: tl.constexpr):
    """Numbers at rows p before sigmoid or tanh, their rows standardised, and 1 / std; gate: 0 to 3, of the cell 4.

    Without NORM they are what is read, twice, and 1.
    """
    row = gate % 4 * H
    value = tl.load(p[:, None] + row + units[None, :], mask=inside, other=0.0).to(tl.float32)
    if not NORM:
        return value, value, 1.0
    else:  # noqa: RET505 - Triton compiles what follows a return, whichever way the constant decides
        mean = tl.load(stats + 2 * gate, mask=live, other=0.0)
        rstd = tl.load(stats + 2 * gate + 1, mask=live, other=0.0)
        x = (value - mean[:, None]) * rstd[:, None]
        return x * vector(weight + row, units, units < H) + vector(bias + row, units, units < H), x, rstd


@triton.jit
def through_tanh(c, stats, dh, o, c_weight, c_bias, units, live, inside, H: tl.constexpr, NORM: tl.constexpr):
    """Return tanh of the (normalised) cell, its gradient, the cell standardised, and 1 / std."""
    shown, x, rstd = normed(c, 4, stats, units, inside, c_weight, c_bias, live, H, NORM)
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

    With NORM the latter are times the norms' weights, whose own gradients grow in totals, and row_sums, which has the
    sums of `cell_norm_sums`, gets what the norms of the gates sum over rows: [tiles, B, MOMENTS].
    """
    units = unit0 + tl.arange(0, UNITS)
    known = units < HN
    inside = live[:, None] & known[None, :]
    y, own = starts(dd, at, 12 * H) + 8 * H, stats
    if NORM:
        own, sums = stats + at * MOMENTS, row_sums + ((unit0 // UNITS) * B + rows) * MOMENTS
        t_i, t_f, t_g, t_o = load4(totals + units, known, H)  # all is read before a sum over rows, which waits
        b_i, b_f, b_g, b_o = load4(totals + 4 * H + units, known, H)
        t_c, b_c = tl.load(totals + 8 * H + units, mask=known), tl.load(totals + 9 * H + units, mask=known)
        w_i, w_f, w_g, w_o = vector4(n_weight, units, known, H)
        w_c = vector(c_weight, units, known)
    dh = dh_of(parts, d_out, rows, at, units, inside, B, H, S)
    i, x_i, _ = normed(y, 0, own, units, inside, n_weight, n_bias, live, H, NORM)
    f, x_f, _ = normed(y, 1, own, units, inside, n_weight, n_bias, live, H, NORM)
    g, x_g, _ = normed(y, 2, own, units, inside, n_weight, n_bias, live, H, NORM)
    o, x_o, _ = normed(y, 3, own, units, inside, n_weight, n_bias, live, H, NORM)
    carried = starts(dc, rows, H)[:, None] + units[None, :]
    dc_t = tl.load(carried, mask=inside, other=0.0)
    c_prev = tl.load(starts(before, rows, H)[:, None] + units[None, :], mask=inside, other=0.0)
    m = factors(kept, scale, at, units, inside, H) if kept is not None else None
    tanh_c, d_c, x_c, r_c = through_tanh(
        starts(c, at, H), own, dh, o, c_weight, c_bias, units, live, inside, H, NORM
    )  # fmt: skip
    if NORM:
        TILES: tl.constexpr = (HN + UNITS - 1) // UNITS
        mean = summed(row_sums, rows, live, B, TILES, MOMENTS) / HN
        along_x = summed(row_sums + 1, rows, live, B, TILES, MOMENTS) / HN
        dc_t += (d_c * w_c - mean[:, None] - x_c * along_x[:, None]) * r_c[:, None]
    else:
        dc_t += d_c
    di, df, dg, do, dc_t = cell_back(i, f, g, o, c_prev, m, tanh_c, dh, dc_t)
    barrier()  # no thread overwrites what another has still to read
    tl.store(carried, dc_t, mask=inside)
    to = starts(dys, rows, 4 * H)[:, None] + units[None, :]
    if NORM:
        add_rows(totals + 8 * H, H, t_c, b_c, d_c, x_c, units, known, inside)
        di = norm_sums(totals, sums + 2, t_i, b_i, di, x_i, w_i, units, known, inside, live, H)
        df = norm_sums(totals + H, sums + 4, t_f, b_f, df, x_f, w_f, units, known, inside, live, H)
        dg = norm_sums(totals + 2 * H, sums + 6, t_g, b_g, dg, x_g, w_g, units, known, inside, live, H)
        do = norm_sums(totals + 3 * H, sums + 8, t_o, b_o, do, x_o, w_o, units, known, inside, live, H)
    store4(to, di, df, dg, do, inside, H)


@triton.jit
def norm_sums(to, sums, t, b, d, x, weight, units, known, inside, live, H: tl.constexpr):
    """Return d times the norm's weight; write what the norm sums over rows, and add to the parameters' gradients."""
    add_rows(to, 4 * H, t, b, d, x, units, known, inside)
    d = tl.where(inside, d * weight, 0.0)
    tl.store(sums, tl.sum(d, axis=1), mask=live)
    tl.store(sums + 1, tl.sum(d * x, axis=1), mask=live)
    return d


@triton.jit
def add_rows(to, APART: tl.constexpr, t, b, d, x, units, known, inside):
    """Add a tile's part of the gradients of a norm's weight and bias, that were t and b; the latter is APART behind."""
    d = tl.where(inside, d, 0.0)
    tl.store(to + units, t + tl.sum(d * x, axis=0), mask=known)
    tl.store(to + APART + units, b + tl.sum(d, axis=0), mask=known)


@triton.jit
def cell_norm_sums(
    parts, d_out, dd, stats, c, row_sums, n_weight, n_bias, c_weight, c_bias, rows, at, live, unit0, B,
    H: tl.constexpr, HN: tl.constexpr, S: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Write what the norm of the cell sums over rows of a tile, to the first two of row_sums [tiles, B, MOMENTS]."""
    units = unit0 + tl.arange(0, UNITS)
    known = units < HN
    inside, own = live[:, None] & known[None, :], stats + at * MOMENTS
    dh = dh_of(parts, d_out, rows, at, units, inside, B, H, S)
    o, _, _ = normed(starts(dd, at, 12 * H) + 8 * H, 3, own, units, inside, n_weight, n_bias, live, H, True)
    _, d_c, x_c, _ = through_tanh(starts(c, at, H), own, dh, o, c_weight, c_bias, units, live, inside, H, True)
    d = tl.where(inside, d_c * vector(c_weight, units, known), 0.0)
    sums = row_sums + ((unit0 // UNITS) * B + rows) * MOMENTS
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
        mean = tl.load(stats + at * MOMENTS + 2 * gate, mask=live, other=0.0)
        rstd = tl.load(stats + at * MOMENTS + 2 * gate + 1, mask=live, other=0.0)
        of_d = summed(row_sums + 2 + 2 * gate, rows, live, B, TILES, MOMENTS) / HN
        of_dx = summed(row_sums + 3 + 2 * gate, rows, live, B, TILES, MOMENTS) / HN
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
    parts, hat_parts, uh, vx, bias, c_hat, before, dc_hat, d_uh, d_vx, totals,
    n_weight, n_bias, c_weight, c_bias, first, token, alive, B,
    H: tl.constexpr, S: tl.constexpr, SN: tl.constexpr, NORM: tl.constexpr, SHARES: tl.constexpr,
    SOME: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Write da of SOME rows from `first`, whole rows at a time, and dc_hat_{t-1} in place."""
    units = tl.arange(0, WHOLE)
    known = units < SN
    D: tl.constexpr = 4 * H + 4 * S
    rows = int64(first) + tl.arange(0, SOME)
    live = rows < alive
    inside, k = live[:, None] & known[None, :], units[None, :]
    i, f, g, o = load4(starts(uh, token + rows, D)[:, None] + 4 * H + k, inside, S)
    v_i, v_f, v_g, v_o = load4(starts(vx, token + rows, D)[:, None] + 4 * H + k, inside, S)
    b_i, b_f, b_g, b_o = vector4(bias, units, known, S)
    i, f, g, o = i + v_i + b_i, f + v_f + b_f, g + v_g + b_g, o + v_o + b_o
    c = tl.load(starts(c_hat, token + rows, S)[:, None] + k, mask=inside, other=0.0)
    c_prev = tl.load(starts(before, rows, S)[:, None] + k, mask=inside, other=0.0)
    carried = starts(dc_hat, rows, S)[:, None] + k
    dc = tl.load(carried, mask=inside, other=0.0)
    if NORM:  # all is read before a sum over rows or units, which waits
        t_i, t_f, t_g, t_o = load4(totals + units, known, S)
        s_i, s_f, s_g, s_o = load4(totals + 4 * S + units, known, S)
        t_c, s_c = tl.load(totals + 8 * S + units, mask=known), tl.load(totals + 9 * S + units, mask=known)
        w_i, w_f, w_g, w_o = vector4(n_weight, units, known, S)
        n_i, n_f, n_g, n_o = vector4(n_bias, units, known, S)
        w_c, n_c = vector(c_weight, units, known), vector(c_bias, units, known)
    dh = tl.zeros((SOME, WHOLE), dtype=tl.float32)
    for gate in range(4):
        dh += tl.load(starts(parts, gate * B + rows, H + S)[:, None] + H + k, mask=inside, other=0.0)
    for share in range(SHARES):
        dh += tl.load(starts(hat_parts, share * B + rows, S)[:, None] + k, mask=inside, other=0.0)
    if NORM:
        x_i, r_i = standardised(i, inside, SN)
        x_f, r_f = standardised(f, inside, SN)
        x_g, r_g = standardised(g, inside, SN)
        x_o, r_o = standardised(o, inside, SN)
        x_c, r_c = standardised(c, inside, SN)
        i, f, g, o, c = x_i * w_i + n_i, x_f * w_f + n_f, x_g * w_g + n_g, x_o * w_o + n_o, x_c * w_c + n_c
    tanh_c = tanh(c)
    d_c = dh * tl.sigmoid(o) * (1.0 - tanh_c * tanh_c)
    d_raw = norm_back(d_c * w_c, x_c, r_c, inside, SN) if NORM else d_c
    di, df, dg, do, dc = cell_back(i, f, g, o, c_prev, None, tanh_c, dh, dc + d_raw)
    barrier()  # no thread overwrites what another has still to read
    tl.store(carried, dc, mask=inside)
    if NORM:
        add_rows(totals + 8 * S, S, t_c, s_c, d_c, x_c, units, known, inside)
        add_rows(totals, 4 * S, t_i, s_i, di, x_i, units, known, inside)
        add_rows(totals + S, 4 * S, t_f, s_f, df, x_f, units, known, inside)
        add_rows(totals + 2 * S, 4 * S, t_g, s_g, dg, x_g, units, known, inside)
        add_rows(totals + 3 * S, 4 * S, t_o, s_o, do, x_o, units, known, inside)
        di, df = norm_back(di * w_i, x_i, r_i, inside, SN), norm_back(df * w_f, x_f, r_f, inside, SN)
        dg, do = norm_back(dg * w_g, x_g, r_g, inside, SN), norm_back(do * w_o, x_o, r_o, inside, SN)
    full = live[:, None] & (units < S)[None, :]  # what pads the units becomes 0
    store4(starts(d_uh, token + rows, D)[:, None] + 4 * H + k, di, df, dg, do, full, S)
    store4(starts(d_vx, token + rows, D)[:, None] + 4 * H + k, di, df, dg, do, full, S)
