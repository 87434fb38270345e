// Computes the residuals that the forward pass did not save, for all rows of a chunk at once, since its states are
// known.
#pragma once

#include "jobs.h"
#include "memory.h"
#include "phases.h"

namespace hyperlstm {

// Writes u and the hyper LSTM's gates of N rows, from x and from h and h_hat before the step, [N, *] each.
template <class T, class A = Acc<T>>
void recompute(const Panels<T>& p, int64_t N, const T* x, const T* h, const T* h_hat, Residuals<T> to) {
  const auto run = [&](int64_t begin, int64_t end) {
    const int64_t I = p.size.I, H = p.size.H, S = p.size.S, rows = end - begin;
    Scratch scratch;
    const auto wide = [&](const T* all, int64_t F) {
      return widened(all + begin * F, rows * F, std::is_same_v<T, A> ? nullptr : scratch.empty<A>(rows * F));
    };
    const A *const wide_x = wide(x, I), *const wide_h = wide(h, H), *const wide_h_hat = wide(h_hat, S);
    A* const tile = scratch.empty<A>(kRowBlock * kPanel<A>);
    const Range main_panels{0, panel_count<A>(H, true)}, hyper_panels{0, panel_count<A>(S, true)};
    write_products(p.weight_h, main_panels, H, H, rows, wide_h, to.u(begin), to.stride, tile);
    for_tiles(hyper_panels, rows, [&](int64_t panel, int64_t r, int64_t n) {
      start_hyper_gates(p, panel, n, wide_x + r * I, tile);
      add_to_hyper_gates(p, panel, n, wide_h + r * H, wide_h_hat + r * S, tile);
      write_gates(tile, n, S, panel * kLanes<A>, to.a(begin + r), to.stride);
    });
  };
  const auto [H, S, Z, I] = p.size;
  const int64_t cost = 4 * H * H + 4 * S * (I + H + S);
  run_jobs({{N, cost, run, 2 * kTileRows}}, kMinCostPerThread);
}

}  // namespace hyperlstm
