// Matrix products of a few rows with packed weights: the one product of every step.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>

#include "vec.h"

namespace hyperlstm {

// A panel is four vectors of columns. Where a matrix has gates, they are one vector of units of each gate, so that the
// pointwise pass finds all four gates of a unit in one tile.
constexpr int64_t kGates = 4;

template <class A>
constexpr int64_t kPanel = kGates * kLanes<A>;

// Rows of a register tile: its rows times four sums, four weights and one number of the left factor fill the registers.
#if defined(CPU_CAPABILITY_AVX512) || defined(__aarch64__)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 3;
#endif

// Rows whose tiles are worked on together, and the part of K for which a panel is read: both fit into the L1 cache.
constexpr int64_t kRowBlock = 36;
constexpr int64_t kDepthBlock = 128;

// Numbers in a cache line.
template <class A>
constexpr int64_t kLine = 64 / sizeof(A);

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class A>
inline int64_t padded(int64_t n) {
  return ceil_div(n, kLanes<A>) * kLanes<A>;
}

// Where the columns of a matrix [K, N] lie: that of unit j in gate k at gate * k + unit * j, its numbers `depth` apart.
// Without gates N is the number of units and `gate` is 0.
struct Columns {
  int64_t gate, unit, depth;
};

template <class A>
inline int64_t panels(int64_t units, bool gates) {
  return ceil_div(units, gates ? kLanes<A> : kPanel<A>);
}

// Panels `begin` to `end` of source -> to [panels, K, 4, lanes], zero where there is no unit.
template <class T>
void pack_panels(
    const T* source, Columns at, int64_t K, int64_t units, bool gates, Acc<T>* to, int64_t begin, int64_t end) {
  using A = Acc<T>;
  constexpr int64_t V = kLanes<A>, kBlock = 64;  // depth of a block whose cache lines stay in L1 while it is transposed
  for (int64_t p = begin; p < end; ++p) {
    for (int64_t d = 0; d < K; d += kBlock) {
      const int64_t depth = std::min(kBlock, K - d);
      for (int64_t k = 0; k < kGates; ++k) {
        const int64_t first = gates ? p * V : (p * kGates + k) * V;
        const int64_t n = std::clamp<int64_t>(units - first, 0, V);
        const T* from = source + (gates ? at.gate * k : 0) + at.unit * first + at.depth * d;
        A* into = to + (p * K + d) * kPanel<A> + k * V;
        if (n < V) {
          for (int64_t i = 0; i < depth; ++i) std::fill_n(into + i * kPanel<A>, V, A(0));
        }
        if (at.unit == 1) {
          for (int64_t i = 0; i < depth; ++i) {
            for (int64_t j = 0; j < n; ++j) into[i * kPanel<A> + j] = static_cast<A>(from[i * at.depth + j]);
          }
        } else {
          int64_t done = 0;
          if constexpr (std::is_same_v<T, A>) {
            for (; n == V && at.depth == 1 && done + V <= depth; done += V) {
              at::vec::transpose_mxn<A, V, V>(from + done, at.unit, into + done * kPanel<A>, kPanel<A>);
            }
          }
          for (int64_t j = 0; j < n; ++j) {
            const T* column = from + j * at.unit;
            for (int64_t i = done; i < depth; ++i) into[i * kPanel<A> + j] = static_cast<A>(column[i * at.depth]);
          }
        }
      }
    }
  }
}

// The left factor of a product: where its number (r, d) lies, at row * r + depth * d.
template <class A>
struct Left {
  const A* numbers;
  int64_t row, depth = 1;

  Left from(int64_t r, int64_t d) const { return {numbers + row * r + depth * d, row, depth}; }
};

// tile [R, 4, lanes] += a [R, K] times one panel [K, 4, lanes], all sums in registers; K cache lines from `ahead` on
// are fetched in passing.
template <class A, int R>
inline void multiply_tile(Left<A> a, const A* panel, const A* ahead, int64_t K, A* tile) {
  constexpr int64_t V = kLanes<A>;
  Vec<A> sum[R][kGates];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int k = 0; k < kGates; ++k) sum[r][k] = Vec<A>::loadu(tile + r * kPanel<A> + k * V);
  }
  for (int64_t d = 0; d < K; ++d, panel += kPanel<A>) {
    __builtin_prefetch(ahead + d * kLine<A>);
    Vec<A> w[kGates];
#pragma GCC unroll 4
    for (int k = 0; k < kGates; ++k) w[k] = Vec<A>::loadu(panel + k * V);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<A> x(a.numbers[r * a.row + d * a.depth]);
#pragma GCC unroll 4
      for (int k = 0; k < kGates; ++k) sum[r][k] = at::vec::fmadd(x, w[k], sum[r][k]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int k = 0; k < kGates; ++k) sum[r][k].store(tile + r * kPanel<A> + k * V);
  }
}

template <class A, int R = kTileRows>
inline void multiply_rows(int64_t rows, Left<A> a, const A* panel, const A* ahead, int64_t K, A* tile) {
  if constexpr (R > 0) {
    if (rows == R) return multiply_tile<A, R>(a, panel, ahead, K, tile);
    multiply_rows<A, R - 1>(rows, a, panel, ahead, K, tile);
  }
}

// tile [rows, 4, lanes] += a [rows, K] times one panel.
template <class A>
void multiply(int64_t rows, Left<A> a, const A* panel, int64_t K, A* tile) {
  const int64_t tiles = ceil_div(rows, kTileRows);
  for (int64_t d = 0; d < K; d += kDepthBlock) {
    const int64_t depth = std::min(kDepthBlock, K - d);
    for (int64_t i = 0; i < tiles; ++i) {
      // Rows are shared out evenly: two tiles of four are faster than one of six and one of two.
      const int64_t begin = rows * i / tiles, end = rows * (i + 1) / tiles;
      const A* right = panel + d * kPanel<A>;
      // Each tile fetches its share of the part that is next, which four tiles cover; a fetch past the end does
      // nothing.
      const A* ahead = right + depth * kPanel<A> + i * depth * kLine<A>;
      multiply_rows<A>(end - begin, a.from(begin, d), right, ahead, depth, tile + begin * kPanel<A>);
    }
  }
}

// Writes a tile [rows, 4, lanes] to the first `columns` numbers of rows `stride` apart, or adds it to them.
template <class A>
void write_tile(const A* tile, int64_t rows, int64_t columns, A* to, int64_t stride, bool add) {
  constexpr int64_t V = kLanes<A>;
  for (int64_t r = 0; r < rows; ++r, tile += kPanel<A>, to += stride) {
    for (int64_t j = 0; j < columns; j += V) {
      const int64_t m = std::min(V, columns - j);
      const Vec<A> sum = Vec<A>::loadu(tile + j);
      store(to + j, add ? sum + load(to + j, m) : sum, m);
    }
  }
}

}  // namespace hyperlstm
