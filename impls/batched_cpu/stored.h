// Products of few rows with weights as they are stored. To pack a weight takes longer than to multiply some rows by it,
// so a sequence that has few of them at a step is better off without.
#pragma once

#include "jobs.h"
#include "product.h"

namespace hyperlstm {

// Rows of a batch that are few, and from how many weights on: smaller ones stay in the cache, where packed ones are
// read faster, and take little time to pack.
constexpr int64_t kFew = 4, kWorthSparing = 1 << 20;

// The largest matrices as they are stored, [4, H, H] and [4, S, H]; null where they are packed.
template <class T>
struct Stored {
  const T *weight_h = nullptr, *hyper_weight_h = nullptr;
};

// Calls body with the number of rows as a constant, for groups of up to kFew.
template <class Body>
void for_group(int64_t rows, const Body& body) {
  switch (rows) {
    case 4: return body(std::integral_constant<int, 4>());
    case 3: return body(std::integral_constant<int, 3>());
    case 2: return body(std::integral_constant<int, 2>());
    default: return body(std::integral_constant<int, 1>());
  }
}

// into[r, k lanes] of left [R, K] times one unit of N gates: rows [K] of a stored weight, `gate` numbers apart.
template <int R, int N, class T, class A = Acc<T>>
C10_ALWAYS_INLINE void multiply_unit(const T* weight, int64_t gate, int64_t K, const A* left, Into<A> into) {
  constexpr int64_t V = kLanes<A>;
  Vec<A> sum[R][N];
  const auto add = [&](int64_t d, int64_t m) C10_ALWAYS_INLINE_ATTRIBUTE {
    Vec<A> x[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) x[r] = load(left + r * K + d, m);
#pragma GCC unroll 4
    for (int k = 0; k < N; ++k) {
      const Vec<A> w = load(weight + k * gate + d, m);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r][k] = at::vec::fmadd(x[r], w, sum[r][k]);
    }
  };
  const int64_t whole = K / V * V;
  for (int64_t d = 0; d < whole; d += V) add(d, V);
  if (whole < K) add(whole, K - whole);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int k = 0; k < N; ++k) {
      A& to = into.numbers[r * into.stride + k * V];
      to = (into.add ? to : A(0)) + sum_of_lanes(sum[r][k]);
    }
  }
}

// into [R, 4, lanes] of left [R, K] times n units, from `unit` on, of a stored weight [4, F, K].
template <int R, class T, class A = Acc<T>>
void multiply_units(const T* weight, int64_t F, int64_t K, int64_t unit, int64_t n, const A* left, Into<A> into) {
  constexpr int N = R * kGates <= kTileSums ? kGates : kGates / 2;  // gates whose sums the registers hold
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t k = 0; k < kGates; k += N) {
      multiply_unit<R, N>(weight + (k * F + unit + j) * K, F * K, K, left, into.from(0, k * kLanes<A> + j));
    }
  }
}

// into [R, columns] of left [R, K] times those columns of a stored weight [K, N]: the way back through it. All columns
// take some of its rows before the next, so that it is read in the order in which it lies in memory.
template <int R, class T, class A = Acc<T>>
void multiply_back(Range columns, Left<A> left, const T* weight, int64_t K, int64_t N, Into<A> into) {
  constexpr int64_t V = kLanes<A>;
  // Of the weight, up to as many as the registers hold numbers of left for each of R.
  constexpr int kRows = std::clamp(2 * kTileSums / 3 / R, 2, 4);
  if (!into.add) {
    for (int r = 0; r < R; ++r) std::fill_n(into.from(r, 0).numbers, columns.end - columns.begin, A(0));
  }
  const auto add = [&](int64_t d, auto rows) C10_ALWAYS_INLINE_ATTRIBUTE {
    Vec<A> x[R][rows];
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < rows; ++i) x[r][i] = Vec<A>(*left.from(r, d + i).numbers);
    }
    for (int64_t j = columns.begin; j < columns.end; j += V) {
      const int64_t m = std::min(V, columns.end - j);
      Vec<A> w[rows];
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) {
        const T* const at = weight + (d + i) * N + j;
        __builtin_prefetch(at + rows * N);
        w[i] = load(at, m);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        A* const to = into.from(r, j - columns.begin).numbers;
        Vec<A> sum = load(to, m);
#pragma GCC unroll 4
        for (int i = 0; i < rows; ++i) sum = at::vec::fmadd(x[r][i], w[i], sum);
        store(to, sum, m);
      }
    }
  };
  const int64_t whole = K / kRows * kRows;
  for (int64_t d = 0; d < whole; d += kRows) add(d, std::integral_constant<int, kRows>());
  for (int64_t d = whole; d < K; ++d) add(d, std::integral_constant<int, 1>());
}

}  // namespace hyperlstm
