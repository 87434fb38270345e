"""The phases of one step backward, each a kernel, and what is rebuilt for a whole chunk before them.

Rebuilding runs over all rows of the chunk at once. It leaves d_h where `du` will stand, d_x where `dv` will and the
gates before their norm where `dy` will, so that the phases of a step only turn numbers into their gradients, in place.
LATER: the chunk has a step after this one, whose deltas this step reads; at its end it reads what is carried in.
"""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

import triton
import triton.language as tl

from .forward_kernels import load_row, scale
from .parts import cell_back, corner, dot, load4, moments, only, product, store4, tanh

#: Arguments whose value changes from step to step, or with the data: not worth a compilation each.
FREE = ["t", "B"]


@triton.jit(do_not_specialize=["B"])
def rebuild_gates(
    uh, vx, z, w_d, bias, rec, inp, y, B, H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write d_h to rec [B, 4H + 4S], d_x to inp [B, 4H] and the gates before their norm to y [B, 4H]; B: K B rows."""
    rows, units, live, known = corner(B, H, ROWS, UNITS)
    inside = live[:, None] & known[None, :]
    at, at_uh = rows[:, None] * (4 * H) + units[None, :], rows[:, None] * (4 * H + 4 * S) + units[None, :]
    e = z + rows * (12 * Z)
    for gate in tl.static_range(4):
        d_h = scale(e, live, w_d, units, known, 0, gate, H, Z, DEPTH, ROWS, UNITS, PRECISION)
        d_x = scale(e, live, w_d, units, known, 1, gate, H, Z, DEPTH, ROWS, UNITS, PRECISION)
        b = scale(e, live, w_d, units, known, 2, gate, H, Z, DEPTH, ROWS, UNITS, PRECISION)
        u = tl.load(uh + at_uh + gate * H, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(vx + at_uh + gate * H, mask=inside, other=0.0).to(tl.float32)
        b += load_row(bias + gate * H, units, known)[None, :]
        tl.store(rec + at_uh + gate * H, d_h, mask=inside)
        tl.store(inp + at + gate * H, d_x, mask=inside)
        tl.store(y + at + gate * H, d_h * u + d_x * v + b, mask=inside)


@triton.jit
def normalise(y, rstd, F: tl.constexpr, BLOCK: tl.constexpr):
    """Put (y - mean) / std in the place of one row of y [*, F], and write 1 / std."""
    row = tl.program_id(0).to(tl.int64)
    y += row * F
    mean, r = moments(y, F, BLOCK)
    tl.store(rstd + row, r)
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        value = tl.load(y + k, mask=k < F, other=0.0).to(tl.float32)
        tl.store(y + k, (value - mean) * r, mask=k < F)


@triton.jit
def cell_gradient(
    dh, dc, dc_to, y, to, scaled, c_before, c_after, rows, at, units, inside,
    F: tl.constexpr, WIDTH: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Write the gates' gradients from dh [ROWS, UNITS] to `to`, rows of WIDTH; if SCALED to y, times d_h to `to`."""
    gates = y + at[:, None] * (4 * F) + units[None, :] if SCALED else to + at[:, None] * WIDTH + units[None, :]
    i, f, g, o = load4(gates, inside, F)
    cells, here = at[:, None] * F + units[None, :], rows[:, None] * F + units[None, :]
    before = tl.load(c_before + cells, mask=inside, other=0.0)
    tanh_c = tanh(tl.load(c_after + cells, mask=inside, other=0.0))
    dc_t = tl.load(dc + here, mask=inside, other=0.0) + dh * tl.sigmoid(o) * (1.0 - tanh_c * tanh_c)
    di, df, dg, do, dc_t = cell_back(i, f, g, o, before, tanh_c, dh, dc_t)
    tl.store(dc_to + here, dc_t, mask=inside)
    store4(gates, di, df, dg, do, inside, F)
    if SCALED:
        target = to + at[:, None] * WIDTH + units[None, :]
        d_i, d_f, d_g, d_o = load4(target, inside, F)
        store4(target, di * d_i, df * d_f, dg * d_g, do * d_o, inside, F)


@triton.jit(do_not_specialize=FREE)
def main_gradient(
    d_out, carried, rec, w_h, dc, dc_to, y, c_before, c_after, dh_to, t, B,
    H: tl.constexpr, S: tl.constexpr, NORM: tl.constexpr, LATER: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dy_t, du_t and dc_{t-1} from dh_t, made of the next du and da; if NORM is "later" only dh_t."""
    rows, units, live, known = corner(B, H, ROWS, UNITS)
    inside = live[:, None] & known[None, :]
    at = t.to(tl.int64) * B + rows
    D: tl.constexpr = 4 * H + 4 * S
    dh = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    here = rows[:, None] * H + units[None, :]
    if LATER:
        dh = product(dh, rec + (at + B) * D, live, w_h, units, known, D, DEPTH, PRECISION)
    else:
        dh += tl.load(carried + here, mask=inside, other=0.0).to(tl.float32)
    dh += tl.load(d_out + at[:, None] * H + units[None, :], mask=inside, other=0.0).to(tl.float32)
    if NORM == "later":
        tl.store(dh_to + here, dh, mask=inside)
    else:
        cell_gradient(dh, dc, dc_to, y, rec, rec, c_before, c_after, rows, at, units, inside, H, D, True)


@triton.jit(do_not_specialize=FREE)
def embedding_gradient(
    y, uh, vx, w_d, dz, t, B, H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dz_t [B, 12, Z]: dy u, dy v and dy times d_weight; the grid's second axis runs over source and gate."""
    rows, units, live, known = corner(B, Z, ROWS, UNITS)
    at = t.to(tl.int64) * B + rows
    k12 = tl.program_id(1)
    source, gate = k12 // 4, k12 % 4
    y += at * (4 * H) + gate * H
    uh += at * (4 * H + 4 * S) + gate * H
    vx += at * (4 * H + 4 * S) + gate * H
    w_d += k12.to(tl.int64) * (Z * H)
    acc = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    for first in range(0, H, DEPTH):
        k = first + tl.arange(0, DEPTH)
        inside = live[:, None] & (k < H)[None, :]
        d = tl.load(y[:, None] + k[None, :], mask=inside, other=0.0)
        # What the source's scale multiplies: u, v, or 1 for the bias. A load whose mask is off reads nothing.
        of_u, of_v = inside & (k < only(source == 0, H))[None, :], inside & (k < only(source == 1, H))[None, :]
        u = tl.load(uh[:, None] + k[None, :], mask=of_u, other=1.0).to(tl.float32)
        v = tl.load(vx[:, None] + k[None, :], mask=of_v, other=1.0).to(tl.float32)
        w = tl.load(w_d + units[None, :] * H + k[:, None], mask=known[None, :] & (k < H)[:, None], other=0.0)
        acc = dot((d.to(tl.float32) * u * v).to(d.dtype), w, acc, PRECISION)
    to = dz + at[:, None] * (12 * Z) + k12 * Z + units[None, :]
    tl.store(to, acc, mask=live[:, None] & known[None, :])


@triton.jit(do_not_specialize=FREE)
def hyper_gradient(
    dz, carried, rec, w_z, w_s, dc, dc_to, c_before, c_after, dh_to, t, B,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, NORM: tl.constexpr, LATER: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write da_t and dc_hat_{t-1} from dh_hat_t, made of dz_t and the next da; if NORM is "later" only dh_hat_t."""
    rows, units, live, known = corner(B, S, ROWS, UNITS)
    inside = live[:, None] & known[None, :]
    at = t.to(tl.int64) * B + rows
    D: tl.constexpr = 4 * H + 4 * S
    acc = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    dh = product(acc, dz + at * (12 * Z), live, w_z, units, known, 12 * Z, DEPTH, PRECISION)
    here = rows[:, None] * S + units[None, :]
    if LATER:
        dh = product(dh, rec + (at + B) * D + 4 * H, live, w_s, units, known, 4 * S, DEPTH, PRECISION)
    else:
        dh += tl.load(carried + here, mask=inside, other=0.0).to(tl.float32)
    if NORM == "later":
        tl.store(dh_to + here, dh, mask=inside)
    else:
        da = rec + 4 * H
        cell_gradient(dh, dc, dc_to, da, da, da, c_before, c_after, rows, at, units, inside, S, D, False)


@triton.jit
def through_tanh(dh, x, x_c, weight, bias, c_weight, c_bias, k, F: tl.constexpr):
    """Return a block of a row: dh, the output gate, tanh of the normalised cell, and the gradient of that cell."""
    inside = k < F
    o = load_row(x + 3 * F, k, inside) * load_row(weight + 3 * F, k, inside) + load_row(bias + 3 * F, k, inside)
    tanh_c = tanh(load_row(x_c, k, inside) * load_row(c_weight, k, inside) + load_row(c_bias, k, inside))
    dh = load_row(dh, k, inside)
    return dh, o, tanh_c, dh * tl.sigmoid(o) * (1.0 - tanh_c * tanh_c)


@triton.jit
def through_cell(dh, dc, x, x_c, r_c, mean_g, mean_gx, before, weight, bias, c_weight, c_bias, k, F: tl.constexpr):
    """Return a block of a row: gradients of the four normalised gates, of c_{t-1} and of the normalised cell."""
    inside = k < F
    dh, o, tanh_c, d_cell = through_tanh(dh, x, x_c, weight, bias, c_weight, c_bias, k, F)
    # The norm's backward; off the row's end every factor is 0 but the means.
    back = d_cell * load_row(c_weight, k, inside) - mean_g - load_row(x_c, k, inside) * mean_gx
    dc_t = load_row(dc, k, inside) + back * r_c
    i = load_row(x, k, inside) * load_row(weight, k, inside) + load_row(bias, k, inside)
    f = load_row(x + F, k, inside) * load_row(weight + F, k, inside) + load_row(bias + F, k, inside)
    g = load_row(x + 2 * F, k, inside) * load_row(weight + 2 * F, k, inside) + load_row(bias + 2 * F, k, inside)
    di, df, dg, do, dc_t = cell_back(i, f, g, o, load_row(before, k, inside), tanh_c, dh, dc_t)
    return di, df, dg, do, dc_t, d_cell


@triton.jit(do_not_specialize=["t", "B"])
def norm_cell_gradient(
    dh, dc, dc_to, x, rstd, x_c, rstd_c, c_before, weight, bias, c_weight, c_bias, d_gates, d_cell, y, to, t, B,
    F: tl.constexpr, WIDTH: tl.constexpr, SCALED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write one batch row's gradients through both norms: of the normalised gates and cell, then as `cell_gradient`.

    x [K, B, 4F] and x_c [K, B, F] are normalised, rstd [K, B, 4] and rstd_c [K, B] their 1 / std.
    """
    b = tl.program_id(0).to(tl.int64)
    at = t.to(tl.int64) * B + b
    dh, dc, dc_to = dh + b * F, dc + b * F, dc_to + b * F
    x, d_gates, to = x + at * 4 * F, d_gates + at * 4 * F, to + at * WIDTH
    x_c, c_before, d_cell = x_c + at * F, c_before + at * F, d_cell + at * F
    r_c = tl.load(rstd_c + at)
    r_i, r_f, r_g, r_o = load4(rstd + at * 4, True, 1)

    mean_g, mean_gx = 0.0, 0.0
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        _, _, _, d = through_tanh(dh, x, x_c, weight, bias, c_weight, c_bias, k, F)
        d *= load_row(c_weight, k, k < F)
        mean_g += tl.sum(d) / F
        mean_gx += tl.sum(d * load_row(x_c, k, k < F)) / F

    m_i, m_f, m_g, m_o = 0.0, 0.0, 0.0, 0.0
    n_i, n_f, n_g, n_o = 0.0, 0.0, 0.0, 0.0
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        di, df, dg, do, _, _ = through_cell(
            dh, dc, x, x_c, r_c, mean_g, mean_gx, c_before, weight, bias, c_weight, c_bias, k, F
        )
        w_i, w_f, w_g, w_o = load4(weight + k, k < F, F)
        x_i, x_f, x_g, x_o = load4(x + k, k < F, F)
        di, df, dg, do = di * w_i, df * w_f, dg * w_g, do * w_o
        m_i, m_f, m_g, m_o = m_i + tl.sum(di) / F, m_f + tl.sum(df) / F, m_g + tl.sum(dg) / F, m_o + tl.sum(do) / F
        n_i, n_f = n_i + tl.sum(di * x_i) / F, n_f + tl.sum(df * x_f) / F
        n_g, n_o = n_g + tl.sum(dg * x_g) / F, n_o + tl.sum(do * x_o) / F

    # Computed again rather than read back, which would need the other threads' writes to be visible.
    for first in range(0, F, BLOCK):
        k = first + tl.arange(0, BLOCK)
        inside = k < F
        di, df, dg, do, dc_t, d = through_cell(
            dh, dc, x, x_c, r_c, mean_g, mean_gx, c_before, weight, bias, c_weight, c_bias, k, F
        )
        store4(d_gates + k, di, df, dg, do, inside, F)
        tl.store(d_cell + k, d, mask=inside)
        tl.store(dc_to + k, dc_t, mask=inside)
        w_i, w_f, w_g, w_o = load4(weight + k, inside, F)
        x_i, x_f, x_g, x_o = load4(x + k, inside, F)
        di, df = (di * w_i - m_i - x_i * n_i) * r_i, (df * w_f - m_f - x_f * n_f) * r_f
        dg, do = (dg * w_g - m_g - x_g * n_g) * r_g, (do * w_o - m_o - x_o * n_o) * r_o
        if SCALED:
            store4(y + at * 4 * F + k, di, df, dg, do, inside, F)
            d_i, d_f, d_g, d_o = load4(to + k, inside, F)
            di, df, dg, do = di * d_i, df * d_f, dg * d_g, do * d_o
        store4(to + k, di, df, dg, do, inside, F)
