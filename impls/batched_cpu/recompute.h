// What the forward sweep does not keep, for a chunk of steps whose states are all known: products of all its rows.
#pragma once

#include "memory.h"
#include "phases.h"
#include "threads.h"

namespace hyperlstm {

// to [N, 4H + 4S]: u = weight_h h, then the hyper LSTM's gates before their norm; of x, and of h and h_hat before the
// step, [N, *] each.
template <class T, class A = Acc<T>>
void recompute(const Packed<A>& p, const Sizes& size, int64_t N, const T* x, const T* h, const T* h_hat, T* to) {
  for_row_shares(N, [&](int64_t begin, int64_t end) {
    constexpr int64_t P = kPanel<A>, V = kLanes<A>;
    const auto [H, S, Z, I] = size;
    const int64_t stride = 4 * H + 4 * S;
    Scratch scratch;
    A* const tile = scratch.empty<A>(kRowBlock * P);
    const int64_t rows = end - begin;
    const auto share_of = [&](const T* all, int64_t F) {
      return widened(all + begin * F, rows * F, std::is_same_v<T, A> ? nullptr : scratch.empty<A>(rows * F));
    };
    const A *const wide_x = share_of(x, I), *const wide_h = share_of(h, H), *const wide_h_hat = share_of(h_hat, S);
    T* const share = to + begin * stride;
    // All rows before the next panel, which is read from memory once.
    for (int64_t panel = 0; panel < panels<A>(H, true); ++panel) {
      for (int64_t r = 0; r < rows; r += kRowBlock) {
        const int64_t n = std::min(kRowBlock, rows - r);
        std::fill_n(tile, n * P, A(0));
        multiply(n, Left<A>{wide_h + r * H, H}, p.weight_h + panel * H * P, H, tile);
        write_gates(tile, n, H, panel * V, share + r * stride, stride);
      }
    }
    for (int64_t panel = 0; panel < panels<A>(S, true); ++panel) {
      for (int64_t r = 0; r < rows; r += kRowBlock) {
        const int64_t n = std::min(kRowBlock, rows - r);
        hyper_gates(p, size, panel, n, wide_x + r * I, wide_h + r * H, wide_h_hat + r * S, tile);
        write_gates(tile, n, S, panel * V, share + r * stride + 4 * H, stride);
      }
    }
  });
}

}  // namespace hyperlstm
