"""The phases of one step backward, each a kernel, and what is rebuilt for a whole chunk before them.

Rebuilding runs over all rows of the chunk at once. It leaves d_h where `du` will stand, d_x where `dv` will and the
gates before their norm where `dy` will, so that the phases of a step only turn numbers into their gradients, in place.
LATER: the chunk has a step after this one, whose deltas this step reads; at its end it reads what is carried in.
"""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

import triton
import triton.language as tl

from .forward_kernels import scale
from .parts import (
    cell_back,
    corner,
    dot,
    factors,
    kernel,
    load4,
    load4_row,
    load_row,
    moments,
    only,
    product,
    starts,
    store4,
    store4_row,
    store_row,
    tanh,
    weights,
)


@kernel
def rebuild_gates(
    uh, vx, z, w_d, bias, d_uh, dv, y, B, H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write d_h to d_uh [B, 4H + 4S], d_x to dv [B, 4H] and the gates before their norm to y [B, 4H]; B: K B rows."""
    rows, units, live, known = corner(B, H, ROWS, UNITS)
    inside = live[:, None] & known[None, :]
    D: tl.constexpr = 4 * H + 4 * S
    uh, vx, d_uh = starts(uh, rows, D), starts(vx, rows, D), starts(d_uh, rows, D)[:, None]
    dv, y, e = starts(dv, rows, 4 * H)[:, None], starts(y, rows, 4 * H)[:, None], starts(z, rows, 12 * Z)
    for gate in tl.static_range(4):
        d_h, d_x, y_k = rebuilt(uh, vx, e, w_d, bias, live, units, known, gate, H, Z, DEPTH, ROWS, UNITS, PRECISION)
        k = gate * H + units[None, :]
        tl.store(d_uh + k, d_h, mask=inside)
        tl.store(dv + k, d_x, mask=inside)
        tl.store(y + k, y_k, mask=inside)


@triton.jit
def rebuilt(uh, vx, z, w_d, bias, live, units, known, GATE: tl.constexpr, H: tl.constexpr, Z: tl.constexpr,
            ZS: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Return d_h, d_x and y before its norm of one gate [ROWS, UNITS]; uh, vx and z point to the rows' starts."""
    d_h = scale(z, live, w_d, units, known, 0, GATE, H, Z, ZS, ROWS, UNITS, PRECISION)
    d_x = scale(z, live, w_d, units, known, 1, GATE, H, Z, ZS, ROWS, UNITS, PRECISION)
    b = scale(z, live, w_d, units, known, 2, GATE, H, Z, ZS, ROWS, UNITS, PRECISION)
    inside, k = live[:, None] & known[None, :], GATE * H + units[None, :]
    u = tl.load(uh[:, None] + k, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(vx[:, None] + k, mask=inside, other=0.0).to(tl.float32)
    b += load_row(bias + GATE * H, units, known, H)[None, :]
    return d_h, d_x, d_h * u + d_x * v + b


@kernel
def normalise(y, rstd, F: tl.constexpr, BLOCK: tl.constexpr):
    """Put (y - mean) / std in the place of one row of y [*, F], and write 1 / std."""
    row = tl.program_id(0).to(tl.int64)
    y += row * F
    mean, r = moments(y, F, BLOCK)
    tl.store(rstd + row, r)
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        store_row(y, k, (load_row(y, k, k < F, F) - mean) * r, k < F, F)


@triton.jit
def through_gates(i, f, g, o, dh, dc, c_before, c_after, kept, scale, rows, at, units, inside, F: tl.constexpr):
    """Return the gradients of a tile's gates, which have no norm, and that of c_{t-1}."""
    before = tl.load(starts(c_before, at, F)[:, None] + units[None, :], mask=inside, other=0.0)
    tanh_c = tanh(tl.load(starts(c_after, at, F)[:, None] + units[None, :], mask=inside, other=0.0))
    dc_t = tl.load(starts(dc, rows, F)[:, None] + units[None, :], mask=inside, other=0.0)
    dc_t += dh * tl.sigmoid(o) * (1.0 - tanh_c * tanh_c)
    m = factors(kept, scale, at, units, inside, F) if kept is not None else None
    return cell_back(i, f, g, o, before, m, tanh_c, dh, dc_t)


@triton.jit
def cell_gradient(
    dh, dc, dc_to, y, to, c_before, c_after, kept, scale, rows, at, units, inside,
    F: tl.constexpr, WIDTH: tl.constexpr, START: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Write the gates' gradients from dh [ROWS, UNITS] to `to`; if SCALED to y, times d_h to `to`.

    What `to` takes begins at START of its rows of WIDTH, where gates or d_h stand before.
    kept, scale: of g's mask; None without one.
    """
    target = starts(to, at, WIDTH)[:, None] + START + units[None, :]
    gates = starts(y, at, 4 * F)[:, None] + units[None, :] if SCALED else target
    i, f, g, o = load4(gates, inside, F)
    di, df, dg, do, dc_t = through_gates(i, f, g, o, dh, dc, c_before, c_after, kept, scale, rows, at, units, inside, F)
    tl.store(starts(dc_to, rows, F)[:, None] + units[None, :], dc_t, mask=inside)
    store4(gates, di, df, dg, do, inside, F)
    if SCALED:
        d_i, d_f, d_g, d_o = load4(target, inside, F)
        store4(target, di * d_i, df * d_f, dg * d_g, do * d_o, inside, F)


@kernel
def main_gradient(
    d_out, carried, d_uh, w_h, dc, dc_to, y, c_before, c_after, kept, scale, dh_to, t, B,
    H: tl.constexpr, S: tl.constexpr, NORM: tl.constexpr, LATER: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dy_t, du_t and dc_{t-1} from dh_t, made of the next du and da; if NORM is "later" only dh_t."""
    rows, units, live, known = corner(B, H, ROWS, UNITS)
    inside = live[:, None] & known[None, :]
    at = t.to(tl.int64) * B + rows
    D: tl.constexpr = 4 * H + 4 * S
    dh = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    if LATER:
        dh = product(dh, starts(d_uh, at + B, D), live, w_h, units, known, D, DEPTH, PRECISION)
    else:
        dh += tl.load(starts(carried, rows, H)[:, None] + units[None, :], mask=inside, other=0.0).to(tl.float32)
    dh += tl.load(starts(d_out, at, H)[:, None] + units[None, :], mask=inside, other=0.0).to(tl.float32)
    if NORM == "later":
        tl.store(starts(dh_to, rows, H)[:, None] + units[None, :], dh, mask=inside)
    else:
        cell_gradient(
            dh, dc, dc_to, y, d_uh, c_before, c_after, kept, scale, rows, at, units, inside, H, D, 0, True
        )  # fmt: skip


@kernel
def embedding_gradient(
    y, uh, vx, w_d, dz, t, B, H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dz_t [B, 12, Z]: dy u, dy v and dy times d_weight; the grid's second axis runs over source and gate."""
    rows, units, live, known = corner(B, Z, ROWS, UNITS)
    at = t.to(tl.int64) * B + rows
    k12 = tl.program_id(1)
    source, gate = k12 // 4, k12 % 4
    y = starts(y, at, 4 * H) + gate * H
    uh, vx = starts(uh, at, 4 * H + 4 * S) + gate * H, starts(vx, at, 4 * H + 4 * S) + gate * H
    w_d = starts(w_d, k12.to(tl.int64) * Z, H)
    acc = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    for first in range(0, H, DEPTH):
        k = first + tl.arange(0, DEPTH)
        inside = live[:, None] & (k < H)[None, :]
        d = tl.load(y[:, None] + k[None, :], mask=inside, other=0.0)
        # What the source's scale multiplies: u, v, or 1 for the bias. A load whose mask is off reads nothing.
        of_u, of_v = inside & (k < only(source == 0, H))[None, :], inside & (k < only(source == 1, H))[None, :]
        u = tl.load(uh[:, None] + k[None, :], mask=of_u, other=1.0).to(tl.float32)
        v = tl.load(vx[:, None] + k[None, :], mask=of_v, other=1.0).to(tl.float32)
        w = weights(w_d, units, known, k, H)
        acc = dot((d.to(tl.float32) * u * v).to(d.dtype), w, acc, PRECISION)
    to = starts(dz, at, 12 * Z)[:, None] + k12 * Z + units[None, :]
    tl.store(to, acc, mask=live[:, None] & known[None, :])


@kernel
def hyper_gradient(
    dz, carried, d_uh, w_z, w_s, dc, dc_to, c_before, c_after, dh_to, t, B,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, NORM: tl.constexpr, LATER: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write da_t and dc_hat_{t-1} from dh_hat_t, made of dz_t and the next da; if NORM is "later" only dh_hat_t."""
    rows, units, live, known = corner(B, S, ROWS, UNITS)
    inside = live[:, None] & known[None, :]
    at = t.to(tl.int64) * B + rows
    D: tl.constexpr = 4 * H + 4 * S
    acc = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    dh = product(acc, starts(dz, at, 12 * Z), live, w_z, units, known, 12 * Z, DEPTH, PRECISION)
    if LATER:
        dh = product(dh, starts(d_uh, at + B, D) + 4 * H, live, w_s, units, known, 4 * S, DEPTH, PRECISION)
    else:
        dh += tl.load(starts(carried, rows, S)[:, None] + units[None, :], mask=inside, other=0.0).to(tl.float32)
    if NORM == "later":
        tl.store(starts(dh_to, rows, S)[:, None] + units[None, :], dh, mask=inside)
    else:
        cell_gradient(
            dh, dc, dc_to, None, d_uh, c_before, c_after, None, None, rows, at, units, inside, S, D, 4 * H, False
        )  # fmt: skip


@triton.jit
def through_tanh(dh, x, x_c, weight, bias, c_weight, c_bias, k, F: tl.constexpr):
    """Return a block of a row: dh, the output gate, tanh of the normalised cell, and the gradient of that cell."""
    inside = k < F
    o = load_row(x + 3 * F, k, inside, F) * load_row(weight + 3 * F, k, inside, F)
    o += load_row(bias + 3 * F, k, inside, F)
    tanh_c = tanh(load_row(x_c, k, inside, F) * load_row(c_weight, k, inside, F) + load_row(c_bias, k, inside, F))
    dh = load_row(dh, k, inside, F)
    return dh, o, tanh_c, dh * tl.sigmoid(o) * (1.0 - tanh_c * tanh_c)


@triton.jit
def through_cell(
    dh, dc, x, x_c, r_c, mean_g, mean_gx, before, kept, scale, weight, bias, c_weight, c_bias, k, F: tl.constexpr
):
    """Return a block of a row: gradients of the four normalised gates, of c_{t-1} and of the normalised cell."""
    inside = k < F
    dh, o, tanh_c, d_cell = through_tanh(dh, x, x_c, weight, bias, c_weight, c_bias, k, F)
    # The norm's backward; off the row's end every factor is 0 but the means.
    back = d_cell * load_row(c_weight, k, inside, F) - mean_g - load_row(x_c, k, inside, F) * mean_gx
    dc_t = load_row(dc, k, inside, F) + back * r_c
    i = load_row(x, k, inside, F) * load_row(weight, k, inside, F) + load_row(bias, k, inside, F)
    f = load_row(x + F, k, inside, F) * load_row(weight + F, k, inside, F) + load_row(bias + F, k, inside, F)
    g = load_row(x + 2 * F, k, inside, F) * load_row(weight + 2 * F, k, inside, F)
    g += load_row(bias + 2 * F, k, inside, F)
    m = load_row(kept, k, inside, F) * scale if kept is not None else None
    di, df, dg, do, dc_t = cell_back(i, f, g, o, load_row(before, k, inside, F), m, tanh_c, dh, dc_t)
    return di, df, dg, do, dc_t, d_cell


@kernel
def norm_cell_gradient(
    dh, dc, dc_to, x, rstd, x_c, rstd_c, c_before, kept, scale, weight, bias, c_weight, c_bias,
    d_gates, d_cell, y, to, t, B,
    F: tl.constexpr, WIDTH: tl.constexpr, START: tl.constexpr, SCALED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write one batch row's gradients through both norms: of the normalised gates and cell, then as `cell_gradient`.

    x [K, B, 4F] and x_c [K, B, F] are normalised, rstd [K, B, 4] and rstd_c [K, B] their 1 / std.
    """
    b = tl.program_id(0).to(tl.int64)
    at = t.to(tl.int64) * B + b
    dh, dc, dc_to = dh + b * F, dc + b * F, dc_to + b * F
    x, d_gates, to = x + at * 4 * F, d_gates + at * 4 * F, starts(to, at, WIDTH) + START
    x_c, c_before, d_cell = x_c + at * F, c_before + at * F, d_cell + at * F
    if kept is not None:
        kept += at * F
    r_c = tl.load(rstd_c + at)
    r_i, r_f, r_g, r_o = load4(rstd + at * 4, True, 1)

    mean_g, mean_gx = 0.0, 0.0
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        _, _, _, d = through_tanh(dh, x, x_c, weight, bias, c_weight, c_bias, k, F)
        d *= load_row(c_weight, k, k < F, F)
        mean_g += tl.sum(d) / F
        mean_gx += tl.sum(d * load_row(x_c, k, k < F, F)) / F

    m_i, m_f, m_g, m_o = 0.0, 0.0, 0.0, 0.0
    n_i, n_f, n_g, n_o = 0.0, 0.0, 0.0, 0.0
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        di, df, dg, do, _, _ = through_cell(
            dh, dc, x, x_c, r_c, mean_g, mean_gx, c_before, kept, scale, weight, bias, c_weight, c_bias, k, F
        )
        w_i, w_f, w_g, w_o = load4_row(weight, k, k < F, F)
        x_i, x_f, x_g, x_o = load4_row(x, k, k < F, F)
        di, df, dg, do = di * w_i, df * w_f, dg * w_g, do * w_o
        m_i, m_f, m_g, m_o = m_i + tl.sum(di) / F, m_f + tl.sum(df) / F, m_g + tl.sum(dg) / F, m_o + tl.sum(do) / F
        n_i, n_f = n_i + tl.sum(di * x_i) / F, n_f + tl.sum(df * x_f) / F
        n_g, n_o = n_g + tl.sum(dg * x_g) / F, n_o + tl.sum(do * x_o) / F

    # Computed again rather than read back, which would need the other threads' writes to be visible.
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        inside = k < F
        di, df, dg, do, dc_t, d = through_cell(
            dh, dc, x, x_c, r_c, mean_g, mean_gx, c_before, kept, scale, weight, bias, c_weight, c_bias, k, F
        )
        store4_row(d_gates, k, di, df, dg, do, inside, F)
        store_row(d_cell, k, d, inside, F)
        store_row(dc_to, k, dc_t, inside, F)
        w_i, w_f, w_g, w_o = load4_row(weight, k, inside, F)
        x_i, x_f, x_g, x_o = load4_row(x, k, inside, F)
        di, df = (di * w_i - m_i - x_i * n_i) * r_i, (df * w_f - m_f - x_f * n_f) * r_f
        dg, do = (dg * w_g - m_g - x_g * n_g) * r_g, (do * w_o - m_o - x_o * n_o) * r_o
        if SCALED:
            store4_row(y + at * 4 * F, k, di, df, dg, do, inside, F)
            d_i, d_f, d_g, d_o = load4(to + k, inside, F)
            di, df, dg, do = di * d_i, df * d_f, dg * d_g, do * d_o
        store4(to + k, di, df, dg, do, inside, F)
