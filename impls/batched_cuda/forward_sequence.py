"""All steps forward in one launch, for sizes at which a step's work takes less time than its launches.

Rows of the batch need nothing of one another, so a program owns some of them with all their units, and goes over the
steps alone. What it writes in one part of a step it reads in the next, by other threads: a barrier stands between, and
no load of a later part may be started before it, so the loop over steps is not pipelined.
"""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

import triton.language as tl

from .forward_kernels import embed_tile, finish_rows, hyper_tile, main_tile
from .parts import kernel


@kernel
def forward_sequence(
    vx, h, c, h_hat, c_hat, w_h, hyper_w_h, w_s, w_z, b_z, w_d, bias, hyper_bias, kept, scale, z, y, a,
    n_weight, n_bias, n_c_weight, n_c_bias, s_weight, s_bias, s_c_weight, s_c_bias,
    h_to, c_to, h_hat_to, c_hat_to, K, B,
    H: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, ZS: tl.constexpr, EMBED: tl.constexpr, NORM: tl.constexpr,
    ROWS: tl.constexpr, UNITS: tl.constexpr, S_UNITS: tl.constexpr, WHOLE: tl.constexpr, S_WHOLE: tl.constexpr,
    DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write h, c, h_hat and c_hat of K steps of some rows, from products with x [K, B, 4H + 4S] and the state before.

    kept [K, B, H] and scale are of g's mask; None without one.
    Room between parts of a step: z [B, 12Z] unless EMBED; y [B, 4H] and a [B, 4S] if NORM is "later", not "no".
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = rows < B
    at, at_prev = rows, rows
    for _ in tl.range(0, K, num_stages=1):
        for first in range(0, S, S_UNITS):
            hyper_tile(
                vx, h, h_hat, c_hat, hyper_w_h, w_s, hyper_bias, h_hat_to, c_hat_to, a, None, None, None, None,
                rows, at, at_prev, live, first + tl.arange(0, S_UNITS), H, S, NORM, ROWS, S_UNITS, DEPTH, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()
        if NORM == "later":
            finish_rows(
                a, c_hat, None, None, h_hat_to, c_hat_to, rows, at, at_prev, live,
                s_weight, s_bias, s_c_weight, s_c_bias, S, S_WHOLE,
            )  # fmt: skip
            tl.debug_barrier()
        if not EMBED:
            for first in range(0, 12 * Z, S_UNITS):
                embed_tile(
                    h_hat_to, w_z, b_z, z, rows, at, live, first + tl.arange(0, S_UNITS),
                    S, 12 * Z, ROWS, S_UNITS, DEPTH, PRECISION,
                )  # fmt: skip
            tl.debug_barrier()
        for first in range(0, H, UNITS):
            main_tile(
                vx, h, c, h_hat_to, z, w_h, w_z, b_z, w_d, bias, kept, scale, h_to, c_to, y, None, None, None, None,
                rows, at, at_prev, live, first + tl.arange(0, UNITS),
                H, S, Z, ZS, EMBED, NORM, ROWS, UNITS, DEPTH, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()
        if NORM == "later":
            finish_rows(
                y, c, kept, scale, h_to, c_to, rows, at, at_prev, live,
                n_weight, n_bias, n_c_weight, n_c_bias, H, WHOLE,
            )  # fmt: skip
            tl.debug_barrier()
        h, c, h_hat, c_hat = h_to, c_to, h_hat_to, c_hat_to
        at_prev = at
        at += B
