"""All steps forward in one launch.

Programs form groups. A group owns ROWS rows of the batch through all steps; its members share out the units, and wait
for one another where a phase needs what others wrote. A step is two phases, with layer norm four:

    products    [u, a] = h_{t-1} [weight_h, hyper_weight_h], and h_hat_{t-1} hyper_weight_s added to a
    gates       the hyper cell of a tile's rows, z, the twelve d, and y; without layer norm also what follows
    cells       c_t from y, whose norm needs the moments of all tiles of a row
    outputs     h_t, likewise

Every member makes the hyper cell of its rows again: it is pointwise, and a barrier takes longer.
"""

import triton
import triton.language as tl

from .parts import (
    COUNTER,
    barrier,
    carried,
    cell,
    dot,
    factors,
    int64,
    kernel,
    load4,
    moments,
    only,
    starts,
    step_rows,
    steps_of_group,
    sync,
    tanh,
    vector,
    vector4,
)
from .phases import (
    CELL,
    MOMENTS,
    TILE,
    embed,
    forward_room,
    norm4,
    norm_part,
    norm_tile,
    numbers,
    scaled_sum,
)

#: Bytes that the rows of both LSTMs' weights start at multiples of, whichever a tile's columns are.
ROW = tl.constexpr(16)


@triton.jit
def sums(
    h, h_hat, w_h, hyper_w_h, w_s, uh, rows, live, at, column0,
    H: tl.constexpr, S: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, EXTRA: tl.constexpr,
    DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write COLUMNS, and EXTRA behind them, of [u, a], [*, 4H + 4S], at rows `at`; one pass over h for both."""
    D: tl.constexpr = 4 * H + 4 * S
    columns = column0 + tl.arange(0, COLUMNS)
    acc = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    of_s = only(column0 + COLUMNS + EXTRA > 4 * H, S)  # products with h_hat are a's alone
    if EXTRA > 0:
        more = column0 + COLUMNS + tl.arange(0, EXTRA)
        rest = tl.zeros((ROWS, EXTRA), dtype=tl.float32)
    for k0 in range(0, H, DEPTH):
        k = k0 + tl.arange(0, DEPTH)
        x = tl.load(starts(h, rows, H)[:, None] + k[None, :], mask=live[:, None] & (k < H)[None, :], other=0.0)
        acc = dot(x, weights(w_h, hyper_w_h, columns, k, H, S), acc, PRECISION)
        if EXTRA > 0:
            rest = dot(x, weights(w_h, hyper_w_h, more, k, H, S), rest, PRECISION)
    for k0 in range(0, of_s, DEPTH):
        k = k0 + tl.arange(0, DEPTH)
        x = tl.load(starts(h_hat, rows, S)[:, None] + k[None, :], mask=live[:, None] & (k < S)[None, :], other=0.0)
        acc = dot(x, hyper_weights(w_s, columns, k, H, S), acc, PRECISION)
        if EXTRA > 0:
            rest = dot(x, hyper_weights(w_s, more, k, H, S), rest, PRECISION)
    to = starts(uh, at, D)[:, None]
    tl.store(to + columns[None, :], acc, mask=live[:, None] & (columns < D)[None, :])
    if EXTRA > 0:
        tl.store(to + more[None, :], rest, mask=live[:, None] & (more < D)[None, :])


@triton.jit
def weights(w_h, hyper_w_h, columns, k, H: tl.constexpr, S: tl.constexpr):
    """Numbers k of some rows of both LSTMs' weights for h, transposed: [k, columns]."""
    hyper = columns - 4 * H
    w = tl.where(hyper < 0, starts(w_h, columns, H), starts(hyper_w_h, hyper, H))
    inside = (k < H)[:, None] & (hyper < 4 * S)[None, :]
    return tl.load(tl.multiple_of(w, ROW)[None, :] + k[:, None], mask=inside, other=0.0)


@triton.jit
def hyper_weights(w_s, columns, k, H: tl.constexpr, S: tl.constexpr):
    """The same of hyper_weight_s; zeros for columns of u."""
    hyper = columns - 4 * H
    inside = (k < S)[:, None] & ((hyper >= 0) & (hyper < 4 * S))[None, :]
    return tl.load(starts(w_s, hyper, S)[None, :] + k[:, None], mask=inside, other=0.0)


@triton.jit
def hyper_cells(
    uh, vx, bias, first_c_hat, c_hat, last_c_hat, h_hat, h_hat_run, h_hat_to, c_hat_to,
    weight, n_bias, c_weight, c_bias, t, first, u_first, token, alive, owner,
    H: tl.constexpr, S: tl.constexpr, SN: tl.constexpr, NORM: tl.constexpr, SOME: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Write h_hat_t of 16 rows from `first` to this program's own h_hat [16, S], and their cells in place.

    Of the programs with these rows the owner also writes what later steps, and the backward pass, read.
    """
    units = tl.arange(0, WHOLE)
    known = units < S
    D: tl.constexpr = 4 * H + 4 * S
    for sub in range(0, TILE, SOME):
        local = sub + tl.arange(0, SOME)
        rows = first + local
        live = rows < alive
        inside = live[:, None] & known[None, :]
        i, f, g, o = load4(starts(uh, u_first + rows, D)[:, None] + 4 * H + units[None, :], inside, S)
        x_i, x_f, x_g, x_o = load4(starts(vx, token + rows, D)[:, None] + 4 * H + units[None, :], inside, S)
        b_i, b_f, b_g, b_o = vector4(bias, units, known, S)
        i, f, g, o = i + x_i + b_i, f + x_f + b_f, g + x_g + b_g, o + x_o + b_o
        real = live[:, None] & (units < SN)[None, :]
        c = carried(first_c_hat, c_hat, rows, t, units, inside, S)
        if NORM:
            w_c, b_c = vector(c_weight, units, known), vector(c_bias, units, known)
            i, f, g, o = norm4(i, f, g, o, real, units, known, weight, n_bias, S, SN)
        c = cell(i, f, g, c, None)
        barrier()  # no thread overwrites what another has still to read
        tl.store(starts(c_hat, rows, S)[:, None] + units[None, :], c, mask=inside)
        shown = c
        if NORM:
            shown = norm_tile(c, real, w_c, b_c, SN)
        h = tl.sigmoid(o) * tanh(shown)
        tl.store(starts(h_hat, local, S)[:, None] + units[None, :], h, mask=inside)
        own = (rows < only(owner, alive))[:, None] & known[None, :]
        tl.store(starts(h_hat_run, rows, S)[:, None] + units[None, :], h, mask=own)
        tl.store(starts(last_c_hat, rows, S)[:, None] + units[None, :], c, mask=own)
        if h_hat_to is not None:
            tl.store(starts(h_hat_to, token + rows, S)[:, None] + units[None, :], h, mask=own)
            tl.store(starts(c_hat_to, token + rows, S)[:, None] + units[None, :], c, mask=own)


@triton.jit
def gates(
    uh, vx, z, w_d, bias, y, parts, rows, live, u_rows, at, unit0, B,
    H: tl.constexpr, HN: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, NORM: tl.constexpr,
    UNITS: tl.constexpr, GATES: tl.constexpr, ZS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write y [B, 4H] of a tile, and with NORM the moments of its rows to parts."""
    for gate0 in range(0, 4, GATES):
        k, inside, _d_h, _d_x, value = scaled_sum(
            uh, vx, z, u_rows, at, live, w_d, bias, gate0, unit0, H, S, Z, GATES, UNITS, ZS, PRECISION
        )
        tl.store(starts(y, rows, 4 * H)[:, None] + k, value, mask=inside)
    if NORM:
        barrier()
        units = unit0 + tl.arange(0, UNITS)
        real = live[:, None] & (units < HN)[None, :]
        n, to = tl.minimum(HN - unit0, UNITS), parts + ((unit0 // UNITS) * B + rows) * MOMENTS
        i, f, g, o = load4(starts(y, rows, 4 * H)[:, None] + units[None, :], real, H)
        write_moments(to, i, real, live, n)
        write_moments(to + 2, f, real, live, n)
        write_moments(to + 4, g, real, live, n)
        write_moments(to + 6, o, real, live, n)


@triton.jit
def write_moments(to, y, real, live, n):
    """Write mean and M2 of the n numbers of each row of a tile."""
    mean, m2 = moments(y, real, n)
    tl.store(to, mean, mask=live)
    tl.store(to + 1, m2, mask=live)


@triton.jit
def cells(
    y, first_c, c_run, last_c, kept, scale, h_run, h_to, c_to, parts, weight, n_bias, t, rows, live, at, unit0, B,
    H: tl.constexpr, HN: tl.constexpr, NORM: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Write c_t of a tile from y; and h_t, or with NORM the output gate into y and the moments of c to parts."""
    units = unit0 + tl.arange(0, UNITS)
    known = units < H
    inside = live[:, None] & known[None, :]
    at_y = starts(y, rows, 4 * H)[:, None] + units[None, :]
    i, f, g, o = load4(at_y, inside, H)
    if NORM:
        i = norm_part(i, parts, rows, live, B, weight, n_bias, units, known, HN, UNITS, MOMENTS)
        f = norm_part(f, parts + 2, rows, live, B, weight + H, n_bias + H, units, known, HN, UNITS, MOMENTS)
        g = norm_part(g, parts + 4, rows, live, B, weight + 2 * H, n_bias + 2 * H, units, known, HN, UNITS, MOMENTS)
        o = norm_part(o, parts + 6, rows, live, B, weight + 3 * H, n_bias + 3 * H, units, known, HN, UNITS, MOMENTS)
    c = carried(first_c, c_run, rows, t, units, inside, H)
    m = factors(kept, scale, at, units, inside, H) if kept is not None else None
    c = cell(i, f, g, c, m)
    barrier()
    tl.store(starts(c_run, rows, H)[:, None] + units[None, :], c, mask=inside)
    tl.store(starts(last_c, rows, H)[:, None] + units[None, :], c, mask=inside)
    if c_to is not None:
        tl.store(starts(c_to, at, H)[:, None] + units[None, :], c, mask=inside)
    if NORM:
        tl.store(at_y + 3 * H, o, mask=inside)
        real = live[:, None] & (units < HN)[None, :]
        to = parts + ((unit0 // UNITS) * B + rows) * MOMENTS + CELL
        write_moments(to, c, real, live, tl.minimum(HN - unit0, UNITS))
    else:
        write_h(h_run, h_to, tl.sigmoid(o) * tanh(c), rows, at, units, inside, H)


@triton.jit
def outputs(
    y, c_run, h_run, h_to, parts, weight, bias, rows, live, at, unit0, B,
    H: tl.constexpr, HN: tl.constexpr, UNITS: tl.constexpr,
):  # fmt: skip
    """Write h_t of a tile from its output gate, the cell, and the moments of the cell."""
    units = unit0 + tl.arange(0, UNITS)
    known = units < H
    inside = live[:, None] & known[None, :]
    c = tl.load(starts(c_run, rows, H)[:, None] + units[None, :], mask=inside, other=0.0)
    o = tl.load(starts(y, rows, 4 * H)[:, None] + 3 * H + units[None, :], mask=inside, other=0.0)
    c = norm_part(c, parts + CELL, rows, live, B, weight, bias, units, known, HN, UNITS, MOMENTS)
    write_h(h_run, h_to, tl.sigmoid(o) * tanh(c), rows, at, units, inside, H)


@triton.jit
def write_h(h_run, h_to, h, rows, at, units, inside, H: tl.constexpr):
    """Write h_t where the next step reads it, and to the output."""
    tl.store(starts(h_run, rows, H)[:, None] + units[None, :], h, mask=inside)
    tl.store(starts(h_to, at, H)[:, None] + units[None, :], h, mask=inside)


@kernel
def forward_steps(
    vx, first_h, first_c, first_h_hat, first_c_hat, h, last_c, h_hat, last_c_hat,
    weight_h, hyper_weight_h, hyper_weight_s, z_weight, z_bias, d_weight, bias, hyper_bias,
    norm_weight, norm_bias, norm_c_weight, norm_c_bias,
    hyper_norm_weight, hyper_norm_bias, hyper_norm_c_weight, hyper_norm_c_bias, kept, scale, firsts,
    uh, h_to, c_to, h_hat_to, c_hat_to, room, T, B, members,
    H: tl.constexpr, HN: tl.constexpr, S: tl.constexpr, SN: tl.constexpr, Z: tl.constexpr, NORM: tl.constexpr,
    KEPT: tl.constexpr, ALONE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, EXTRA: tl.constexpr,
    DEPTH: tl.constexpr, UNITS: tl.constexpr, SHARES: tl.constexpr, GATES: tl.constexpr, ZS: tl.constexpr,
    SPAN: tl.constexpr, SOME: tl.constexpr, WHOLE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write out and the states of T steps from the products with x, [N, 4H + 4S].

    The first step reads the states [B, *] before it; the last ones are written at every step, and in the end are each
    row's own. kept [N, H] and scale are of g's mask. Of packed sequences, firsts has the first token of each
    step and the number of all, [T + 1], then the steps of each row, [B]. None without. uh: [u, a] of every token if
    KEPT, else of one step. Room: the counters, which are 0, then the arrays of `scratch.forward_room`: the cells
    c [B, H] and c_hat [SHARES, B, S], y [B, 4H], own_h_hat [16, S] and own_z [16, 12Z] of each program, and parts
    [tiles, B, MOMENTS]. HN, SN: H and S without what pads them.
    """
    program = tl.program_id(0)
    group, member = program // members, program % members
    start = group * ROWS
    D: tl.constexpr = 4 * H + 4 * S
    ROOM: tl.constexpr = forward_room(H, S, Z, NORM, UNITS, SHARES)
    OWN: tl.constexpr = numbers(ROOM, "own")
    groups = (B + ROWS - 1) // ROWS
    c = room.to(tl.pointer_type(tl.float32)) + groups * COUNTER
    c_hat = c + int64(B) * numbers(ROOM, "c")
    y = c_hat + int64(B) * numbers(ROOM, "c_hat")
    own = y + int64(B) * numbers(ROOM, "y")
    parts = own + int64(groups * members) * OWN
    own_h_hat = (own + int64(program) * OWN).to(tl.pointer_type(weight_h.dtype.element_ty))
    own_z = own_h_hat + TILE * S
    counter = room + group * COUNTER
    WIDTH: tl.constexpr = COLUMNS + EXTRA
    TILES: tl.constexpr = (D + WIDTH - 1) // WIDTH
    ACROSS: tl.constexpr = (H + UNITS - 1) // UNITS  # tiles of units, of which a share has so many
    SHARE: tl.constexpr = (ACROSS + SHARES - 1) // SHARES
    local = tl.arange(0, TILE)
    steps, turn = steps_of_group(firsts, T, start), 0
    for t in tl.range(0, steps, num_stages=1, disable_licm=True):
        token, alive = step_rows(firsts, t, B)
        rows = start + tl.arange(0, ROWS)
        live = rows < alive
        rows = rows.to(tl.int64)
        u_first = token if KEPT else token * 0
        h_before, h_hat_before = tl.where(t > 0, h, first_h), tl.where(t > 0, h_hat, first_h_hat)
        for tile in range(member, TILES, members):
            sums(
                h_before, h_hat_before, weight_h, hyper_weight_h, hyper_weight_s, uh, rows, live, u_first + rows,
                tile * WIDTH, H, S, ROWS, COLUMNS, EXTRA, DEPTH, PRECISION,
            )  # fmt: skip
        turn = sync(counter, members, turn, ALONE)
        for job in range(member, (ROWS // TILE) * SHARES, members):
            share, first = job % SHARES, start + (job // SHARES) * TILE
            hyper_cells(
                uh, vx, hyper_bias, first_c_hat, c_hat + int64(share) * B * S, last_c_hat, own_h_hat,
                h_hat, h_hat_to, c_hat_to,
                hyper_norm_weight, hyper_norm_bias, hyper_norm_c_weight, hyper_norm_c_bias,
                t, first, u_first, token, alive, share == 0, H, S, SN, NORM, SOME, WHOLE,
            )  # fmt: skip
            barrier()
            some = int64(first) + local
            going = some < alive
            own_rows = starts(own_z, local, 12 * Z)
            embed(starts(own_h_hat, local, S), going, z_weight, z_bias, own_rows, S, Z, SPAN, DEPTH, PRECISION)
            barrier()
            tile0, tiles = share * SHARE, tl.minimum((share + 1) * SHARE, ACROSS)
            for tile in tl.range(tile0, tiles, num_stages=1):  # whose z waits anyway
                gates(
                    uh, vx, own_rows, d_weight, bias, y, parts, some, going, u_first + some, token + some,
                    tile * UNITS, B, H, HN, S, Z, NORM, UNITS, GATES, ZS, PRECISION,
                )  # fmt: skip
            if not NORM:
                barrier()
                for tile in range(tile0, tiles):
                    cells(
                        y, first_c, c, last_c, kept, scale, h, h_to, c_to, None, None, None, t, some, going,
                        token + some, tile * UNITS, B, H, HN, NORM, UNITS,
                    )  # fmt: skip
        if NORM:
            turn = sync(counter, members, turn, ALONE)
            for job in range(member, (ROWS // TILE) * ACROSS, members):
                some = int64(start + (job // ACROSS) * TILE) + local
                cells(
                    y, first_c, c, last_c, kept, scale, h, h_to, c_to, parts, norm_weight, norm_bias, t, some,
                    some < alive, token + some, (job % ACROSS) * UNITS, B, H, HN, NORM, UNITS,
                )  # fmt: skip
            turn = sync(counter, members, turn, ALONE)
            for job in range(member, (ROWS // TILE) * ACROSS, members):
                some = int64(start + (job // ACROSS) * TILE) + local
                outputs(
                    y, c, h, h_to, parts, norm_c_weight, norm_c_bias, some, some < alive, token + some,
                    (job % ACROSS) * UNITS, B, H, HN, UNITS,
                )  # fmt: skip
        turn = sync(counter, members, turn, ALONE)
