// Vectors of the accumulation type, whatever dtype the tensors have, and the activations on them.
#pragma once

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>
#include <ATen/OpMathType.h>
#include <c10/macros/Macros.h>

#include <array>
#include <cstdint>
#include <type_traits>

namespace hyperlstm {

// The type of sums, cells and scratch arrays: float for bfloat16, else the dtype of the tensors.
template <class T>
using Acc = at::opmath_type<T>;

// Unrolls the loop that follows, so that arrays of vectors stay in registers.
#define UNROLL _Pragma("GCC unroll 16")

template <class A>
using Vec = at::vec::Vectorized<A>;

template <class A>
constexpr int64_t kLanes = Vec<A>::size();

// to[i] = from[i] for i < n, at most a vector: with a constant n the loop becomes vector instructions.
template <class A, class To, class From>
C10_ALWAYS_INLINE void convert(const From* from, To* to, int64_t n) {
  if (n == kLanes<A>) {
    for (int64_t i = 0; i < kLanes<A>; ++i) to[i] = static_cast<To>(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(from[i]);
  }
}

// The first n lanes from p, zero in the rest.
template <class T, class A = Acc<T>>
C10_ALWAYS_INLINE Vec<A> load(const T* p, int64_t n = kLanes<A>) {
  if constexpr (std::is_same_v<T, A>) {
    return n == kLanes<A> ? Vec<A>::loadu(p) : Vec<A>::loadu(p, n);
  } else {
    alignas(64) A wide[kLanes<A>] = {};
    convert<A>(p, wide, n);
    return Vec<A>::loadu(wide);
  }
}

// Writes the first n lanes.
template <class T, class A = Acc<T>>
C10_ALWAYS_INLINE void store(T* p, const Vec<Acc<T>>& x, int64_t n = kLanes<Acc<T>>) {
  if constexpr (!std::is_same_v<T, A>) {
    alignas(64) A wide[kLanes<A>];
    x.store(wide);
    convert<A>(wide, p, n);
  } else if (n == kLanes<A>) {
    x.store(p);
  } else {
    x.store(p, n);
  }
}

// Zero in every lane from n on.
template <class A>
C10_ALWAYS_INLINE Vec<A> first_lanes(const Vec<A>& x, int64_t n) {
  return n == kLanes<A> ? x : Vec<A>::set(Vec<A>(A(0)), x, n);
}

// Calls body(j, m) for vectors of m numbers from j on, up to F; m is a constant for whole vectors.
template <class A, class Body>
C10_ALWAYS_INLINE void for_vectors(int64_t F, const Body& body) {
  const int64_t whole = F / kLanes<A> * kLanes<A>;
  for (int64_t j = 0; j < whole; j += kLanes<A>) body(j, kLanes<A>);
  if (whole < F) body(whole, F - whole);
}

template <class A>
inline A sum_of_lanes(const Vec<A>& x) {
  return at::vec::vec_reduce_all<A>([](Vec<A>& a, Vec<A>& b) { return a + b; }, x);
}

// Constants of exp: its lowest argument, half of its highest, and ln 2 in two parts.
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

// All activations are forced inline: interleaved, the activations of a unit hide each other's latency.
//
// exp(x) - 1 to a few ulp for every x up to `max`, small ones included; larger x are clamped to `max`.
// x = n ln 2 + r with |r| <= ln 2 / 2, so exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), with exp(r) - 1 by its Taylor
// series. NaN stays NaN.
template <class A>
C10_ALWAYS_INLINE Vec<A> expm1(Vec<A> x, A max) {
  using E = Exponent<A>;
  using Int = typename E::Int;
  // Adding 1.5 * 2^mantissa rounds to an integer, which is then in the low bits.
  constexpr A kRound = A(3) * A(Int(1) << (E::kMantissa - 1));
  constexpr Int kOne = std::is_same_v<A, float> ? Int(0x3f800000) : Int(0x3ff0000000000000);
  constexpr A kLog2e = A(1.4426950408889634074);

  x = at::vec::clamp(x, Vec<A>(E::kLow), Vec<A>(max));
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

// A division takes as long as a dozen multiplications, so two activations share one where they can. Each activation is
// a function of an exponential e, whose limit keeps products of two of them finite: sigmoid(x) = 1 / (e + 2) with
// e = exp(-x) - 1, which at the limit is 0 next to any number above rounding, and tanh(x) = e / (e + 2) with
// e = exp(2x) - 1, which at the limit is 1.
template <class A>
C10_ALWAYS_INLINE Vec<A> sigmoid_expm1(const Vec<A>& x) {
  return expm1<A>(x.neg(), Exponent<A>::kHalfOfHigh);
}

template <class A>
C10_ALWAYS_INLINE Vec<A> tanh_expm1(const Vec<A>& x) {
  return expm1<A>(x + x, A(40));
}

template <class A>
C10_ALWAYS_INLINE Vec<A> sigmoid(const Vec<A>& x) {
  return Vec<A>(A(1)) / (Vec<A>(A(2)) + sigmoid_expm1<A>(x));
}

template <class A>
C10_ALWAYS_INLINE Vec<A> tanh(const Vec<A>& x) {
  const Vec<A> e = tanh_expm1<A>(x);
  return e / (e + Vec<A>(A(2)));
}

// sigmoid(x) tanh(y).
template <class A>
C10_ALWAYS_INLINE Vec<A> gated(const Vec<A>& x, const Vec<A>& y) {
  const Vec<A> two(A(2)), e = tanh_expm1<A>(y);
  return e / ((sigmoid_expm1<A>(x) + two) * (e + two));
}

}  // namespace hyperlstm
