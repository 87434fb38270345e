// The operands of products as instructions take them: vectors or, for bfloat16 with AMX, tiles.
#pragma once

#include <algorithm>

#include "vec.h"

namespace hyperlstm {

// Whether products use tiles, see library.cpp.
extern bool use_tiles;

}  // namespace hyperlstm

namespace hyperlstm::inline HYPERLSTM_SET {

// The left factor of a product: its number (r, d) is at row * r + depth * d.
template <class F>
struct Lhs {
  const F* numbers;
  int64_t row, depth = 1;

  Lhs from(int64_t r, int64_t d) const { return {numbers + row * r + depth * d, row, depth}; }
};

// The result of a product: rows `stride` apart, whose numbers it is added to or, if not `add`, replaces.
template <class A>
struct Into {
  A* numbers;
  int64_t stride;
  bool add;

  Into from(int64_t r, int64_t column) const { return {numbers + r * stride + column, stride, add}; }
};

// The terms that sums of products consist of: a lane adds the products of kDepth numbers at a time.
template <class F>
struct Terms {
  static constexpr int64_t kDepth = 1;
  using Vector = Vec<F>;

  // From p on, for the lanes of a vector.
  static ALWAYS_INLINE Vector vector(const F* p) { return Vec<F>::loadu(p); }
  // The same of n numbers, zero in the rest, converted if they have another type.
  template <class T>
  static ALWAYS_INLINE Vector load(const T* p, int64_t n) {
    return hyperlstm::load(p, n);
  }
  // The number at p in each lane.
  static ALWAYS_INLINE Vector broadcast(const F* p, int64_t) { return Vec<F>(*p); }
  static ALWAYS_INLINE Vec<F> add(const Vector& x, const Vector& y, const Vec<F>& sum) { return fmadd(x, y, sum); }
};

#ifdef __AVX512BF16__
// Two numbers a lane, multiplied exactly; the instruction takes denormal numbers for zero.
template <>
struct Terms<BFloat16> {
  static constexpr int64_t kDepth = 2;
  using Vector = __m512i;

  static ALWAYS_INLINE Vector vector(const BFloat16* p) { return _mm512_loadu_si512(p); }
  static ALWAYS_INLINE Vector load(const BFloat16* p, int64_t n) {
    return n == 2 * kLanes<float> ? vector(p) : _mm512_maskz_loadu_epi16((1u << n) - 1, p);
  }
  // The n numbers at p, one or two.
  static ALWAYS_INLINE Vector broadcast(const BFloat16* p, int64_t n) {
    uint32_t pair = p->bits;
    if (n == 2) std::memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static ALWAYS_INLINE Vec<float> add(Vector x, Vector y, const Vec<float>& sum) {
    return Vec<float>((Vec<float>::Native)_mm512_dpbf16_ps((__m512)sum.native, (__m512bh)x, (__m512bh)y));
  }
};
#endif

// The registers of AMX are tiles of up to 16 rows of 64 bytes, and an instruction multiplies two.
#ifndef __AMX_BF16__
struct TileRegion {};
#else
constexpr int64_t kTileRowsOfAmx = 16, kTileDepth = 32, kPanelRow = 4 * 64;  // the last, of a panel, in bytes

// Completes all stores before the tile instructions that follow. Without it GCC may drop or delay some: it does not
// know that _tile_loadd reads memory and, before 12.4 and 13.3, takes the 64 bytes that _tile_loadconfig reads for 8.
ALWAYS_INLINE void complete_stores(const void* read) { asm volatile("" ::"r"(read) : "memory"); }

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
    complete_stores(&config);
    _tile_loadconfig(&config);
    first_ = first;
    second_ = second;
  }

  static inline thread_local int64_t first_ = 0, second_ = 0;
};

// The part of a depth K that is multiplied by tiles, the rest by vectors: for any number of rows, since either rounds
// in its own order, and the rows of a group must not show in the results.
inline int64_t depth_of_tiles(int64_t K) { return use_tiles ? K / kTileDepth * kTileDepth : 0; }

// Of one tile of rows and N vectors: sums in tiles 0 to 3, rows in 4, weights in 5 to 7.
template <int N>
ALWAYS_INLINE void multiply_one_tile(Lhs<BFloat16> lhs, const BFloat16* weights, int64_t K, Into<float> into) {
  constexpr int64_t V = 16;
  const int64_t bytes = 4 * into.stride;
  complete_stores(lhs.numbers);
  if (into.add) {
    _tile_loadd(0, into.numbers, bytes);
    if constexpr (N > 1) _tile_loadd(1, into.numbers + V, bytes);
    if constexpr (N > 2) _tile_loadd(2, into.numbers + 2 * V, bytes);
    if constexpr (N > 3) _tile_loadd(3, into.numbers + 3 * V, bytes);
  } else {
    _tile_zero(0);
    if constexpr (N > 1) _tile_zero(1);
    if constexpr (N > 2) _tile_zero(2);
    if constexpr (N > 3) _tile_zero(3);
  }
  for (int64_t d = 0; d < K; d += kTileDepth, weights += 4 * V * kTileDepth) {
    _tile_loadd(4, lhs.numbers + d, 2 * lhs.row);
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
  _tile_stored(0, into.numbers, bytes);
  if constexpr (N > 1) _tile_stored(1, into.numbers + V, bytes);
  if constexpr (N > 2) _tile_stored(2, into.numbers + 2 * V, bytes);
  if constexpr (N > 3) _tile_stored(3, into.numbers + 3 * V, bytes);
}

// Of two tiles of rows, the second from row `first` on, and one or two vectors: sums in tiles 0 to 3, rows in 4 and 5,
// weights in 6 and 7. Each tile that is loaded is multiplied twice.
template <int N>
ALWAYS_INLINE void multiply_two_tiles(
    Lhs<BFloat16> lhs, const BFloat16* weights, int64_t K, Into<float> into, int64_t first) {
  constexpr int64_t V = 16;
  const int64_t bytes = 4 * into.stride;
  float* const second = into.numbers + first * into.stride;
  complete_stores(lhs.numbers);
  if (into.add) {
    _tile_loadd(0, into.numbers, bytes);
    _tile_loadd(1, second, bytes);
    if constexpr (N > 1) _tile_loadd(2, into.numbers + V, bytes);
    if constexpr (N > 1) _tile_loadd(3, second + V, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (N > 1) _tile_zero(2);
    if constexpr (N > 1) _tile_zero(3);
  }
  for (int64_t d = 0; d < K; d += kTileDepth, weights += 4 * V * kTileDepth) {
    _tile_loadd(6, weights, kPanelRow);
    _tile_loadd(4, lhs.numbers + d, 2 * lhs.row);
    _tile_loadd(5, lhs.numbers + first * lhs.row + d, 2 * lhs.row);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    if constexpr (N > 1) {
      _tile_loadd(7, weights + 2 * V, kPanelRow);
      _tile_dpbf16ps(2, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, into.numbers, bytes);
  _tile_stored(1, second, bytes);
  if constexpr (N > 1) _tile_stored(2, into.numbers + V, bytes);
  if constexpr (N > 1) _tile_stored(3, second + V, bytes);
}

// The part of multiply() that is by tiles, of any number of rows; K is a multiple of kTileDepth. Out of line, since
// GCC compiles the other loops of multiply() in another way otherwise.
template <int N>
__attribute__((noinline)) void multiply_tiles(
    int64_t rows, Lhs<BFloat16> lhs, const BFloat16* panel, int64_t K, Into<float> into) {
  for (int64_t r = 0; r < rows; r += 2 * kTileRowsOfAmx) {
    const int64_t n = std::min(2 * kTileRowsOfAmx, rows - r), first = (n + 1) / 2;
    const Lhs<BFloat16> some = lhs.from(r, 0);
    const Into<float> to = into.from(r, 0);
    if (n <= kTileRowsOfAmx) {
      TileRegion::configure(n, 0);
      multiply_one_tile<N>(some, panel, K, to);
      continue;
    }
    TileRegion::configure(first, n - first);
    multiply_two_tiles<(N > 1 ? 2 : 1)>(some, panel, K, to, first);
    if constexpr (N > 2) multiply_two_tiles<N - 2>(some, panel + 64, K, to.from(0, 32), first);
  }
}
#endif

}  // namespace hyperlstm::inline HYPERLSTM_SET
