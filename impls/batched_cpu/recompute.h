// Computes the residuals that the forward sweep did not leave, for all rows of a chunk at once, since its states are
// known.
#pragma once

#include "jobs.h"
#include "memory.h"
#include "phases.h"

namespace hyperlstm {

// Writes u and the hyper LSTM's gates of N rows, from x and from h and h_hat before the step, [N, *] each.
template <class T, class A = Acc<T>>
void recompute(
    const Packed<A>& p, const Stored<T>& stored, const Sizes& size, int64_t N, const T* x, const T* h, const T* h_hat,
    Residuals<T> to) {
  const auto rows = [&](int64_t begin, int64_t end) {
    const int64_t H = size.H, S = size.S;  // clang below 16 cannot capture structured bindings
    Scratch scratch;
    const int64_t n = end - begin;
    const auto share_of = [&](const T* all, int64_t F) {
      return widened(all + begin * F, n * F, std::is_same_v<T, A> ? nullptr : scratch.empty<A>(n * F));
    };
    const A *const wide_x = share_of(x, size.I), *const wide_h = share_of(h, H), *const wide_h_hat = share_of(h_hat, S);
    A* const tile = scratch.empty<A>(kRowBlock * kPanel<A>);
    gate_products(p.weight_h, stored.weight_h, {0, panels<A>(H, true)}, H, H, n, wide_h, to.u(begin), to.stride, tile);
    for_tiles({0, panels<A>(S, true)}, n, [&](int64_t panel, int64_t r, int64_t some) {
      hyper_inputs(p, size, panel, some, wide_x + r * size.I, tile);
      hyper_states(p, stored.hyper_weight_h, size, panel, some, wide_h + r * H, wide_h_hat + r * S, tile);
      write_gates(tile, some, S, panel * kLanes<A>, to.a(begin + r, size), to.stride);
    });
  };
  const int64_t cost = 4 * size.H * size.H + 4 * size.S * (size.I + size.H + size.S);
  run_jobs({{N, cost, rows, 2 * kTileRows}}, kLeastOfThread);
}

}  // namespace hyperlstm
