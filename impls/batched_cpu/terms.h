// The terms that sums of products consist of: a lane adds the products of kDepth numbers at a time.
#pragma once

#include "vec.h"

namespace hyperlstm::inline HYPERLSTM_SET {

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

}  // namespace hyperlstm::inline HYPERLSTM_SET
