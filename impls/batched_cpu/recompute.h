// Computes the residuals that the forward sweep did not leave, for all rows of a chunk at once, since its states are
// known.
#pragma once

#include "memory.h"
#include "phases.h"
#include "threads.h"

namespace hyperlstm {

// Calls tile(panel, first, rows, scratch) for all rows of one panel before the next, so that each panel is read once.
template <class A, class Tile>
void for_tiles(int64_t panels, int64_t rows, A* scratch, const Tile& tile) {
  for (int64_t panel = 0; panel < panels; ++panel) {
    for (int64_t r = 0; r < rows; r += kRowBlock) tile(panel, r, std::min(kRowBlock, rows - r), scratch);
  }
}

// Writes to [N, 4, H], rows `stride` apart, the products of left [N, K] with a weight, see gates.
template <class T, class A = Acc<T>>
void gate_products(
    const A* packed, const T* stored, int64_t K, int64_t H, int64_t N, const T* left, T* to, int64_t stride) {
  for_row_shares(N, [&](int64_t begin, int64_t end) {
    constexpr int64_t P = kPanel<A>;
    Scratch scratch;
    const int64_t rows = end - begin;
    const A* const wide =
        widened(left + begin * K, rows * K, std::is_same_v<T, A> ? nullptr : scratch.empty<A>(rows * K));
    for_tiles(panels<A>(H, true), rows, scratch.empty<A>(kRowBlock * P), [&](int64_t p, int64_t r, int64_t n, A* tile) {
      gates(packed, stored, p, n, wide + r * K, H, K, {tile, P, false});
      write_gates(tile, n, H, p * kLanes<A>, to + (begin + r) * stride, stride);
    });
  });
}

// Writes u and the hyper LSTM's gates of N rows, from x and from h and h_hat before the step, [N, *] each.
template <class T, class A = Acc<T>>
void recompute(
    const Packed<A>& p, const Stored<T>& stored, const Sizes& size, int64_t N, const T* x, const T* h, const T* h_hat,
    Residuals<T> to) {
  gate_products<T>(p.weight_h, stored.weight_h, size.H, size.H, N, h, to.u(0), to.stride);
  for_row_shares(N, [&](int64_t begin, int64_t end) {
    const auto [H, S, Z, I] = size;
    Scratch scratch;
    const int64_t rows = end - begin;
    const auto share_of = [&](const T* all, int64_t F) {
      return widened(all + begin * F, rows * F, std::is_same_v<T, A> ? nullptr : scratch.empty<A>(rows * F));
    };
    const A *const wide_x = share_of(x, I), *const wide_h = share_of(h, H), *const wide_h_hat = share_of(h_hat, S);
    A* const tiles = scratch.empty<A>(kRowBlock * kPanel<A>);
    for_tiles(panels<A>(S, true), rows, tiles, [&](int64_t panel, int64_t r, int64_t n, A* tile) {
      hyper_gates(p, stored.hyper_weight_h, size, panel, n, wide_x + r * I, wide_h + r * H, wide_h_hat + r * S, tile);
      write_gates(tile, n, S, panel * kLanes<A>, to.a(begin + r, size), to.stride);
    });
  });
}

}  // namespace hyperlstm
