"""The phases of one step forward, each a kernel: hyper gates, z, main gates; with layer norm each row's cell.

A phase reads only what the phases before it wrote, so that a barrier across the grid between two of them is all they
need: the end of a launch is one. Rows of arrays over steps are addressed as t B + b; `prev` is t of the step before.
"""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

import triton
import triton.language as tl

from .parts import (
    EPS,
    cell,
    corner,
    dot,
    factors,
    gates_product,
    kernel,
    load4,
    load4_row,
    load_row,
    merge,
    moments,
    norm_tile,
    product,
    starts,
    store4,
    store_row,
    tanh,
)


@triton.jit
def finish(
    i, f, g, o, c_prev, kept, scale, inside, units, h_to, c_to, at, at_prev, weight, bias, c_weight, c_bias,
    F: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    """Write h and c [*, F] of one tile from its gates; NORM: normalise rows, which the tile then holds whole.

    kept, scale: of g's mask; None without one.
    """
    live = units < F
    if NORM:
        i, f, g, o = norm4(i, f, g, o, inside, units, live, weight, bias, F)
    c = tl.load(starts(c_prev, at_prev, F)[:, None] + units[None, :], mask=inside, other=0.0)
    c = cell(i, f, g, c, factors(kept, scale, at, units, inside, F) if kept is not None else None)
    tl.store(starts(c_to, at, F)[:, None] + units[None, :], c, mask=inside)
    if NORM:
        c = norm_tile(c, inside, load_row(c_weight, units, live, F), load_row(c_bias, units, live, F), F)
    tl.store(starts(h_to, at, F)[:, None] + units[None, :], tl.sigmoid(o) * tanh(c), mask=inside)


@triton.jit
def finish_rows(
    y, c_prev, kept, scale, h_to, c_to, rows, at, at_prev, live, weight, bias, c_weight, c_bias,
    F: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Write h and c [*, F] of some rows from their gates y [B, 4F] before their layer norm."""
    units = tl.arange(0, WHOLE)
    inside = live[:, None] & (units < F)[None, :]
    i, f, g, o = load4(starts(y, rows, 4 * F)[:, None] + units[None, :], inside, F)
    finish(
        i, f, g, o, c_prev, kept, scale, inside, units, h_to, c_to, at, at_prev,
        weight, bias, c_weight, c_bias, F, True,
    )  # fmt: skip


@triton.jit
def norm4(i, f, g, o, inside, units, live, weight, bias, F: tl.constexpr):
    """Return the four normalised gates of a tile that holds whole rows; weight, bias [4, F]."""
    w_i, w_f, w_g, w_o = load4_row(weight, units, live, F)
    b_i, b_f, b_g, b_o = load4_row(bias, units, live, F)
    i, f = norm_tile(i, inside, w_i, b_i, F), norm_tile(f, inside, w_f, b_f, F)
    return i, f, norm_tile(g, inside, w_g, b_g, F), norm_tile(o, inside, w_o, b_o, F)


@kernel
def hyper_gates(
    vx, h, h_hat, c_hat, w_h, w_s, bias, h_hat_to, c_hat_to, y, n_weight, n_bias, n_c_weight, n_c_bias, t, prev, B,
    H: tl.constexpr, S: tl.constexpr, NORM: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write h_hat_t and c_hat_t from h_{t-1}, h_hat_{t-1}; where NORM is "later" the gates y [B, 4S] instead."""
    rows, units, live, _ = corner(B, S, ROWS, UNITS)
    at, at_prev = t.to(tl.int64) * B + rows, prev.to(tl.int64) * B + rows
    hyper_tile(
        vx, h, h_hat, c_hat, w_h, w_s, bias, h_hat_to, c_hat_to, y, n_weight, n_bias, n_c_weight, n_c_bias,
        rows, at, at_prev, live, units, H, S, NORM, ROWS, UNITS, DEPTH, PRECISION,
    )  # fmt: skip


@triton.jit
def hyper_tile(
    vx, h, h_hat, c_hat, w_h, w_s, bias, h_hat_to, c_hat_to, y, n_weight, n_bias, n_c_weight, n_c_bias,
    rows, at, at_prev, live, units, H: tl.constexpr, S: tl.constexpr, NORM: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Do a tile of `hyper_gates`, whose rows are `at` and before the step `at_prev`."""
    known = units < S
    inside = live[:, None] & known[None, :]
    a_x = starts(vx, at, 4 * H + 4 * S)[:, None] + 4 * H + units[None, :]
    b_i, b_f, b_g, b_o = load4_row(bias, units, known, S)

    zero = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    i, f, g, o = gates_product(
        zero, zero, zero, zero, starts(h, at_prev, H), live, w_h, units, known, S, H, DEPTH, PRECISION
    )
    i, f, g, o = gates_product(i, f, g, o, starts(h_hat, at_prev, S), live, w_s, units, known, S, S, DEPTH, PRECISION)
    x_i, x_f, x_g, x_o = load4(a_x, inside, S)
    i, f = i + (x_i + b_i[None, :]), f + (x_f + b_f[None, :])
    g, o = g + (x_g + b_g[None, :]), o + (x_o + b_o[None, :])
    if NORM == "later":
        store4(starts(y, rows, 4 * S)[:, None] + units[None, :], i, f, g, o, inside, S)
    else:
        finish(
            i, f, g, o, c_hat, None, None, inside, units, h_hat_to, c_hat_to, at, at_prev,
            n_weight, n_bias, n_c_weight, n_c_bias, S, NORM == "here",
        )  # fmt: skip


@kernel
def embed(
    h_hat, w_z, b_z, z, t, B, S: tl.constexpr, Z12: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write z_t [B, 12Z] from h_hat_t, for sizes at which the main phase's tiles should not each compute it."""
    rows, units, live, _ = corner(B, Z12, ROWS, UNITS)
    embed_tile(h_hat, w_z, b_z, z, rows, t.to(tl.int64) * B + rows, live, units, S, Z12, ROWS, UNITS, DEPTH, PRECISION)


@triton.jit
def embed_tile(
    h_hat, w_z, b_z, z, rows, at, live, units, S: tl.constexpr, Z12: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Do a tile of `embed`, whose rows are `at`."""
    known = units < Z12
    acc = tl.zeros((ROWS, UNITS), dtype=tl.float32) + load_row(b_z, units, known, Z12)[None, :]
    acc = product(acc, starts(h_hat, at, S), live, w_z, units, known, S, DEPTH, PRECISION)
    tl.store(starts(z, rows, Z12)[:, None] + units[None, :], acc, mask=live[:, None] & known[None, :])


@triton.jit
def embed_here(
    h_hat, live, w_z, b_z, SOURCE: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, ZS: tl.constexpr,
    ROWS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return one source's z for all four gates side by side, [ROWS, 4Z] padded to ZS columns."""
    n = tl.arange(0, ZS)
    known = n < 4 * Z
    acc = tl.zeros((ROWS, ZS), dtype=tl.float32) + load_row(b_z + SOURCE * 4 * Z, n, known, 4 * Z)[None, :]
    acc = product(acc, h_hat, live, w_z + SOURCE * 4 * Z * S, n, known, S, DEPTH, PRECISION)
    return acc.to(w_z.dtype.element_ty)


@triton.jit
def scale_here(z, w_d, units, known, SOURCE: tl.constexpr, GATE: tl.constexpr, H: tl.constexpr, Z: tl.constexpr,
               ZS: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Return d [ROWS, UNITS] of a source and gate from `embed_here`'s z: the other gates' columns meet zeros."""
    n = tl.arange(0, ZS) - GATE * Z
    w = starts(w_d + (SOURCE * 4 + GATE) * H * Z, units, Z)[None, :] + n[:, None]
    w = tl.load(w, mask=known[None, :] & ((n >= 0) & (n < Z))[:, None], other=0.0)
    return dot(z, w, tl.zeros((ROWS, UNITS), dtype=tl.float32), PRECISION)


@triton.jit
def scale(z, live, w_d, units, known, SOURCE: tl.constexpr, GATE: tl.constexpr, H: tl.constexpr, Z: tl.constexpr,
          ZS: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Return d [ROWS, UNITS] of a source and gate from z in memory; z points to the rows' starts."""
    k: tl.constexpr = SOURCE * 4 + GATE
    acc = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    return product(acc, z + k * Z, live, w_d + k * H * Z, units, known, Z, ZS, PRECISION)


@triton.jit
def scales(
    h_hat, z, rows, live, w_z, b_z, w_d, units, known, SOURCE: tl.constexpr,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, ZS: tl.constexpr, EMBED: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return one source's d of the four gates, from h_hat (pointing to the rows' starts) if EMBED, else from z."""
    if EMBED:
        e = embed_here(h_hat, live, w_z, b_z, SOURCE, S, Z, ZS, ROWS, DEPTH, PRECISION)
        i = scale_here(e, w_d, units, known, SOURCE, 0, H, Z, ZS, ROWS, UNITS, PRECISION)
        f = scale_here(e, w_d, units, known, SOURCE, 1, H, Z, ZS, ROWS, UNITS, PRECISION)
        g = scale_here(e, w_d, units, known, SOURCE, 2, H, Z, ZS, ROWS, UNITS, PRECISION)
        o = scale_here(e, w_d, units, known, SOURCE, 3, H, Z, ZS, ROWS, UNITS, PRECISION)
    else:
        z = starts(z, rows, 12 * Z)
        i = scale(z, live, w_d, units, known, SOURCE, 0, H, Z, ZS, ROWS, UNITS, PRECISION)
        f = scale(z, live, w_d, units, known, SOURCE, 1, H, Z, ZS, ROWS, UNITS, PRECISION)
        g = scale(z, live, w_d, units, known, SOURCE, 2, H, Z, ZS, ROWS, UNITS, PRECISION)
        o = scale(z, live, w_d, units, known, SOURCE, 3, H, Z, ZS, ROWS, UNITS, PRECISION)
    return i, f, g, o


@kernel
def main_gates(
    vx, h, c, h_hat, z, w_h, w_z, b_z, w_d, bias, kept, scale,
    h_to, c_to, y, n_weight, n_bias, n_c_weight, n_c_bias, t, prev, B,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, ZS: tl.constexpr, EMBED: tl.constexpr, NORM: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write h_t and c_t from h_{t-1} and, if EMBED, h_hat_t, else z_t; where NORM is "later" y [B, 4H] instead."""
    rows, units, live, _ = corner(B, H, ROWS, UNITS)
    at, at_prev = t.to(tl.int64) * B + rows, prev.to(tl.int64) * B + rows
    main_tile(
        vx, h, c, h_hat, z, w_h, w_z, b_z, w_d, bias, kept, scale,
        h_to, c_to, y, n_weight, n_bias, n_c_weight, n_c_bias,
        rows, at, at_prev, live, units, H, S, Z, ZS, EMBED, NORM, ROWS, UNITS, DEPTH, PRECISION,
    )  # fmt: skip


@triton.jit
def main_tile(
    vx, h, c, h_hat, z, w_h, w_z, b_z, w_d, bias, kept, scale, h_to, c_to, y, n_weight, n_bias, n_c_weight, n_c_bias,
    rows, at, at_prev, live, units,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, ZS: tl.constexpr, EMBED: tl.constexpr, NORM: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Do a tile of `main_gates`, whose rows are `at` and before the step `at_prev`."""
    known = units < H
    inside = live[:, None] & known[None, :]
    zero = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    i, f, g, o = gates_product(
        zero, zero, zero, zero, starts(h, at_prev, H), live, w_h, units, known, H, H, DEPTH, PRECISION
    )
    e = starts(h_hat, at, S)
    d_i, d_f, d_g, d_o = scales(
        e, z, rows, live, w_z, b_z, w_d, units, known, 0, H, S, Z, ZS, EMBED, ROWS, UNITS, DEPTH, PRECISION
    )
    i, f, g, o = i * d_i, f * d_f, g * d_g, o * d_o
    d_i, d_f, d_g, d_o = scales(
        e, z, rows, live, w_z, b_z, w_d, units, known, 1, H, S, Z, ZS, EMBED, ROWS, UNITS, DEPTH, PRECISION
    )
    v_i, v_f, v_g, v_o = load4(starts(vx, at, 4 * H + 4 * S)[:, None] + units[None, :], inside, H)
    i, f, g, o = i + v_i * d_i, f + v_f * d_f, g + v_g * d_g, o + v_o * d_o
    d_i, d_f, d_g, d_o = scales(
        e, z, rows, live, w_z, b_z, w_d, units, known, 2, H, S, Z, ZS, EMBED, ROWS, UNITS, DEPTH, PRECISION
    )
    i, f, g, o = i + d_i, f + d_f, g + d_g, o + d_o
    b_i, b_f, b_g, b_o = load4_row(bias, units, known, H)
    i, f, g, o = i + b_i[None, :], f + b_f[None, :], g + b_g[None, :], o + b_o[None, :]
    if NORM == "later":
        store4(starts(y, rows, 4 * H)[:, None] + units[None, :], i, f, g, o, inside, H)
    else:
        finish(
            i, f, g, o, c, kept, scale, inside, units, h_to, c_to, at, at_prev,
            n_weight, n_bias, n_c_weight, n_c_bias, H, NORM == "here",
        )  # fmt: skip


@triton.jit
def row_cell(y, c, kept, scale, weight, bias, k, inside, F: tl.constexpr, moments4):
    """Return c_t and the normalised output gate of a row's units k."""
    m_i, r_i, m_f, r_f, m_g, r_g, m_o, r_o = moments4
    i, f, g, o = load4_row(y, k, inside, F)
    w_i, w_f, w_g, w_o = load4_row(weight, k, inside, F)
    b_i, b_f, b_g, b_o = load4_row(bias, k, inside, F)
    c_prev = load_row(c, k, inside, F)
    i, f = (i - m_i) * r_i * w_i + b_i, (f - m_f) * r_f * w_f + b_f
    m = load_row(kept, k, inside, F) * scale if kept is not None else None
    return cell(i, f, (g - m_g) * r_g * w_g + b_g, c_prev, m), (o - m_o) * r_o * w_o + b_o


@kernel
def norm_cell(
    y, c, kept, scale, h_to, c_to, weight, bias, c_weight, c_bias, t, prev, B, F: tl.constexpr, BLOCK: tl.constexpr
):
    """Write h_t and c_t of one batch row from its gates y [B, 4F] before their layer norm, for rows of any length."""
    b = tl.program_id(0).to(tl.int64)
    y += b * 4 * F
    c += (prev.to(tl.int64) * B + b) * F
    at = (t.to(tl.int64) * B + b) * F
    if kept is not None:
        kept += at
    m_i, r_i = moments(y, F, BLOCK)
    m_f, r_f = moments(y + F, F, BLOCK)
    m_g, r_g = moments(y + 2 * F, F, BLOCK)
    m_o, r_o = moments(y + 3 * F, F, BLOCK)
    stats = (m_i, r_i, m_f, r_f, m_g, r_g, m_o, r_o)
    mean, m2 = 0.0, 0.0
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        c_t, _ = row_cell(y, c, kept, scale, weight, bias, k, k < F, F, stats)
        mean, m2 = merge(mean, m2, first, c_t, k < F, F)
    rstd = tl.rsqrt(m2 / F + EPS)
    # The cell is computed again rather than read back, which would need the other threads' writes to be visible.
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        c_t, o = row_cell(y, c, kept, scale, weight, bias, k, k < F, F, stats)
        value = (c_t - mean) * rstd * load_row(c_weight, k, k < F, F) + load_row(c_bias, k, k < F, F)
        store_row(c_to + at, k, c_t, k < F, F)
        store_row(h_to + at, k, tl.sigmoid(o) * tanh(value), k < F, F)
