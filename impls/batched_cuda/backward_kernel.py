"""All steps of a chunk backward in one launch, and before it one over all tokens of the chunk at once.

`rebuild` makes z, and leaves d_h where du will be, d_x where dv will and y where dy will; with layer norm also the
moments of y and c. `backward_steps` then goes back over the steps in the groups of `forward_steps`. A step is:

    cells       the gradients of the gates from dh and dc; with layer norm two more barriers, for sums over rows
    scaled      dy; in place dv and du; dy u and dy v; and the tile's part of dh_hat
    hyper       da from dh_hat, by whole rows
    products    the parts of dh = du weight_h + da hyper_weight_h and of dh_hat = da hyper_weight_s, one of each gate:
                sums of four parts in a fixed order
"""

import triton
import triton.language as tl

from .backward_cells import cell_norm_sums, cells_back, hyper_back, norms_back, whole_row
from .parts import COUNTER, barrier, dot, int64, kernel, only, product, starts, step_rows, steps_of_group, sync
from .phases import CELL, MOMENTS, NORMS, TILE, backward_room, backward_state, embed, numbers, scaled_sum


@kernel
def rebuild(
    h_hat, uh, vx, c, z_weight, z_bias, d_weight, bias, z, d_uh, d_vx, dd, stats, lead, N,
    H: tl.constexpr, HN: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, NORM: tl.constexpr,
    DEPTH: tl.constexpr, UNITS: tl.constexpr, GATES: tl.constexpr, ZS: tl.constexpr, SPAN: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Write z [N, 12Z], d_h to d_uh, d_x to d_vx [N, 4H + 4S] and y to the last third of dd [N, 12H].

    With NORM also mean and 1 / std of the four gates and of the cell to stats [N, MOMENTS]. h_hat, c: of the steps'
    ends, after `lead` rows.
    """
    h_hat += int64(lead) * S
    rows = int64(tl.program_id(0)) * TILE + tl.arange(0, TILE)
    live = rows < N
    D: tl.constexpr = 4 * H + 4 * S
    of_z = starts(z, rows, 12 * Z)
    embed(starts(h_hat, rows, S), live, z_weight, z_bias, of_z, S, Z, SPAN, DEPTH, PRECISION)
    barrier()
    for unit0 in range(0, H, UNITS):
        for gate0 in range(0, 4, GATES):
            k, inside, d_h, d_x, y = scaled_sum(
                uh, vx, of_z, rows, rows, live, d_weight, bias, gate0, unit0, H, S, Z, GATES, UNITS, ZS, PRECISION
            )
            tl.store(starts(d_uh, rows, D)[:, None] + k, d_h, mask=inside)
            tl.store(starts(d_vx, rows, D)[:, None] + k, d_x, mask=inside)
            tl.store(starts(dd, rows, 12 * H)[:, None] + 8 * H + k, y, mask=inside)
    if NORM:
        barrier()
        c += int64(lead) * H
        for gate in range(4):
            whole_row(starts(dd, rows, 12 * H) + 8 * H + gate * H, stats + rows * MOMENTS + 2 * gate, live, HN, UNITS)
        whole_row(starts(c, rows, H), stats + rows * MOMENTS + CELL, live, HN, UNITS)


@triton.jit
def scaled(
    dys, uh, vx, d_uh, d_vx, dd, w_d, own_z, rows, at, live, tile0, tiles,
    H: tl.constexpr, HN: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, UNITS: tl.constexpr, GATES: tl.constexpr,
    ZN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write du, dv and [dy u, dy v, dy] of some tiles in the place of d_h, d_x and y; and their part of dz.

    own_z points to the starts of rows of 12Z. d_h and d_x are read before anything is written in their place.
    """
    column = tl.arange(0, GATES * UNITS)
    D: tl.constexpr = 4 * H + 4 * S
    e = tl.arange(0, ZN)
    for gate0 in range(0, 4, GATES):
        gate = gate0 + column // UNITS
        z_h = tl.zeros((TILE, ZN), dtype=tl.float32)
        z_x = tl.zeros((TILE, ZN), dtype=tl.float32)
        z_b = tl.zeros((TILE, ZN), dtype=tl.float32)
        for tile in range(tile0, tiles):
            unit = tile * UNITS + column % UNITS
            inside = live[:, None] & (unit < HN)[None, :]
            k = (gate * H + unit)[None, :]
            d = tl.load(starts(dys, rows, 4 * H)[:, None] + k, mask=inside, other=0.0)
            at_u, at_v = starts(d_uh, at, D)[:, None] + k, starts(d_vx, at, D)[:, None] + k
            to = starts(dd, at, 12 * H)[:, None] + k
            d_h = tl.load(at_u, mask=inside, other=0.0).to(tl.float32)
            d_x = tl.load(at_v, mask=inside, other=0.0).to(tl.float32)
            u = tl.load(starts(uh, at, D)[:, None] + k, mask=inside, other=0.0)
            v = tl.load(starts(vx, at, D)[:, None] + k, mask=inside, other=0.0)
            kind = w_d.dtype.element_ty
            d_u, d_v, d_b = (d * u).to(kind), (d * v).to(kind), d.to(kind)
            full = live[:, None] & (unit < H)[None, :]  # what pads the units becomes 0
            w_h = turned(w_d, 0, gate, unit, gate0, e, H, HN, Z, GATES)
            w_x = turned(w_d, 4, gate, unit, gate0, e, H, HN, Z, GATES)
            w_b = turned(w_d, 8, gate, unit, gate0, e, H, HN, Z, GATES)
            barrier()
            tl.store(at_u, d * d_h, mask=full)
            tl.store(at_v, d * d_x, mask=full)
            tl.store(to, d_u, mask=full)
            tl.store(to + 4 * H, d_v, mask=full)
            tl.store(to + 8 * H, d_b, mask=full)
            z_h = dot(d_u, w_h, z_h, PRECISION)
            z_x = dot(d_v, w_x, z_x, PRECISION)
            z_b = dot(d_b, w_b, z_b, PRECISION)
        mask = live[:, None] & (e < GATES * Z)[None, :]
        z = own_z[:, None] + gate0 * Z + e[None, :]
        tl.store(z, z_h, mask=mask)
        tl.store(z + 4 * Z, z_x, mask=mask)
        tl.store(z + 8 * Z, z_b, mask=mask)


@triton.jit
def turned(w_d, source, gate, unit, gate0, e, H: tl.constexpr, HN: tl.constexpr, Z: tl.constexpr, GATES: tl.constexpr):
    """d_weight of a source, gates side by side: [gates and units, gates and z], 0 between different gates."""
    own = e[None, :] - (gate - gate0)[:, None] * Z
    inside = (own >= 0) & (own < Z) & (unit < HN)[:, None]
    return tl.load(starts(w_d, (source + gate) * H + unit, Z)[:, None] + own, mask=inside, other=0.0)


@triton.jit
def embedding_back(
    own_z, live, w_z, hat_parts, rows, S: tl.constexpr, Z: tl.constexpr, SPAN: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Write a part of dh_hat [B, S] from a part of dz; own_z points to the starts of rows of 12Z."""
    for first in range(0, S, SPAN):
        units = first + tl.arange(0, SPAN)
        known = units < S
        acc = tl.zeros((TILE, SPAN), dtype=tl.float32)
        acc = product(acc, own_z, live, w_z, units, known, 12 * Z, S, False, DEPTH, PRECISION)
        tl.store(starts(hat_parts, rows, S)[:, None] + units[None, :], acc, mask=live[:, None] & known[None, :])


@triton.jit
def products_back(
    d_uh, w_h, hyper_w_h, w_s, parts, rows, at, live, job, B,
    H: tl.constexpr, S: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Write one gate's part of dh or dh_hat, some columns of parts [4, B, H + S]."""
    D: tl.constexpr = 4 * H + 4 * S
    OF_S: tl.constexpr = (S + COLUMNS - 1) // COLUMNS  # the tiles of dh_hat come first, being the shortest
    gate, tile = job % 4, job // 4
    column = tl.arange(0, COLUMNS)
    acc = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    d = starts(d_uh, at, D)
    d_s = d + 4 * H + gate * S
    to = starts(parts, gate * B + rows, H + S)[:, None]
    if tile < OF_S:
        units = tile * COLUMNS + column
        known = units < S
        acc = product(acc, d_s, live, w_s + gate * S * S, units, known, S, S, False, DEPTH, PRECISION)
        tl.store(to + H + units[None, :], acc, mask=live[:, None] & known[None, :])
    else:
        units = (tile - OF_S) * COLUMNS + column
        known = units < H
        acc = product(acc, d + gate * H, live, w_h + gate * H * H, units, known, H, H, False, DEPTH, PRECISION)
        acc = product(acc, d_s, live, hyper_w_h + gate * S * H, units, known, S, H, False, DEPTH, PRECISION)
        tl.store(to + units[None, :], acc, mask=live[:, None] & known[None, :])


@kernel
def backward_steps(
    c, c_hat, uh, vx, d_out, weight_h, hyper_weight_h, hyper_weight_s, z_weight, d_weight, hyper_bias,
    norm_weight, norm_bias, norm_c_weight, norm_c_bias,
    hyper_norm_weight, hyper_norm_bias, hyper_norm_c_weight, hyper_norm_c_bias, kept, scale, firsts,
    d_uh, d_vx, dd, stats, state, room, lead, K, B, members,
    H: tl.constexpr, HN: tl.constexpr, S: tl.constexpr, SN: tl.constexpr, Z: tl.constexpr, NORM: tl.constexpr,
    ALONE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, UNITS: tl.constexpr,
    SHARES: tl.constexpr, GATES: tl.constexpr, ZN: tl.constexpr, SPAN: tl.constexpr, SOME: tl.constexpr,
    WHOLE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write du and da, dv and da, [dy u, dy v, dy] of K steps.

    Cells c, c_hat [N, *] after each step, behind the `lead` rows of those before the first; uh, vx, d_out of these
    steps; d_uh, d_vx, dd and stats as `rebuild` left them; firsts as in `forward_steps`. State has the arrays of
    `scratch.backward_state`: parts [4, B, H + S] holds the gradient of the last states h and h_hat, and in the end that
    of the first, as the sum of its four; dc and dc_hat [B, *] are likewise. With NORM, totals [*, NORMS (H + S)] grow
    by the gradients of the norms: of gates' weights and biases, then the cell's; the main LSTM's by tiles of 16 rows,
    the hyper LSTM's by jobs of SOME. Room: the counters, which are 0, then the arrays of `scratch.backward_room`: dys
    [B, 4H], hat_parts [SHARES, B, S], own_z [16, 12Z] of each program, and row_sums [tiles, B, MOMENTS].
    """
    program = tl.program_id(0)
    group, member = program // members, program % members
    start = group * ROWS
    ACROSS: tl.constexpr = (H + UNITS - 1) // UNITS
    SHARE: tl.constexpr = (ACROSS + SHARES - 1) // SHARES
    JOBS: tl.constexpr = 4 * ((S + COLUMNS - 1) // COLUMNS + (H + COLUMNS - 1) // COLUMNS)
    local = tl.arange(0, TILE)
    STATE: tl.constexpr = backward_state(H, S, NORM)
    TOTALS: tl.constexpr = numbers(STATE, "totals")
    parts = state
    dc = parts + int64(4 * B) * numbers(STATE, "parts")
    dc_hat = dc + int64(B) * numbers(STATE, "dc")
    totals = dc_hat + int64(B) * numbers(STATE, "dc_hat")
    groups = (B + ROWS - 1) // ROWS
    ROOM: tl.constexpr = backward_room(H, S, Z, NORM, UNITS, SHARES)
    OWN: tl.constexpr = numbers(ROOM, "own")
    dys = room.to(tl.pointer_type(tl.float32)) + groups * COUNTER
    hat_parts = dys + int64(B) * numbers(ROOM, "dys")
    own = hat_parts + int64(B) * numbers(ROOM, "hat_parts")
    row_sums = own + int64(groups * members) * OWN
    own_z = (own + int64(program) * OWN).to(tl.pointer_type(weight_h.dtype.element_ty))
    own_rows = starts(own_z, local, 12 * Z)
    counter = room + group * COUNTER
    steps, turn = steps_of_group(firsts, K, start), 0
    for back in tl.range(0, steps, num_stages=1, disable_licm=True):
        t = steps - 1 - back
        token, alive = step_rows(firsts, t, B)
        before, _ = step_rows(firsts, t - only(t > 0, 1), B)
        before += only(t > 0, lead)
        c_t, c_before = c + int64(lead) * H, c + before * H
        if NORM:
            for job in range(member, (ROWS // TILE) * ACROSS, members):
                some = int64(start + (job // ACROSS) * TILE) + local
                cell_norm_sums(
                    parts, d_out, dd, stats, c_t, row_sums, norm_weight, norm_bias, norm_c_weight, norm_c_bias,
                    some, token + some, some < alive, (job % ACROSS) * UNITS, B, H, HN, S, UNITS,
                )  # fmt: skip
            turn = sync(counter, members, turn, ALONE)
            for job in range(member, (ROWS // TILE) * ACROSS, members):
                tile = start // TILE + job // ACROSS
                some = int64(tile * TILE) + local
                cells_back(
                    parts, d_out, dd, stats, c_t, c_before, kept, scale, dc, dys, row_sums,
                    totals + int64(tile) * TOTALS, norm_weight, norm_bias, norm_c_weight, norm_c_bias,
                    some, token + some, some < alive, (job % ACROSS) * UNITS, B, H, HN, S, NORM, UNITS,
                )  # fmt: skip
            turn = sync(counter, members, turn, ALONE)
        for job in range(member, (ROWS // TILE) * SHARES, members):
            share = job % SHARES
            some = int64(start + (job // SHARES) * TILE) + local
            at, live = token + some, some < alive
            tile0, tiles = share * SHARE, tl.minimum((share + 1) * SHARE, ACROSS)
            if NORM:
                norms_back(dd, stats, dys, row_sums, some, at, live, tile0, tiles, B, H, HN, UNITS)
            else:
                for tile in range(tile0, tiles):
                    cells_back(
                        parts, d_out, dd, None, c_t, c_before, kept, scale, dc, dys, None, None,
                        None, None, None, None, some, at, live, tile * UNITS, B, H, HN, S, NORM, UNITS,
                    )  # fmt: skip
            barrier()
            scaled(
                dys, uh, vx, d_uh, d_vx, dd, d_weight, own_rows, some, at, live, tile0, tiles,
                H, HN, S, Z, UNITS, GATES, ZN, PRECISION,
            )  # fmt: skip
            barrier()
            hat = hat_parts + int64(share) * B * S
            embedding_back(own_rows, live, z_weight, hat, some, S, Z, SPAN, DEPTH, PRECISION)
            barrier()  # before the next job's dz
        turn = sync(counter, members, turn, ALONE)
        for job in range(member, ROWS // SOME, members):
            first = start + job * SOME
            hyper_back(
                parts, hat_parts, uh, vx, hyper_bias, c_hat + int64(lead) * S, c_hat + before * S, dc_hat, d_uh, d_vx,
                totals + int64(first // SOME) * TOTALS + NORMS * H if NORM else None,
                hyper_norm_weight, hyper_norm_bias, hyper_norm_c_weight, hyper_norm_c_bias,
                first, token, alive, B, H, S, SN, NORM, SHARES, SOME, WHOLE,
            )  # fmt: skip
        turn = sync(counter, members, turn, ALONE)
        rows = int64(start) + tl.arange(0, ROWS)
        for job in range(member, JOBS, members):
            products_back(
                d_uh, weight_h, hyper_weight_h, hyper_weight_s, parts, rows, token + rows, rows < alive, job, B,
                H, S, ROWS, COLUMNS, DEPTH, PRECISION,
            )  # fmt: skip
        turn = sync(counter, members, turn, ALONE)
