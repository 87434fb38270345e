// Matrix products of a few rows with packed weights: the one product of every step.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

#include "vec.h"

namespace hyperlstm {

// A panel is four vectors of columns. Where a matrix has gates, they are one vector of units of each gate, so that the
// pointwise pass finds all four gates of a unit in one tile.
constexpr int64_t kGates = 4;

template <class A>
constexpr int64_t kPanel = kGates * kLanes<A>;

// Rows of a register tile, sums that the registers hold beside a row of weights and a number of the left factor, and
// the part of K for which tiles read a panel. Where there are enough sums for a part to come from the L2 cache as fast
// as it is used, it may be too large for L1: the deeper it is, the less often sums start and end.
constexpr int kTileRows = 6;
#if defined(CPU_CAPABILITY_AVX512) || defined(__aarch64__)
constexpr int kTileSums = 24;
constexpr int64_t kDepthBlock = 256;
#else
constexpr int kTileSums = 12;
constexpr int64_t kDepthBlock = 128;
#endif

// Rows whose tiles are worked on together: with such a part they fit into the L2 cache.
constexpr int64_t kRowBlock = 36;

// Numbers in a cache line.
template <class A>
constexpr int64_t kLine = 64 / sizeof(A);

template <class A>
inline int64_t padded(int64_t n) {
  return at::divup(n, kLanes<A>) * kLanes<A>;
}

// Where the columns of a matrix [K, N] lie: that of unit j in gate k at gate * k + unit * j, its numbers `depth` apart.
// Without gates N is the number of units and `gate` is 0.
struct Columns {
  int64_t gate, unit, depth;
};

template <class A>
inline int64_t panels(int64_t units, bool gates) {
  return at::divup(units, gates ? kLanes<A> : kPanel<A>);
}

// Vector k of a panel of which `from` is the first unit's first number -> into [K, lanes], rows kPanel apart; zero from
// unit n on. A whole column of sources at a time, since memory that is read in runs comes many times as fast.
template <class T>
void pack_vector(const T* from, Columns at, int64_t K, int64_t n, Acc<T>* into) {
  using A = Acc<T>;
  constexpr int64_t V = kLanes<A>, P = kPanel<A>;
  int64_t d = 0;
  for (; n == V && at.depth == 1 && d + V <= K; d += V) {
    if constexpr (std::is_same_v<T, A>) {
      at::vec::transpose_mxn<A, V, V>(from + d, at.unit, into + d * P, P);
    } else {
      alignas(64) std::array<A, V * V> wide;
      for (int64_t j = 0; j < V; ++j) load(from + j * at.unit + d, V).store(wide.data() + j * V);
      at::vec::transpose_mxn<A, V, V>(wide.data(), V, into + d * P, P);
    }
  }
  for (; d < K; ++d) {
    for (int64_t j = 0; j < n; ++j) into[d * P + j] = static_cast<A>(from[j * at.unit + d * at.depth]);
    std::fill_n(into + d * P + n, V - n, A(0));
  }
}

// Panels `begin` to `end` of source -> to [panels, K, 4, lanes], zero where there is no unit.
template <class T>
void pack_panels(
    const T* source, Columns at, int64_t K, int64_t units, bool gates, Acc<T>* to, int64_t begin, int64_t end) {
  using A = Acc<T>;
  constexpr int64_t V = kLanes<A>, P = kPanel<A>;
  for (int64_t p = begin; p < end; ++p) {
    std::array<const T*, kGates> from;
    std::array<int64_t, kGates> n;
    for (int64_t k = 0; k < kGates; ++k) {
      const int64_t first = gates ? p * V : (p * kGates + k) * V;
      n[k] = std::clamp<int64_t>(units - first, 0, V);
      from[k] = source + (gates ? at.gate * k : 0) + at.unit * first;
    }
    A* const panel = to + p * K * P;
    if (at.unit != 1) {
      for (int64_t k = 0; k < kGates; ++k) pack_vector(from[k], at, K, n[k], panel + k * V);
      continue;
    }
    for (int64_t d = 0; d < K; ++d) {
      for (int64_t k = 0; k < kGates; ++k) load(from[k] + d * at.depth, n[k]).store(panel + d * P + k * V);
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

// Where a product goes: rows `stride` apart, whose numbers it is added to or, if not `add`, replaces.
template <class A>
struct Into {
  A* numbers;
  int64_t stride;
  bool add;

  Into from(int64_t r, int64_t column) const { return {numbers + r * stride + column, stride, add}; }
};

// into [R, N, lanes] of a [R, K] times the first N vectors of a panel [K, 4, lanes], all sums in registers. For every
// two numbers of K the next kFetched cache lines from `ahead` on are fetched.
template <class A, int R, int N, int kFetched>
inline void multiply_vectors(Left<A> a, const A* panel, const A* ahead, int64_t K, Into<A> into) {
  constexpr int64_t V = kLanes<A>;
  Vec<A> sum[R][N];
  const auto add = [&](const A* numbers, const A* weights) C10_ALWAYS_INLINE_ATTRIBUTE {
    Vec<A> w[N];
#pragma GCC unroll 4
    for (int k = 0; k < N; ++k) w[k] = Vec<A>::loadu(weights + k * V);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<A> x(numbers[r * a.row]);
#pragma GCC unroll 4
      for (int k = 0; k < N; ++k) sum[r][k] = at::vec::fmadd(x, w[k], sum[r][k]);
    }
  };
  // Two numbers of K at a time: the loop's other instructions take time where another thread shares the core.
  int64_t d = 0;
  for (; d + 2 <= K; d += 2, a.numbers += 2 * a.depth, panel += 2 * kPanel<A>) {
#pragma GCC unroll 2
    for (int line = 0; line < kFetched; ++line, ahead += kLine<A>) __builtin_prefetch(ahead);
    add(a.numbers, panel);
    add(a.numbers + a.depth, panel + kPanel<A>);
  }
  if (d < K) add(a.numbers, panel);
  if (into.add) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const A* const to = into.numbers + r * into.stride;
#pragma GCC unroll 4
      for (int k = 0; k < N; ++k) sum[r][k] = sum[r][k] + Vec<A>::loadu(to + k * V);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    A* const to = into.numbers + r * into.stride;
#pragma GCC unroll 4
    for (int k = 0; k < N; ++k) sum[r][k].store(to + k * V);
  }
}

// The same with as many of the vectors at a time as the registers have room for.
template <class A, int R, int N, int kFetched>
inline void multiply_tile(Left<A> a, const A* panel, const A* ahead, int64_t K, Into<A> into) {
  if constexpr (R * N <= kTileSums) {
    multiply_vectors<A, R, N, kFetched == 0 ? 0 : 2>(a, panel, ahead, K, into);
  } else {
    constexpr int M = kGates / 2;
    constexpr int64_t column = M * kLanes<A>;
    multiply_vectors<A, R, M, kFetched>(a, panel, ahead, K, into);
    ahead += K / 2 * kFetched * kLine<A>;
    multiply_vectors<A, R, N - M, kFetched>(a, panel + column, ahead, K, into.from(0, column));
  }
}

template <class A, int N, int kFetched, int R = kTileRows>
inline void multiply_rows(int64_t rows, Left<A> a, const A* panel, const A* ahead, int64_t K, Into<A> into) {
  if constexpr (R > 0) {
    if (rows == R) return multiply_tile<A, R, N, kFetched>(a, panel, ahead, K, into);
    multiply_rows<A, N, kFetched, R - 1>(rows, a, panel, ahead, K, into);
  }
}

// into [rows, N, lanes] of a [rows, K] times the first N vectors of one panel. Where `fetch`, what comes after each
// part of the panel is fetched, since weights come from afar: a cache line for each number of K by a tile, or two
// by a single one. A fetch past the end does nothing.
template <class A, int N = kGates>
void multiply(int64_t rows, Left<A> a, const A* panel, int64_t K, Into<A> into, bool fetch = true) {
  const int64_t tiles = at::divup(rows, kTileRows);
  for (int64_t d = 0; d < K; d += kDepthBlock) {
    const int64_t depth = std::min(kDepthBlock, K - d);
    const A *const right = panel + d * kPanel<A>, *const next = right + depth * kPanel<A>;
    for (int64_t i = 0; i < tiles; ++i) {
      // Rows are shared out evenly: two tiles of four are faster than one of six and one of two.
      const int64_t begin = rows * i / tiles, n = rows * (i + 1) / tiles - begin;
      const A* const ahead = next + i * depth * kLine<A>;
      const Left<A> left = a.from(begin, d);
      const Into<A> to = into.from(begin, 0);
      if (!fetch) {
        multiply_rows<A, N, 0>(n, left, right, ahead, depth, to);
      } else if (tiles == 1) {
        multiply_rows<A, N, 2>(n, left, right, ahead, depth, to);
      } else {
        multiply_rows<A, N, 1>(n, left, right, ahead, depth, to);
      }
    }
    into.add = true;
  }
}

// The same of a panel of which only the first `columns` are there: other vectors are not multiplied. tile holds `rows`
// panels.
template <class A>
void multiply_columns(
    int64_t rows, int64_t columns, Left<A> a, const A* panel, int64_t K, Into<A> into, A* tile, bool fetch = true) {
  constexpr int64_t V = kLanes<A>, P = kPanel<A>;
  if (into.add) {  // only when all is summed, too late to wait for what is not in the L1 cache
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < columns; j += kLine<A>) __builtin_prefetch(into.from(r, j).numbers);
    }
  }
  if (columns == P) return multiply(rows, a, panel, K, into, fetch);
  const Into<A> whole{tile, P, false};
  switch (at::divup(columns, V)) {
    case 1: multiply<A, 1>(rows, a, panel, K, whole, fetch); break;
    case 2: multiply<A, 2>(rows, a, panel, K, whole, fetch); break;
    case 3: multiply<A, 3>(rows, a, panel, K, whole, fetch); break;
    default: multiply<A, 4>(rows, a, panel, K, whole, fetch);
  }
  for (int64_t r = 0; r < rows; ++r) {
    A* const to = into.numbers + r * into.stride;
    for (int64_t j = 0; j < columns; j += V) {
      const int64_t m = std::min(V, columns - j);
      const Vec<A> sum = Vec<A>::loadu(tile + r * P + j);
      store(to + j, into.add ? sum + load(to + j, m) : sum, m);
    }
  }
}

}  // namespace hyperlstm
