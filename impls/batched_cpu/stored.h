// Products of few rows with weights as they are stored. To pack a weight takes longer than to multiply some rows by it,
// so a sequence that has few of them at a step is better off without.
#pragma once

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

// into [R, 4, lanes] of left [R, K] times n units, from `unit` on, of a stored weight [4, F, K].
template <int R, class T, class A = Acc<T>>
void multiply_units(const T* weight, int64_t F, int64_t K, int64_t unit, int64_t n, const A* left, Into<A> into) {
  constexpr int64_t V = kLanes<A>;
  const int64_t whole = K / V * V;
  for (int64_t j = 0; j < n; ++j) {
    const T* const of_unit = weight + (unit + j) * K;
    Vec<A> sum[R][kGates];
    const auto add = [&](int64_t d, int64_t m) C10_ALWAYS_INLINE_ATTRIBUTE {
      Vec<A> x[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) x[r] = load(left + r * K + d, m);
#pragma GCC unroll 4
      for (int k = 0; k < kGates; ++k) {
        const Vec<A> w = load(of_unit + k * F * K + d, m);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sum[r][k] = at::vec::fmadd(x[r], w, sum[r][k]);
      }
    };
    for (int64_t d = 0; d < whole; d += V) add(d, V);
    if (whole < K) add(whole, K - whole);
    for (int r = 0; r < R; ++r) {
      for (int64_t k = 0; k < kGates; ++k) {
        A& to = into.numbers[r * into.stride + k * V + j];
        to = into.add ? to + sum_of_lanes(sum[r][k]) : sum_of_lanes(sum[r][k]);
      }
    }
  }
}

}  // namespace hyperlstm
