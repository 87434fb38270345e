// Products of bfloat16 by AMX: the registers are tiles of up to 16 rows of 64 bytes, and an instruction multiplies two.
#pragma once

#include <algorithm>

#include "vec.h"

namespace hyperlstm {

// Whether products use tiles, see library.cpp.
extern bool use_tiles;

}  // namespace hyperlstm

#ifndef __AMX_BF16__

namespace hyperlstm::inline HYPERLSTM_SET {

struct TileRegion {};

}  // namespace hyperlstm::inline HYPERLSTM_SET

#else

namespace hyperlstm::inline HYPERLSTM_SET {

constexpr int64_t kTileRowsOfAmx = 16, kTileDepth = 32;

// The rows of the tiles that this thread has configured while a region is open; other code may configure its own.
class TileRegion {
 public:
  TileRegion() { first_ = second_ = 0; }
  ~TileRegion() {
    if (first_ > 0) _tile_release();
  }
  TileRegion(const TileRegion&) = delete;

  // Left factors and sums of `first` and `second` rows; 0 of these if one tile has all.
  static ALWAYS_INLINE void configure(int64_t first, int64_t second) {
    if (first != first_ || second != second_) load(first, second);
  }

 private:
  static void load(int64_t first, int64_t second) {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    static_assert(sizeof config == 64);
    for (int i = 0; i < 8; ++i) {
      const bool weights = i >= (second == 0 ? 5 : 6);
      config.bytes[i] = 64;
      config.rows[i] = weights ? kTileDepth / 2 : second == 0 || i % 2 == 0 ? first : second;
    }
    _tile_loadconfig(&config);
    first_ = first;
    second_ = second;
  }

  static inline thread_local int64_t first_ = 0, second_ = 0;
};

// The part of a depth K that is multiplied by tiles, the rest by vectors: for any number of rows, since either rounds
// in its own order, and the rows of a group must not show in the results.
inline int64_t depth_of_tiles(int64_t K) { return use_tiles ? K / kTileDepth * kTileDepth : 0; }

// A product as multiply() has it: numbers [rows, K] times the first vectors of a panel.
struct TileProduct {
  const BFloat16* numbers;
  int64_t row;  // distance of the rows of numbers
  const BFloat16* panel;
  int64_t K;
  float* into;
  int64_t stride;  // of into
  bool add;
};

// Of one tile of rows and N vectors: sums in tiles 0 to 3, rows in 4, weights in 5 to 7.
template <int N>
ALWAYS_INLINE void multiply_one_tile(const TileProduct& p) {
  constexpr int64_t kLine = 64, kPanelRow = 4 * kLine, V = 16;
  const int64_t bytes = 4 * p.stride;
  if (p.add) {
    _tile_loadd(0, p.into, bytes);
    if constexpr (N > 1) _tile_loadd(1, p.into + V, bytes);
    if constexpr (N > 2) _tile_loadd(2, p.into + 2 * V, bytes);
    if constexpr (N > 3) _tile_loadd(3, p.into + 3 * V, bytes);
  } else {
    _tile_zero(0);
    if constexpr (N > 1) _tile_zero(1);
    if constexpr (N > 2) _tile_zero(2);
    if constexpr (N > 3) _tile_zero(3);
  }
  const BFloat16* weights = p.panel;
  for (int64_t d = 0; d < p.K; d += kTileDepth, weights += 4 * V * kTileDepth) {
    _tile_loadd(4, p.numbers + d, 2 * p.row);
    _tile_loadd(5, weights, kPanelRow);
    _tile_dpbf16ps(0, 4, 5);
    if constexpr (N > 1) {
      _tile_loadd(6, weights + 2 * V, kPanelRow);
      _tile_dpbf16ps(1, 4, 6);
    }
    if constexpr (N > 2) {
      _tile_loadd(7, weights + 4 * V, kPanelRow);
      _tile_dpbf16ps(2, 4, 7);
    }
    if constexpr (N > 3) {
      _tile_loadd(5, weights + 6 * V, kPanelRow);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_stored(0, p.into, bytes);
  if constexpr (N > 1) _tile_stored(1, p.into + V, bytes);
  if constexpr (N > 2) _tile_stored(2, p.into + 2 * V, bytes);
  if constexpr (N > 3) _tile_stored(3, p.into + 3 * V, bytes);
}

// Of two tiles of rows, the second from row `first` on, and one or two vectors: sums in tiles 0 to 3, rows in 4 and 5,
// weights in 6 and 7. Each tile that is loaded is multiplied twice.
template <int N>
ALWAYS_INLINE void multiply_two_tiles(const TileProduct& p, int64_t first) {
  constexpr int64_t kLine = 64, kPanelRow = 4 * kLine, V = 16;
  const int64_t bytes = 4 * p.stride;
  float* const second = p.into + first * p.stride;
  if (p.add) {
    _tile_loadd(0, p.into, bytes);
    _tile_loadd(1, second, bytes);
    if constexpr (N > 1) _tile_loadd(2, p.into + V, bytes);
    if constexpr (N > 1) _tile_loadd(3, second + V, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (N > 1) _tile_zero(2);
    if constexpr (N > 1) _tile_zero(3);
  }
  const BFloat16* weights = p.panel;
  for (int64_t d = 0; d < p.K; d += kTileDepth, weights += 4 * V * kTileDepth) {
    _tile_loadd(6, weights, kPanelRow);
    _tile_loadd(4, p.numbers + d, 2 * p.row);
    _tile_loadd(5, p.numbers + first * p.row + d, 2 * p.row);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    if constexpr (N > 1) {
      _tile_loadd(7, weights + 2 * V, kPanelRow);
      _tile_dpbf16ps(2, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, p.into, bytes);
  _tile_stored(1, second, bytes);
  if constexpr (N > 1) _tile_stored(2, p.into + V, bytes);
  if constexpr (N > 1) _tile_stored(3, second + V, bytes);
}

// N vectors of any number of rows; K is a multiple of kTileDepth.
template <int N>
void multiply_tiles(int64_t rows, const TileProduct& product) {
  for (int64_t r = 0; r < rows; r += 2 * kTileRowsOfAmx) {
    const int64_t n = std::min(2 * kTileRowsOfAmx, rows - r);
    TileProduct p = product;
    p.numbers += r * p.row;
    p.into += r * p.stride;
    if (n <= kTileRowsOfAmx) {
      TileRegion::configure(n, 0);
      multiply_one_tile<N>(p);
      continue;
    }
    const int64_t first = (n + 1) / 2;
    TileRegion::configure(first, n - first);
    multiply_two_tiles<(N > 1 ? 2 : 1)>(p, first);
    if constexpr (N > 2) {
      p.panel += 64;
      p.into += 32;
      multiply_two_tiles<N - 2>(p, first);
    }
  }
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
#endif
