// The gates of some units of a row from u, v and their scales, and back.
#pragma once

#include "product.h"

namespace hyperlstm {

// Arrays of each gate k begin k H numbers further on, those of the scales k kBlock; units are counted from the first.
template <class T, int64_t kBlock, class A = Acc<T>>
struct ScaledRow {
  int64_t H;
  const T *u, *v;
  const A* bias;  // gates padded H apart
  A* scale;       // d_h, d_x and d_b [3, 4, kBlock]; then the gradients of these
  T *du, *dv;
  A* wide_du;  // du in the accumulation type, where that is another

  // y = d_h u + d_x v + d_b + bias of vector j, of m units, of gate k.
  C10_ALWAYS_INLINE Vec<A> argument(int64_t k, int64_t j, int64_t m) const {
    const Vec<A> sum = of(2, k, j) + Vec<A>::loadu(bias + k * padded<A>(H) + j);
    return at::vec::fmadd(
        of(0, k, j), load(u + k * H + j, m), at::vec::fmadd(of(1, k, j), load(v + k * H + j, m), sum));
  }

  // From dy: writes du and dv, and in place of the scales their gradients dy u, dy v and dy.
  C10_ALWAYS_INLINE void delta(const Vec<A>& dy, int64_t k, int64_t j, int64_t m) const {
    const int64_t at = k * H + j;
    const Vec<A> d_u = dy * of(0, k, j), d_v = dy * of(1, k, j), from_u = dy * load(u + at, m),
                 from_v = dy * load(v + at, m);
    store(du + at, d_u, m);
    if constexpr (!std::is_same_v<T, A>) store(wide_du + at, d_u, m);
    store(dv + at, d_v, m);
    from_u.store(place(0, k, j));
    from_v.store(place(1, k, j));
    dy.store(place(2, k, j));
  }

  C10_ALWAYS_INLINE A* place(int64_t s, int64_t k, int64_t j) const { return scale + (s * kGates + k) * kBlock + j; }
  C10_ALWAYS_INLINE Vec<A> of(int64_t s, int64_t k, int64_t j) const { return Vec<A>::loadu(place(s, k, j)); }
};

}  // namespace hyperlstm
