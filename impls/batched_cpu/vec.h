// Vectors of the accumulation type, whatever type the tensors are stored in, and the two activations on them.
#pragma once

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/OpMathType.h>
#include <c10/macros/Macros.h>

#include <array>
#include <cstdint>
#include <type_traits>

namespace hyperlstm {

// What sums, cells and scratch arrays are held in: float for bfloat16, else the stored type itself.
template <class T>
using Acc = at::opmath_type<T>;

template <class A>
using Vec = at::vec::Vectorized<A>;

template <class A>
constexpr int64_t kLanes = Vec<A>::size();

// The first n lanes from p, zero in the rest.
template <class T>
C10_ALWAYS_INLINE Vec<Acc<T>> load(const T* p, int64_t n = kLanes<Acc<T>>) {
  using A = Acc<T>;
  if constexpr (std::is_same_v<T, A>) {
    return n == kLanes<A> ? Vec<A>::loadu(p) : Vec<A>::loadu(p, n);
  } else {
    alignas(64) A wide[kLanes<A>] = {};
    if (n == kLanes<A>) {
      for (int64_t i = 0; i < kLanes<A>; ++i) wide[i] = static_cast<A>(p[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) wide[i] = static_cast<A>(p[i]);
    }
    return Vec<A>::loadu(wide);
  }
}

// Writes the first n lanes.
template <class T>
C10_ALWAYS_INLINE void store(T* p, const Vec<Acc<T>>& x, int64_t n = kLanes<Acc<T>>) {
  using A = Acc<T>;
  if constexpr (std::is_same_v<T, A>) {
    if (n == kLanes<A>)
      x.store(p);
    else
      x.store(p, n);
  } else {
    alignas(64) A wide[kLanes<A>];
    x.store(wide);
    if (n == kLanes<A>) {
      for (int64_t i = 0; i < kLanes<A>; ++i) p[i] = static_cast<T>(wide[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) p[i] = static_cast<T>(wide[i]);
    }
  }
}

// Zero in every lane from n on.
template <class A>
C10_ALWAYS_INLINE Vec<A> first_lanes(const Vec<A>& x, int64_t n) {
  return n == kLanes<A> ? x : Vec<A>::set(Vec<A>(A(0)), x, n);
}

template <class A>
inline A sum_of_lanes(const Vec<A>& x) {
  return at::vec::vec_reduce_all<A>([](Vec<A>& a, Vec<A>& b) { return a + b; }, x);
}

// Of exp: its least argument and half of its greatest, and ln 2 in two parts.
template <class A>
struct Exponent;

template <>
struct Exponent<float> {
  using Int = int32_t;
  static constexpr int kMantissa = 23, kTerms = 7;
  static constexpr float kLow = -87.0f, kHalfOfHigh = 44.0f, kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
};

template <>
struct Exponent<double> {
  using Int = int64_t;
  static constexpr int kMantissa = 52, kTerms = 13;
  static constexpr double kLow = -708.0, kHalfOfHigh = 354.5, kLn2High = 0x1.62e42fefap-1,
                          kLn2Low = 0x1.cf79abc9e3b3ap-40;
};

// Inlined by force, here and below: side by side, the activations of a unit hide each other's latency.
//
// exp(x) - 1, to some units in the last place for every x up to `most`, small ones included, and that of `most` above:
// x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), and exp(r) - 1 by its Taylor series.
// NaN stays NaN.
template <class A>
C10_ALWAYS_INLINE Vec<A> expm1(Vec<A> x, A most) {
  using E = Exponent<A>;
  using Int = typename E::Int;
  // Adding 1.5 * 2^mantissa rounds to an integer and leaves it in the low bits.
  constexpr A kRound = A(3) * A(Int(1) << (E::kMantissa - 1));
  constexpr Int kOne = std::is_same_v<A, float> ? Int(0x3f800000) : Int(0x3ff0000000000000);
  constexpr A kLog2e = A(1.4426950408889634074);

  x = at::vec::clamp(x, Vec<A>(E::kLow), Vec<A>(most));
  const Vec<A> shifted = at::vec::fmadd(x, Vec<A>(kLog2e), Vec<A>(kRound));
  const Vec<A> n = shifted - Vec<A>(kRound);
  Vec<A> r = at::vec::fmadd(n, Vec<A>(-E::kLn2High), x);
  r = at::vec::fmadd(n, Vec<A>(-E::kLn2Low), r);
  const auto bits = (at::vec::cast<Int>(shifted) << Vec<Int>(Int(E::kMantissa))) + Vec<Int>(kOne);
  const Vec<A> scale = at::vec::cast<A>(bits);

  A factorial = A(1);
  std::array<A, E::kTerms + 1> inverse{};
  for (int i = 1; i <= E::kTerms; ++i) inverse[i] = A(1) / (factorial *= A(i));
  Vec<A> q(inverse[E::kTerms]);
  for (int i = E::kTerms - 1; i >= 2; --i) q = at::vec::fmadd(q, r, Vec<A>(inverse[i]));
  const Vec<A> p = at::vec::fmadd(q, r * r, r);
  return at::vec::fmadd(scale, p, scale - Vec<A>(A(1)));
}

// A division takes as long as a dozen multiplications, so that two activations share one where they can. Each is given
// by its exponential e, whose limit keeps products of two of them finite: sigmoid(x) = 1 / (e + 2) with e = exp(-x) -
// 1, which at the limit is 0 beside any number that rounding leaves, and tanh(x) = e / (e + 2) with e = exp(2x) - 1,
// which at the limit is 1.
template <class A>
C10_ALWAYS_INLINE Vec<A> of_sigmoid(const Vec<A>& x) {
  return expm1<A>(x.neg(), Exponent<A>::kHalfOfHigh);
}

template <class A>
C10_ALWAYS_INLINE Vec<A> of_tanh(const Vec<A>& x) {
  return expm1<A>(x + x, A(40));
}

template <class A>
C10_ALWAYS_INLINE Vec<A> sigmoid(const Vec<A>& x) {
  return Vec<A>(A(1)) / (Vec<A>(A(2)) + of_sigmoid<A>(x));
}

template <class A>
C10_ALWAYS_INLINE Vec<A> tanh(const Vec<A>& x) {
  const Vec<A> e = of_tanh<A>(x);
  return e / (e + Vec<A>(A(2)));
}

// sigmoid(x) tanh(y).
template <class A>
C10_ALWAYS_INLINE Vec<A> gated(const Vec<A>& x, const Vec<A>& y) {
  const Vec<A> two(A(2)), e = of_tanh<A>(y);
  return e / ((of_sigmoid<A>(x) + two) * (e + two));
}

}  // namespace hyperlstm
