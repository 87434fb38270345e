// The LSTM cell with layer norm, forwards and backwards, for a few whole rows at a time: while the sums of one row are
// reduced, the next row is read.
#pragma once

#include <cmath>

#include "cell.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// EPS of definition.py, set by the build.
constexpr double kEps = HYPERLSTM_EPS;

// The sums over all lanes of K vectors, divided by F.
template <int K, class A>
ALWAYS_INLINE std::array<A, K> means(const Vec<A> (&sum)[K], int64_t F) {
  std::array<A, K> found;
  UNROLL for (int k = 0; k < K; ++k) found[k] = sum_of_lanes(sum[k]);
  for (A& x : found) x *= A(1) / A(F);
  return found;
}

// Of K arrays that are standardised: x = (y - mean) rstd.
template <int K, class A>
struct Moments {
  std::array<A, K> mean, rstd;

  // Of arrays y [F], `stride` apart.
  Moments(const A* y, int64_t stride, int64_t F) {
    Vec<A> sum[K], squares[K];
    for_vectors<A>(F, [&](int64_t j, int64_t m) ALWAYS_INLINE_LAMBDA {
      UNROLL for (int k = 0; k < K; ++k) sum[k] = sum[k] + load(y + k * stride + j, m);
    });
    mean = means<K, A>(sum, F);
    for_vectors<A>(F, [&](int64_t j, int64_t m) ALWAYS_INLINE_LAMBDA {
      UNROLL for (int k = 0; k < K; ++k) {
        const Vec<A> centred = first_lanes(load(y + k * stride + j, m) - Vec<A>(mean[k]), m);
        squares[k] = fmadd(centred, centred, squares[k]);
      }
    });
    rstd = means<K, A>(squares, F);
    // Of a variance that overflows 1 / std is 0, so that what is lost would look like numbers: NaN, as in torch.
    for (A& x : rstd) x = (A(1) + A(0) * x) / std::sqrt(x + A(kEps));
  }
  Moments() = default;

  ALWAYS_INLINE Vec<A> standardise(int k, const Vec<A>& y) const { return (y - Vec<A>(mean[k])) * Vec<A>(rstd[k]); }
};

// The backward pass of K norms, with x their standardised arguments and `weighted` the gradients of their results times
// their weights: the gradients of their arguments are (weighted - mean(weighted) - x mean(weighted x)) rstd.
template <int K, class A>
struct NormBackward {
  std::array<A, K> rstd, shift, slope;

  NormBackward(const std::array<A, K>& rstd, const Vec<A> (&sum)[K], const Vec<A> (&sum_x)[K], int64_t F)
      : rstd(rstd), shift(means<K, A>(sum, F)), slope(means<K, A>(sum_x, F)) {
    for (int k = 0; k < K; ++k) shift[k] *= rstd[k];
    for (int k = 0; k < K; ++k) slope[k] *= rstd[k];
  }
  NormBackward() = default;

  ALWAYS_INLINE Vec<A> operator()(int k, const Vec<A>& weighted, const Vec<A>& x) const {
    return fmadd(weighted, Vec<A>(rstd[k]), Vec<A>(shift[k]).neg()) - x * Vec<A>(slope[k]);
  }
};

template <class A>
ALWAYS_INLINE Vec<A> affine(const Vec<A>& x, const A* weight, const A* bias) {
  return fmadd(x, Vec<A>::loadu(weight), Vec<A>::loadu(bias));
}

// c and h of up to kGroup rows.
template <class T, class A = Acc<T>>
void normed_cells(const Cell<T>& cell, int64_t rows) {
  const Norms<A>& norms = cell.norms;
  const int64_t F = cell.F, stride = padded<A>(F);
  std::array<Moments<kGates, A>, kGroup> of_y;
  std::array<Moments<1, A>, kGroup> of_c;
  const auto argument = [&](int64_t r, int k, int64_t j) ALWAYS_INLINE_LAMBDA {
    const int64_t at = k * stride + j;
    const Vec<A> y = Vec<A>::loadu(cell.y + r * kGates * stride + at);
    return affine(of_y[r].standardise(k, y), norms.weight + at, norms.bias + at);
  };
  for (int64_t r = 0; r < rows; ++r) of_y[r] = {cell.y + r * kGates * stride, stride, F};
  for (int64_t r = 0; r < rows; ++r) {
    const Cell<T> row = cell.from(r);
    for_vectors<A>(F, [&](int64_t j, int64_t m) ALWAYS_INLINE_LAMBDA {
      const Vec<A> factors = row.mask.factors(j, m), c_before = load(row.c_before + j, m);
      store(row.c + j, next_c<A>(argument(r, 0, j), argument(r, 1, j), argument(r, 2, j), factors, c_before), m);
    });
  }
  for (int64_t r = 0; r < rows; ++r) of_c[r] = {cell.c + r * F, 0, F};
  for (int64_t r = 0; r < rows; ++r) {
    for_vectors<A>(F, [&](int64_t j, int64_t m) ALWAYS_INLINE_LAMBDA {
      const Vec<A> x = of_c[r].standardise(0, load(cell.c + r * F + j, m));
      const Vec<A> c = affine(x, norms.c_weight + j, norms.c_bias + j);
      store(cell.h + r * F + j, gated<A>(argument(r, 3, j), c), m);
    });
  }
}

// Up to kGroup rows between the passes of their backward step: the gates y before their norms, [rows, 4, padded F],
// then standardised, and the gradients d of the norms' results.
template <class A>
struct NormedRows {
  A *y, *d;
  NormBackward<kGates, A>* norms;

  NormedRows from(int64_t r, int64_t F) const {
    const int64_t at = r * kGates * padded<A>(F);
    return {y + at, d + at, norms + r};
  }
};

// Standardises y, writes the rest of `at`, updates dc, and adds to the gradients of the norm of c. tanh_c is scratch,
// [rows, padded F].
template <class A>
void normed_cells_backward(
    const NormedRows<A>& at, int64_t rows, const Norms<A>& norms, const Norms<A>& d_norms, const CellBackward<A>& cells,
    int64_t F, A* tanh_c) {
  const int64_t stride = padded<A>(F);
  std::array<Moments<kGates, A>, kGroup> of_y;
  std::array<Moments<1, A>, kGroup> of_c;
  std::array<NormBackward<1, A>, kGroup> c_backward;
  for (int64_t r = 0; r < rows; ++r) {
    of_y[r] = {at.y + r * kGates * stride, stride, F};
    of_c[r] = {cells.c + r * F, 0, F};
  }
  // The gradient of the result of the norm of c, from dh and the gate o.
  const auto d_normed_c = [](const Vec<A>& dh, const Vec<A>& o, const Vec<A>& t)
                              ALWAYS_INLINE_LAMBDA { return dh * o * (Vec<A>(A(1)) - t * t); };
  for (int64_t r = 0; r < rows; ++r) {
    const CellBackward<A> cell = cells.from(r * F);
    A *const y = at.y + r * kGates * stride, *const gates = at.d + r * kGates * stride, *const t = tanh_c + r * stride;
    Vec<A> sum[1], sum_x[1];
    for_vectors<A>(F, [&](int64_t j, int64_t m) ALWAYS_INLINE_LAMBDA {
      const Gates<A> gate = activated<A>([&](int k) ALWAYS_INLINE_LAMBDA {
        const int64_t place = k * stride + j;
        const Vec<A> x = of_y[r].standardise(k, Vec<A>::loadu(y + place));
        x.store(y + place);
        return affine(x, norms.weight + place, norms.bias + place);
      });
      gate.store(gates, stride, j);
      const Vec<A> x = of_c[r].standardise(0, load(cell.c + j, m));
      const Vec<A> squashed = hyperlstm::tanh<A>(affine(x, norms.c_weight + j, norms.c_bias + j));
      squashed.store(t + j);
      const Vec<A> d = d_normed_c(load(cell.dh + j, m), gate.o, squashed);
      fmadd(d, x, Vec<A>::loadu(d_norms.c_weight + j)).store(d_norms.c_weight + j);
      (Vec<A>::loadu(d_norms.c_bias + j) + d).store(d_norms.c_bias + j);
      const Vec<A> weighted = d * Vec<A>::loadu(norms.c_weight + j);
      sum[0] = sum[0] + weighted;
      sum_x[0] = fmadd(weighted, x, sum_x[0]);
    });
    c_backward[r] = {of_c[r].rstd, sum, sum_x, F};
  }
  for (int64_t r = 0; r < rows; ++r) {
    const CellBackward<A> cell = cells.from(r * F);
    A *const y = at.y + r * kGates * stride, *const gates = at.d + r * kGates * stride, *const t = tanh_c + r * stride;
    Vec<A> sum[kGates], sum_x[kGates];
    for_vectors<A>(F, [&](int64_t j, int64_t m) ALWAYS_INLINE_LAMBDA {
      const Gates<A> gate = Gates<A>::load(gates, stride, j);
      const Vec<A> squashed = Vec<A>::loadu(t + j), dh = load(cell.dh + j, m);
      const Vec<A> x = of_c[r].standardise(0, load(cell.c + j, m));
      const Vec<A> weighted_c = d_normed_c(dh, gate.o, squashed) * Vec<A>::loadu(norms.c_weight + j);
      const Vec<A> dc = first_lanes(load(cell.dc + j, m) + c_backward[r](0, weighted_c, x), m);
      const Vec<A> factors = cell.mask.factors(j, m), c_before = load(cell.c_before + j, m);
      const Gates<A> d = gate_gradients(gate, factors, dh, dc, c_before, squashed);
      d.store(gates, stride, j);
      store(cell.dc + j, dc * gate.f, m);
      const std::array<Vec<A>, kGates> all{d.i, d.f, d.g, d.o};
      UNROLL for (int k = 0; k < kGates; ++k) {
        const Vec<A> weighted = all[k] * Vec<A>::loadu(norms.weight + k * stride + j);
        sum[k] = sum[k] + weighted;
        sum_x[k] = fmadd(weighted, Vec<A>::loadu(y + k * stride + j), sum_x[k]);
      }
    });
    at.norms[r] = {of_y[r].rstd, sum, sum_x, F};
  }
}

// Calls take(r, dy) with the gradient of vector j, of m units, of y of gate k of each row, and adds to the gradients of
// the gates' norms.
template <int kRows, class A, class Take>
ALWAYS_INLINE void for_gate_gradients(
    const NormedRows<A>& at, int64_t rows, const Norms<A>& norms, const Norms<A>& d_norms, int64_t F, int64_t k,
    int64_t j, int64_t m, const Take& take) {
  const int64_t stride = padded<A>(F), place = k * stride + j;
  const Vec<A> weight = Vec<A>::loadu(norms.weight + place);
  Vec<A> d_weight = Vec<A>::loadu(d_norms.weight + place), d_bias = Vec<A>::loadu(d_norms.bias + place);
  UNROLL for (int64_t r = 0; r < kRows; ++r) {
    if (r >= rows) break;
    const int64_t in_row = r * kGates * stride + place;
    const Vec<A> d = Vec<A>::loadu(at.d + in_row), x = Vec<A>::loadu(at.y + in_row);
    d_weight = fmadd(d, x, d_weight);
    d_bias = d_bias + d;
    take(r, first_lanes(at.norms[r](k, d * weight, x), m));
  }
  d_weight.store(d_norms.weight + place);
  d_bias.store(d_norms.bias + place);
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
