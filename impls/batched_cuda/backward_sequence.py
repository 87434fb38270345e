"""All steps of a chunk backward in one launch, for the sizes of `forward_sequence`.

A program owns some rows of the batch with all their units. What is rebuilt of a step is rebuilt when the step is
reached, so that scales and gates stay on the chip; only layer norm, whose rows span tiles, has them wait in memory
where their gradients will stand. No thread overwrites what another may not have read: a barrier stands between.
"""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

import triton
import triton.language as tl

from .backward_kernels import rebuilt, through_gates
from .parts import (
    cell_back,
    dot,
    factors,
    kernel,
    load4,
    load4_row,
    load_row,
    norm_back,
    only,
    product,
    standardised,
    starts,
    store4,
    tanh,
    weights,
)

#: Numbers of whole rows that a program holds at once of each of some twenty arrays.
HELD = tl.constexpr(1024)


@triton.jit
def main_back(
    uh, vx, z, c_before, c_after, d_out, carried, dc, kept, scale, w_h, w_d, bias, d_uh, dv, dy, dc_to, y, dh_to,
    rows, at, live, later, last, units, B,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, ZS: tl.constexpr, NORM: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dy, du, dv and dc_{t-1} of a tile; if NORM dh to dh_to, y, and d_h and d_x where du and dv will stand."""
    known, k = units < H, units[None, :]
    inside = live[:, None] & known[None, :]
    D: tl.constexpr = 4 * H + 4 * S
    acc = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    dh = product(acc, starts(d_uh, at + B, D), later, w_h, units, known, D, DEPTH, PRECISION)
    ends = last[:, None] & known[None, :]
    dh += tl.load(starts(carried, rows, H)[:, None] + k, mask=ends, other=0.0).to(tl.float32)
    dh += tl.load(starts(d_out, at, H)[:, None] + k, mask=inside, other=0.0).to(tl.float32)
    u, v, e = starts(uh, at, D), starts(vx, at, D), starts(z, at, 12 * Z)
    h_i, x_i, i = rebuilt(u, v, e, w_d, bias, live, units, known, 0, H, Z, ZS, ROWS, UNITS, PRECISION)
    h_f, x_f, f = rebuilt(u, v, e, w_d, bias, live, units, known, 1, H, Z, ZS, ROWS, UNITS, PRECISION)
    h_g, x_g, g = rebuilt(u, v, e, w_d, bias, live, units, known, 2, H, Z, ZS, ROWS, UNITS, PRECISION)
    h_o, x_o, o = rebuilt(u, v, e, w_d, bias, live, units, known, 3, H, Z, ZS, ROWS, UNITS, PRECISION)
    if NORM:
        tl.store(starts(dh_to, rows, H)[:, None] + k, dh, mask=inside)
        store4(starts(y, at, 4 * H)[:, None] + k, i, f, g, o, inside, H)
    else:
        i, f, g, o, dc_t = through_gates(
            i, f, g, o, dh, dc, c_before, c_after, kept, scale, rows, at, units, inside, H
        )  # fmt: skip
        tl.debug_barrier()
        tl.store(starts(dc_to, rows, H)[:, None] + k, dc_t, mask=inside)
        store4(starts(dy, at, 4 * H)[:, None] + k, i, f, g, o, inside, H)
        h_i, h_f, h_g, h_o = h_i * i, h_f * f, h_g * g, h_o * o
        x_i, x_f, x_g, x_o = x_i * i, x_f * f, x_g * g, x_o * o
    store4(starts(d_uh, at, D)[:, None] + k, h_i, h_f, h_g, h_o, inside, H)
    store4(starts(dv, at, 4 * H)[:, None] + k, x_i, x_f, x_g, x_o, inside, H)


@triton.jit
def embedding_back(
    uh, vx, dy, w_d, dz, at, live, n,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, ZS: tl.constexpr,
    ROWS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write numbers n of the twelve dz [*, 12, Z]; w_d [12, Z, H]. A gate's three sources share its dy."""
    known = n < Z
    to, written = starts(dz, at, 12 * Z)[:, None] + n[None, :], live[:, None] & known[None, :]
    for gate in tl.static_range(4):
        d_k = starts(dy, at, 4 * H) + gate * H
        u_k, v_k = starts(uh, at, 4 * H + 4 * S) + gate * H, starts(vx, at, 4 * H + 4 * S) + gate * H
        acc_h = tl.zeros((ROWS, ZS), dtype=tl.float32)
        acc_x = tl.zeros((ROWS, ZS), dtype=tl.float32)
        acc_b = tl.zeros((ROWS, ZS), dtype=tl.float32)
        for first in range(0, H, DEPTH):
            k = first + tl.arange(0, DEPTH)
            inside = live[:, None] & (k < H)[None, :]
            d = tl.load(d_k[:, None] + k[None, :], mask=inside, other=0.0)
            u = tl.load(u_k[:, None] + k[None, :], mask=inside, other=0.0).to(tl.float32)
            v = tl.load(v_k[:, None] + k[None, :], mask=inside, other=0.0).to(tl.float32)
            of_u, of_v = (d.to(tl.float32) * u).to(d.dtype), (d.to(tl.float32) * v).to(d.dtype)
            acc_h = dot(of_u, weights(w_d + gate * Z * H, n, known, k, H), acc_h, PRECISION)
            acc_x = dot(of_v, weights(w_d + (4 + gate) * Z * H, n, known, k, H), acc_x, PRECISION)
            acc_b = dot(d, weights(w_d + (8 + gate) * Z * H, n, known, k, H), acc_b, PRECISION)
        tl.store(to + gate * Z, acc_h, mask=written)
        tl.store(to + (4 + gate) * Z, acc_x, mask=written)
        tl.store(to + (8 + gate) * Z, acc_b, mask=written)


@triton.jit
def hyper_back(
    a, c_before, c_after, carried, dc, w_z, w_s, d_uh, dz, dc_to, dh_to, rows, at, live, later, last, units, B,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, NORM: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write da and dc_hat_{t-1} of a tile; if NORM dh_hat to dh_to instead."""
    known, k = units < S, units[None, :]
    inside = live[:, None] & known[None, :]
    D: tl.constexpr = 4 * H + 4 * S
    acc = tl.zeros((ROWS, UNITS), dtype=tl.float32)
    dh = product(acc, starts(dz, at, 12 * Z), live, w_z, units, known, 12 * Z, DEPTH, PRECISION)
    dh = product(dh, starts(d_uh, at + B, D) + 4 * H, later, w_s, units, known, 4 * S, DEPTH, PRECISION)
    ends = last[:, None] & known[None, :]
    dh += tl.load(starts(carried, rows, S)[:, None] + k, mask=ends, other=0.0).to(tl.float32)
    if NORM:
        tl.store(starts(dh_to, rows, S)[:, None] + k, dh, mask=inside)
    else:
        i, f, g, o = load4(starts(a, at, 4 * S)[:, None] + k, inside, S)
        i, f, g, o, dc_t = through_gates(
            i, f, g, o, dh, dc, c_before, c_after, None, None, rows, at, units, inside, S
        )  # fmt: skip
        tl.debug_barrier()
        tl.store(starts(dc_to, rows, S)[:, None] + k, dc_t, mask=inside)
        store4(starts(d_uh, at, D)[:, None] + 4 * H + k, i, f, g, o, inside, S)


@triton.jit
def norms_back(
    dh, dc, dc_to, y, x_c, c_before, c_after, kept, scale, weight, bias, c_weight, c_bias, d_gates, d_cell, dy, to, dv,
    rows, at, live,
    F: tl.constexpr, WHOLE: tl.constexpr, WIDTH: tl.constexpr, START: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Do through both norms, of whole rows, what `through_gates` does without.

    Standardised gates are left in the place of y [K, B, 4F], the cell in x_c; d_gates and d_cell are the gradients of
    both after their norm. If SCALED d_h stands at `to` from START on, of rows of WIDTH, and d_x at dv.
    """
    units = tl.arange(0, WHOLE)
    known, k = units < F, units[None, :]
    inside = live[:, None] & known[None, :]
    gates, cells, carries = starts(y, at, 4 * F)[:, None] + k, starts(c_after, at, F), starts(dc, rows, F)
    i, f, g, o = load4(gates, inside, F)
    i, r_i = standardised(i, inside, F)
    f, r_f = standardised(f, inside, F)
    g, r_g = standardised(g, inside, F)
    o, r_o = standardised(o, inside, F)
    c, r_c = standardised(tl.load(cells[:, None] + k, mask=inside, other=0.0), inside, F)
    w_i, w_f, w_g, w_o = load4_row(weight, units, known, F)
    b_i, b_f, b_g, b_o = load4_row(bias, units, known, F)
    w_c, b_c = load_row(c_weight, units, known, F), load_row(c_bias, units, known, F)

    dh = tl.load(starts(dh, rows, F)[:, None] + k, mask=inside, other=0.0)
    tanh_c = tanh(c * w_c[None, :] + b_c[None, :])
    gate_o = o * w_o[None, :] + b_o[None, :]
    d_c = dh * tl.sigmoid(gate_o) * (1.0 - tanh_c * tanh_c)
    dc_t = tl.load(carries[:, None] + k, mask=inside, other=0.0) + norm_back(d_c * w_c[None, :], c, r_c, F)
    di, df, dg, do, dc_t = cell_back(
        i * w_i[None, :] + b_i[None, :], f * w_f[None, :] + b_f[None, :], g * w_g[None, :] + b_g[None, :], gate_o,
        tl.load(starts(c_before, at, F)[:, None] + k, mask=inside, other=0.0),
        factors(kept, scale, at, units, inside, F) if kept is not None else None, tanh_c, dh, dc_t,
    )  # fmt: skip
    tl.debug_barrier()
    tl.store(starts(x_c, at, F)[:, None] + k, c, mask=inside)
    tl.store(starts(d_cell, at, F)[:, None] + k, d_c, mask=inside)
    tl.store(starts(dc_to, rows, F)[:, None] + k, dc_t, mask=inside)
    store4(gates, i, f, g, o, inside, F)
    store4(starts(d_gates, at, 4 * F)[:, None] + k, di, df, dg, do, inside, F)

    di, df = norm_back(di * w_i[None, :], i, r_i, F), norm_back(df * w_f[None, :], f, r_f, F)
    dg, do = norm_back(dg * w_g[None, :], g, r_g, F), norm_back(do * w_o[None, :], o, r_o, F)
    to = starts(to, at, WIDTH)[:, None] + START + k
    if SCALED:
        store4(starts(dy, at, 4 * F)[:, None] + k, di, df, dg, do, inside, F)
        dv = starts(dv, at, 4 * F)[:, None] + k
        x_i, x_f, x_g, x_o = load4(dv, inside, F)
        h_i, h_f, h_g, h_o = load4(to, inside, F)
        tl.debug_barrier()
        store4(dv, di * x_i, df * x_f, dg * x_g, do * x_o, inside, F)
        di, df, dg, do = di * h_i, df * h_f, dg * h_g, do * h_o
    store4(to, di, df, dg, do, inside, F)


@kernel
def backward_sequence(
    uh, vx, z, a, c_before, c_hat_before, c_after, c_hat_after, d_out, dh, dc, dh_hat, dc_hat, kept, scale,
    w_h, w_z, w_s, w_d_t, w_d, bias,
    n_weight, n_bias, n_c_weight, n_c_bias, s_weight, s_bias, s_c_weight, s_c_bias,
    d_uh, dv, dy, dz, dc_to, dc_hat_to,
    y, x_c, d_gates, d_cell, dh_to, s_x_c, s_d_gates, s_d_cell, dh_hat_to, K, B,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, ZS: tl.constexpr, NORM: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, S_UNITS: tl.constexpr, WHOLE: tl.constexpr, S_WHOLE: tl.constexpr,
    DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write what `backward.Made` names, of some rows, from what `backward.Given` and `backward.Weights` name.

    If NORM also what `norms_back` leaves of either LSTM, with `a` in the place of y, and room for a step's dh, dh_hat.
    """
    start = tl.program_id(0).to(tl.int64) * ROWS
    rows = start + tl.arange(0, ROWS)
    live = rows < B
    t = (K - 1).to(tl.int64)
    D: tl.constexpr = 4 * H + 4 * S
    # Of whole rows only as many at once as there are registers for.
    SOME: tl.constexpr = min(ROWS, max(1, HELD // WHOLE))
    S_SOME: tl.constexpr = min(ROWS, max(1, HELD // S_WHOLE))
    for back in tl.range(0, K, num_stages=1, disable_licm=True):
        # The chunk's last step reads what is carried in, any other the deltas of the step after it.
        last, later = rows < only(back == 0, B), rows < only(back > 0, B)
        at = t * B + rows
        for first in range(0, H, UNITS):
            main_back(
                uh, vx, z, c_before, c_after, d_out, dh, dc, kept, scale, w_h, w_d, bias, d_uh, dv, dy, dc_to, y, dh_to,
                rows, at, live, later, last, first + tl.arange(0, UNITS), B,
                H, S, Z, ZS, NORM, ROWS, UNITS, DEPTH, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()
        if NORM:
            for first in range(0, ROWS, SOME):
                some = start + first + tl.arange(0, SOME)
                norms_back(
                    dh_to, dc, dc_to, y, x_c, c_before, c_after, kept, scale, n_weight, n_bias, n_c_weight, n_c_bias,
                    d_gates, d_cell, dy, d_uh, dv, some, t * B + some, some < B, H, WHOLE, D, 0, True,
                )  # fmt: skip
            tl.debug_barrier()
        for first in range(0, Z, ZS):
            embedding_back(
                uh, vx, dy, w_d_t, dz, at, live, first + tl.arange(0, ZS), H, S, Z, ZS, ROWS, DEPTH, PRECISION
            )  # fmt: skip
        tl.debug_barrier()
        for first in range(0, S, S_UNITS):
            hyper_back(
                a, c_hat_before, c_hat_after, dh_hat, dc_hat, w_z, w_s, d_uh, dz, dc_hat_to, dh_hat_to,
                rows, at, live, later, last, first + tl.arange(0, S_UNITS), B,
                H, S, Z, NORM, ROWS, S_UNITS, DEPTH, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()
        if NORM:
            for first in range(0, ROWS, S_SOME):
                some_s = start + first + tl.arange(0, S_SOME)
                norms_back(
                    dh_hat_to, dc_hat, dc_hat_to, a, s_x_c, c_hat_before, c_hat_after, None, None,
                    s_weight, s_bias, s_c_weight, s_c_bias, s_d_gates, s_d_cell,
                    None, d_uh, None, some_s, t * B + some_s, some_s < B, S, S_WHOLE, D, 4 * H, False,
                )  # fmt: skip
            tl.debug_barrier()
        dc, dc_hat = dc_to, dc_hat_to
        t -= 1
