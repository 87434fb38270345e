// Vectors of the accumulation type, which load and store every dtype of tensors, and the activations on them, written
// with the vector types of GCC and clang. All code that includes this file is compiled once for each instruction set of
// a library, in the namespace HYPERLSTM_SET.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define ALWAYS_INLINE_LAMBDA __attribute__((always_inline))
#define ALWAYS_INLINE ALWAYS_INLINE_LAMBDA inline
// Unrolls the loop that follows, so that arrays of vectors stay in registers.
#define UNROLL _Pragma("GCC unroll 16")

namespace hyperlstm::inline HYPERLSTM_SET {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// The upper half of a float32.
struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  // Rounds to nearest, to even if halfway.
  BFloat16(float x) {
    uint32_t wide;
    std::memcpy(&wide, &x, sizeof x);
    bits = x != x ? 0x7fc0 : (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
  }

  operator float() const {
    const uint32_t wide = uint32_t(bits) << 16;
    float x;
    std::memcpy(&x, &wide, sizeof x);
    return x;
  }
};

// The type of sums, cells and scratch arrays: float for bfloat16, else the dtype of the tensors.
template <class T>
using Acc = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

// The type of the factors of products: bfloat16 where the processor multiplies it.
#ifdef __AVX512BF16__
template <class T>
using Factor = T;
#else
template <class T>
using Factor = Acc<T>;
#endif

// Vectors as GCC and clang have them, and what these have no operators for: the lesser or greater lanes, y where one is
// NaN; x y + z rounded once, which a compiler that may contract x * y + z does here and not there, so that rows would
// differ in bits; and loading, with zeros in the rest, or storing the first n lanes without a call, which would save
// all registers.
template <class A>
struct Native;

// Of x y + z GCC and clang share no name.
#if defined(__AVX2__) && __has_builtin(__builtin_ia32_vfmaddps256)
#define FMA(S, x, y, z) __builtin_ia32_vfmadd##S##256(x, y, z)
#elif (defined(__AVX2__) || defined(__aarch64__)) && __has_builtin(__builtin_elementwise_fma)
#define FMA(S, x, y, z) __builtin_elementwise_fma(x, y, z)
#else
#define FMA(S, x, y, z) ((x) * (y) + (z))
#endif

#if defined(__AVX512F__)
#define NATIVE_FUNCTIONS(A, S, Int)                                                                          \
  static ALWAYS_INLINE Type min(Type x, Type y) { return _mm512_min_##S(x, y); }                             \
  static ALWAYS_INLINE Type max(Type x, Type y) { return _mm512_max_##S(x, y); }                             \
  static ALWAYS_INLINE Type fma(Type x, Type y, Type z) { return _mm512_fmadd_##S(x, y, z); }                \
  static ALWAYS_INLINE Type load(const A* p, int64_t n) { return _mm512_maskz_loadu_##S((1u << n) - 1, p); } \
  static ALWAYS_INLINE void store(A* p, Type x, int64_t n) { _mm512_mask_storeu_##S(p, (1u << n) - 1, x); }
#elif defined(__AVX2__)  // by the names that GCC and clang share, as <immintrin.h> takes half a second to read
#define NATIVE_FUNCTIONS(A, S, Int)                                                          \
  static ALWAYS_INLINE Type min(Type x, Type y) { return __builtin_ia32_min##S##256(x, y); } \
  static ALWAYS_INLINE Type max(Type x, Type y) { return __builtin_ia32_max##S##256(x, y); } \
  static ALWAYS_INLINE Type fma(Type x, Type y, Type z) { return FMA(S, x, y, z); }          \
  static ALWAYS_INLINE Type load(const A* p, int64_t n) {                                    \
    return __builtin_ia32_maskload##S##256(reinterpret_cast<const Type*>(p), first<Int>(n)); \
  }                                                                                          \
  static ALWAYS_INLINE void store(A* p, Type x, int64_t n) {                                 \
    __builtin_ia32_maskstore##S##256(reinterpret_cast<Type*>(p), first<Int>(n), x);          \
  }
#else
#define NATIVE_FUNCTIONS(A, S, Int)                                                 \
  static ALWAYS_INLINE Type min(Type x, Type y) { return x < y ? x : y; }           \
  static ALWAYS_INLINE Type max(Type x, Type y) { return x > y ? x : y; }           \
  static ALWAYS_INLINE Type fma(Type x, Type y, Type z) { return FMA(S, x, y, z); } \
  static ALWAYS_INLINE Type load(const A* p, int64_t n) {                           \
    Type x{};                                                                       \
    for (int64_t i = 0; i < n; ++i) x[i] = p[i];                                    \
    return x;                                                                       \
  }                                                                                 \
  static ALWAYS_INLINE void store(A* p, Type x, int64_t n) {                        \
    for (int64_t i = 0; i < n; ++i) p[i] = x[i];                                    \
  }
#endif

// All bits of the first n lanes.
template <class Int, int... kIndices>
ALWAYS_INLINE Int first_of(int64_t n, std::integer_sequence<int, kIndices...>) {
  using Lane = std::remove_reference_t<decltype(Int{}[0])>;
  return Int{kIndices...} < Int{} + static_cast<Lane>(n);
}

template <class Int>
ALWAYS_INLINE Int first(int64_t n) {
  return first_of<Int>(n, std::make_integer_sequence<int, sizeof(Int) / sizeof(Int{}[0])>());
}

template <>
struct Native<float> {
  typedef float Type __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4)));
  typedef int32_t Int __attribute__((vector_size(kVectorBytes)));
  NATIVE_FUNCTIONS(float, ps, Int)
};

template <>
struct Native<double> {
  typedef double Type __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8)));
  typedef long long Int __attribute__((vector_size(kVectorBytes)));
  NATIVE_FUNCTIONS(double, pd, Int)
};

template <class A>
constexpr int64_t kLanes = kVectorBytes / sizeof(A);

template <class A>
struct Vec {
  using Native = typename hyperlstm::Native<A>::Type;
  using Unaligned = typename hyperlstm::Native<A>::Unaligned;
  using Int = typename hyperlstm::Native<A>::Int;

  Native native{};

  Vec() = default;
  ALWAYS_INLINE explicit Vec(A x) : native(x - Native{}) {}
  ALWAYS_INLINE explicit Vec(const Native& x) : native(x) {}

  static ALWAYS_INLINE Vec loadu(const A* p) {
    // In Vec(Native(..)), clang 19 would give the temporary the alignment of Unaligned, and read it as aligned.
    const Native x = *reinterpret_cast<const Unaligned*>(p);
    return Vec(x);
  }
  ALWAYS_INLINE void store(A* p) const { *reinterpret_cast<Unaligned*>(p) = native; }

  // The first n lanes.
  static ALWAYS_INLINE Vec loadu(const A* p, int64_t n) { return Vec(hyperlstm::Native<A>::load(p, n)); }
  ALWAYS_INLINE void store(A* p, int64_t n) const { hyperlstm::Native<A>::store(p, native, n); }

  friend ALWAYS_INLINE Vec operator+(const Vec& x, const Vec& y) { return Vec(x.native + y.native); }
  friend ALWAYS_INLINE Vec operator-(const Vec& x, const Vec& y) { return Vec(x.native - y.native); }
  friend ALWAYS_INLINE Vec operator*(const Vec& x, const Vec& y) { return Vec(x.native * y.native); }
  friend ALWAYS_INLINE Vec operator/(const Vec& x, const Vec& y) { return Vec(x.native / y.native); }
  ALWAYS_INLINE Vec neg() const { return Vec(-native); }
};

// x y + z: one instruction where there is one.
template <class A>
ALWAYS_INLINE Vec<A> fmadd(const Vec<A>& x, const Vec<A>& y, const Vec<A>& z) {
  return Vec<A>(Native<A>::fma(x.native, y.native, z.native));
}

// Lanes of x, then of y, by their index in the two.
template <int... kIndices, class Native>
ALWAYS_INLINE Native shuffle(const Native& x, const Native& y) {
#ifdef __clang__
  return __builtin_shufflevector(x, y, kIndices...);
#else
  using Mask = decltype(x < y);
  return __builtin_shuffle(x, y, Mask{kIndices...});
#endif
}

// to[i] = from[i] for i < n, at most a vector: with a constant n the loop becomes vector instructions.
template <class A, class To, class From>
ALWAYS_INLINE void convert(const From* from, To* to, int64_t n) {
  if (n == kLanes<A>) {
    for (int64_t i = 0; i < kLanes<A>; ++i) to[i] = static_cast<To>(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(from[i]);
  }
}

#ifdef __AVX512F__
// The bits of n numbers, at most a vector of float32, each in the lower half of a lane; zero in the rest.
ALWAYS_INLINE __m512i load_bits(const BFloat16* p, int64_t n) {
  return _mm512_cvtepu16_epi32(n == kLanes<float> ? _mm256_loadu_epi16(p) : _mm256_maskz_loadu_epi16((1u << n) - 1, p));
}
#endif

// The first n lanes from p, zero in the rest.
template <class T, class A = Acc<T>>
ALWAYS_INLINE Vec<A> load(const T* p, int64_t n = kLanes<A>) {
  if constexpr (std::is_same_v<T, A>) {
    return n == kLanes<A> ? Vec<A>::loadu(p) : Vec<A>::loadu(p, n);
  } else {
#ifdef __AVX512F__
    return Vec<A>((typename Vec<A>::Native)_mm512_slli_epi32(load_bits(p, n), 16));
#else
    alignas(64) A wide[kLanes<A>] = {};
    convert<A>(p, wide, n);
    return Vec<A>::loadu(wide);
#endif
  }
}

// Writes the first n lanes.
template <class T, class A = Acc<T>>
ALWAYS_INLINE void store(T* p, const Vec<Acc<T>>& x, int64_t n = kLanes<Acc<T>>) {
  if constexpr (!std::is_same_v<T, A>) {
#ifdef __AVX512BF16__
    const __m256i bits = (__m256i)_mm512_cvtneps_pbh((__m512)x.native);
    n == kLanes<A> ? _mm256_storeu_epi16(p, bits) : _mm256_mask_storeu_epi16(p, (1u << n) - 1, bits);
#else
    alignas(64) A wide[kLanes<A>];
    x.store(wide);
    convert<A>(wide, p, n);
#endif
  } else if (n == kLanes<A>) {
    x.store(p);
  } else {
    x.store(p, n);
  }
}

// Zero in every lane from n on.
template <class A>
ALWAYS_INLINE Vec<A> first_lanes(const Vec<A>& x, int64_t n) {
  using Int = typename Vec<A>::Int;
  return n == kLanes<A> ? x : Vec<A>((typename Vec<A>::Native)((Int)x.native & first<Int>(n)));
}

// Calls body(j, m) for vectors of m numbers from j on, up to F; m is a constant for whole vectors. A lane has kDepth
// numbers.
template <class A, int kDepth = 1, class Body>
ALWAYS_INLINE void for_vectors(int64_t F, const Body& body) {
  constexpr int64_t V = kLanes<A> * kDepth;
  const int64_t whole = F / V * V;
  for (int64_t j = 0; j < whole; j += V) body(j, V);
  if (whole < F) body(whole, F - whole);
}

// Adds lanes that are `distance` apart, then those half as far, until each lane has the sum of all.
template <class A, int kDistance = kLanes<A> / 2>
ALWAYS_INLINE Vec<A> all_lanes_summed(const Vec<A>& x) {
  if constexpr (kDistance == 0) {
    return x;
  } else {
    const auto other = [&]<int... J>(std::integer_sequence<int, J...>)
                           ALWAYS_INLINE_LAMBDA { return shuffle<(J ^ kDistance)...>(x.native, x.native); };
    const Vec<A> y(other(std::make_integer_sequence<int, kLanes<A>>()));
    return all_lanes_summed<A, kDistance / 2>(x + y);
  }
}

template <class A>
ALWAYS_INLINE A sum_of_lanes(const Vec<A>& x) {
  return all_lanes_summed(x).native[0];
}

// Transposes a square of as many rows as lanes, by swapping blocks off the diagonal, half as large each time.
template <class A, int kBlock = kLanes<A> / 2>
ALWAYS_INLINE void transpose(std::array<Vec<A>, kLanes<A>>& rows) {
  if constexpr (kBlock > 0) {
    constexpr int V = kLanes<A>;
    UNROLL for (int i = 0; i < V; ++i) {
      if (i & kBlock) continue;
      const auto swap = [&]<int... J>(std::integer_sequence<int, J...>) ALWAYS_INLINE_LAMBDA {
        const auto x = rows[i].native, y = rows[i + kBlock].native;
        rows[i] = Vec<A>(shuffle<(J & kBlock ? V + J - kBlock : J)...>(x, y));
        rows[i + kBlock] = Vec<A>(shuffle<(J & kBlock ? V + J : J + kBlock)...>(x, y));
      };
      swap(std::make_integer_sequence<int, V>());
    }
    transpose<A, kBlock / 2>(rows);
  }
}

// Constants of exp: its lowest argument, half of its highest, and ln 2 in two parts.
template <class A>
struct Exponent;

template <>
struct Exponent<float> {
  static constexpr int kMantissa = 23, kTerms = 7;
  static constexpr int32_t kOne = 0x3f800000;  // the bits of 1
  static constexpr float kLow = -87.0f, kHalfOfHigh = 44.0f, kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
};

template <>
struct Exponent<double> {
  static constexpr int kMantissa = 52, kTerms = 13;
  static constexpr int64_t kOne = 0x3ff0000000000000;
  static constexpr double kLow = -708.0, kHalfOfHigh = 354.5, kLn2High = 0x1.62e42fefap-1,
                          kLn2Low = 0x1.cf79abc9e3b3ap-40;
};

// All activations are forced inline: interleaved, the activations of a unit hide each other's latency.
//
// exp(x) - 1 to a few ulp for every x up to `highest`, small ones included; larger x are clamped to it.
// x = n ln 2 + r with |r| <= ln 2 / 2, so exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), with exp(r) - 1 by its Taylor
// series. NaN stays NaN.
template <class A>
ALWAYS_INLINE Vec<A> expm1(Vec<A> x, A highest) {
  using E = Exponent<A>;
  using Native = typename Vec<A>::Native;
  using Int = typename Vec<A>::Int;
  // Adding 1.5 * 2^mantissa rounds to an integer, which is then in the low bits.
  constexpr A kRound = A(3) * A(int64_t(1) << (E::kMantissa - 1));
  constexpr A kLog2e = A(1.4426950408889634074);

  x.native = hyperlstm::Native<A>::max(Vec<A>(E::kLow).native, x.native);
  x.native = hyperlstm::Native<A>::min(Vec<A>(highest).native, x.native);
  const Vec<A> shifted = fmadd(x, Vec<A>(kLog2e), Vec<A>(kRound));
  const Vec<A> n = shifted - Vec<A>(kRound);
  Vec<A> r = fmadd(n, Vec<A>(-E::kLn2High), x);
  r = fmadd(n, Vec<A>(-E::kLn2Low), r);
  const Vec<A> scale(Native(((Int)shifted.native << E::kMantissa) + E::kOne));

  A factorial = A(1);
  std::array<A, E::kTerms + 1> inverse{};
  for (int i = 1; i <= E::kTerms; ++i) inverse[i] = A(1) / (factorial *= A(i));
  Vec<A> q(inverse[E::kTerms]);
  for (int i = E::kTerms - 1; i >= 2; --i) q = fmadd(q, r, Vec<A>(inverse[i]));
  const Vec<A> p = fmadd(q, r * r, r);
  return fmadd(scale, p, scale - Vec<A>(A(1)));
}

// A division takes as long as a dozen multiplications, so two activations share one where they can. Each activation is
// a function of an exponential e, whose limit keeps products of two of them finite: sigmoid(x) = 1 / (e + 2) with
// e = exp(-x) - 1, which at the limit is 0 next to any number above rounding, and tanh(x) = e / (e + 2) with
// e = exp(2x) - 1, which at the limit is 1.
template <class A>
ALWAYS_INLINE Vec<A> sigmoid_expm1(const Vec<A>& x) {
  return expm1<A>(x.neg(), Exponent<A>::kHalfOfHigh);
}

template <class A>
ALWAYS_INLINE Vec<A> tanh_expm1(const Vec<A>& x) {
  return expm1<A>(x + x, A(40));
}

template <class A>
ALWAYS_INLINE Vec<A> sigmoid(const Vec<A>& x) {
  return Vec<A>(A(1)) / (Vec<A>(A(2)) + sigmoid_expm1<A>(x));
}

template <class A>
ALWAYS_INLINE Vec<A> tanh(const Vec<A>& x) {
  const Vec<A> e = tanh_expm1<A>(x);
  return e / (e + Vec<A>(A(2)));
}

// sigmoid(x) tanh(y).
template <class A>
ALWAYS_INLINE Vec<A> gated(const Vec<A>& x, const Vec<A>& y) {
  const Vec<A> two(A(2)), e = tanh_expm1<A>(y);
  return e / ((sigmoid_expm1<A>(x) + two) * (e + two));
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
