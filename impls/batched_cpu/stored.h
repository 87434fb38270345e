// Products of few rows with weights as they are stored, row-major. Packing a weight into panels takes longer than
// multiplying a few rows by it, so a sequence with few rows at a step is faster without.
#pragma once

#include "jobs.h"
#include "product.h"

namespace hyperlstm {
inline namespace HYPERLSTM_SET {

// The rows of a batch that are few, and from how many weights on: smaller weights stay in the cache, where panels are
// read faster, and take little time to pack.
constexpr int64_t kFewRows = 4, kMinStoredWeights = 1 << 20;

// A weight in panels or, if these are null, as it is stored.
template <class T>
struct Weight {
  const Acc<T>* panels;
  const T* stored;
};

// into[r, k lanes] of lhs [R, K] times one unit of N gates: rows [K] of a stored weight, `gate` numbers apart.
template <int R, int N, class T, class A = Acc<T>>
ALWAYS_INLINE void multiply_unit(const T* weight, int64_t gate, int64_t K, const A* lhs, Into<A> into) {
  Vec<A> sum[R][N];
  for_vectors<A>(K, [&](int64_t d, int64_t m) ALWAYS_INLINE_LAMBDA {
    Vec<A> x[R];
    UNROLL for (int r = 0; r < R; ++r) x[r] = load(lhs + r * K + d, m);
    UNROLL for (int k = 0; k < N; ++k) {
      const Vec<A> w = load(weight + k * gate + d, m);
      UNROLL for (int r = 0; r < R; ++r) sum[r][k] = fmadd(x[r], w, sum[r][k]);
    }
  });
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int k = 0; k < N; ++k) {
      A& to = into.numbers[r * into.stride + k * kLanes<A>];
      to = (into.add ? to : A(0)) + sum_of_lanes(sum[r][k]);
    }
  }
}

// into [R, 4, lanes] of lhs [R, K] times n units, from `unit` on, of a stored weight [4, F, K].
template <int R, class T, class A = Acc<T>>
void multiply_units(const T* weight, int64_t F, int64_t K, int64_t unit, int64_t n, const A* lhs, Into<A> into) {
  constexpr int N = R * kGates <= kTileSums ? kGates : kGates / 2;  // gates whose sums fit into registers
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t k = 0; k < kGates; k += N) {
      multiply_unit<R, N>(weight + (k * F + unit + j) * K, F * K, K, lhs, into.from(0, k * kLanes<A> + j));
    }
  }
}

// into [R, columns] of lhs [R, K] times these columns of a stored weight [K, N]. All columns take a few rows of the
// weight before the next, so that it is read in the order of memory.
template <int R, class T, class A = Acc<T>>
void multiply_stored_columns(Range columns, Lhs<A> lhs, const T* weight, int64_t K, int64_t N, Into<A> into) {
  constexpr int64_t V = kLanes<A>;
  // Rows of the weight at a time: as many as there are registers for the numbers of lhs.
  constexpr int kRows = std::clamp(2 * kTileSums / 3 / R, 2, 4);
  if (!into.add) {
    for (int r = 0; r < R; ++r) std::fill_n(into.from(r, 0).numbers, columns.size(), A(0));
  }
  const auto add = [&](int64_t d, auto rows) ALWAYS_INLINE_LAMBDA {
    Vec<A> x[R][rows];
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < rows; ++i) x[r][i] = Vec<A>(*lhs.from(r, d + i).numbers);
    }
    for (int64_t j = columns.begin; j < columns.end; j += V) {
      const int64_t m = std::min(V, columns.end - j);
      Vec<A> w[rows];
      UNROLL for (int i = 0; i < rows; ++i) {
        const T* const at = weight + (d + i) * N + j;
        __builtin_prefetch(at + rows * N);
        w[i] = load(at, m);
      }
      UNROLL for (int r = 0; r < R; ++r) {
        A* const to = into.from(r, j - columns.begin).numbers;
        Vec<A> sum = load(to, m);
        UNROLL for (int i = 0; i < rows; ++i) sum = fmadd(x[r][i], w[i], sum);
        store(to, sum, m);
      }
    }
  };
  const int64_t whole = K / kRows * kRows;
  for (int64_t d = 0; d < whole; d += kRows) add(d, std::integral_constant<int, kRows>());
  for (int64_t d = whole; d < K; ++d) add(d, std::integral_constant<int, 1>());
}

}  // namespace HYPERLSTM_SET
}  // namespace hyperlstm
