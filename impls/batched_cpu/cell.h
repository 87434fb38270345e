// One LSTM cell on one row, from gates to state and back, with or without norms.
#pragma once

#include <array>
#include <cmath>

#include "product.h"

namespace hyperlstm {

// EPS of definition.py, set by the build.
constexpr double kEps = HYPERLSTM_EPS;

// The parameters of a cell's norms, padded to whole vectors: of its gates [4, F] and of c [F]; null without layer norm.
template <class A>
struct Norms {
  A *weight = nullptr, *bias = nullptr, *c_weight = nullptr, *c_bias = nullptr;
  explicit operator bool() const { return weight != nullptr; }
};

// Standardises each of K arrays y [F], `stride` apart, in place: mean 0, variance 1. Returns 1 / standard deviation. y
// is zero-padded to a whole vector, before and after. Interleaved, the arrays hide the latency of each other's sums.
template <int K, class A>
std::array<A, K> standardise(A* y, int64_t stride, int64_t F) {
  constexpr int64_t V = kLanes<A>;
  Vec<A> total[K], mean[K], squares[K];
  std::array<A, K> rstd;
  for (int64_t j = 0; j < F; j += V) {
    UNROLL for (int k = 0; k < K; ++k) total[k] = total[k] + Vec<A>::loadu(y + k * stride + j);
  }
  UNROLL for (int k = 0; k < K; ++k) mean[k] = Vec<A>(sum_of_lanes(total[k]) / A(F));
  for (int64_t j = 0; j < F; j += V) {
    UNROLL for (int k = 0; k < K; ++k) {
      A* const at = y + k * stride + j;
      const Vec<A> centred = first_lanes(Vec<A>::loadu(at) - mean[k], std::min(V, F - j));
      centred.store(at);
      squares[k] = at::vec::fmadd(centred, centred, squares[k]);
    }
  }
  UNROLL for (int k = 0; k < K; ++k) rstd[k] = A(1) / std::sqrt(sum_of_lanes(squares[k]) / A(F) + A(kEps));
  for (int64_t j = 0; j < F; j += V) {
    UNROLL for (int k = 0; k < K; ++k) {
      A* const at = y + k * stride + j;
      (Vec<A>::loadu(at) * Vec<A>(rstd[k])).store(at);
    }
  }
  return rstd;
}

template <class A>
C10_ALWAYS_INLINE Vec<A> scale_shift(const A* y, const A* weight, const A* bias) {
  return at::vec::fmadd(Vec<A>::loadu(y), Vec<A>::loadu(weight), Vec<A>::loadu(bias));
}

// The factors of recurrent dropout on the candidate g: `scale` where `keep`, 0 elsewhere; 1 without dropout.
template <class A>
struct Mask {
  const bool* keep = nullptr;
  A scale = 1;

  Mask from(int64_t unit) const { return {keep == nullptr ? nullptr : keep + unit, scale}; }

  // Those of n units from j on, at most a vector.
  C10_ALWAYS_INLINE Vec<A> factors(int64_t j, int64_t n) const {
    if (keep == nullptr) return Vec<A>(A(1));
    std::array<A, kLanes<A>> m{};
    for (int64_t i = 0; i < n; ++i) m[i] = static_cast<A>(keep[j + i]);
    return Vec<A>::loadu(m.data()) * Vec<A>(scale);
  }
};

// The arguments of the gates' activations: vector j of gate k; with norms, y is already standardised.
template <class A>
struct Arguments {
  const A* y;
  int64_t stride;  // from gate to gate
  Norms<A> norms = {};

  C10_ALWAYS_INLINE Vec<A> operator()(int64_t k, int64_t j) const {
    const int64_t at = k * stride + j;
    return norms ? scale_shift(y + at, norms.weight + at, norms.bias + at) : Vec<A>::loadu(y + at);
  }
};

// The arrays of one step of an LSTM of F units, from some row and unit on: y of a row is [4, padded F], the others [F].
template <class T, class A = Acc<T>>
struct Cell {
  int64_t F;
  Norms<A> norms;
  Mask<A> mask;
  const A* c_before;
  A* c;
  T* h;
  A* y;  // gates before their norm; null without

  Cell from(int64_t row, int64_t unit = 0) const {
    const int64_t at = row * F + unit;
    return {F, norms, mask.from(at), c_before + at, c + at, h + at, norms ? y + row * kGates * padded<A>(F) : nullptr};
  }
};

// c of m units from vector j on, from the gates' arguments i, f and g.
template <class A>
C10_ALWAYS_INLINE Vec<A> next_c(const Arguments<A>& y, const Mask<A>& mask, const A* c_before, int64_t j, int64_t m) {
  const Vec<A> added = mask.factors(j, m) * gated<A>(y(0, j), y(2, j));
  return at::vec::fmadd(sigmoid<A>(y(1, j)), load(c_before + j, m), added);
}

// Without norms: c and h of m units of some rows from their gates, a tile [rows, 4, lanes] that is overwritten. c of
// all rows is computed before the first h, so that no tanh waits for its own c.
template <class T, class A = Acc<T>>
inline void cells(const Cell<T>& cell, int64_t rows, A* tile, int64_t m) {
  constexpr int64_t V = kLanes<A>;
  for (int64_t r = 0; r < rows; ++r) {
    A* const y = tile + r * kPanel<A>;
    const int64_t at = r * cell.F;
    const Vec<A> c = next_c<A>({y, V}, cell.mask.from(at), cell.c_before + at, 0, m);
    store(cell.c + at, c, m);
    c.store(y);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const A* const y = tile + r * kPanel<A>;
    store(cell.h + r * cell.F, gated<A>(Vec<A>::loadu(y + 3 * V), Vec<A>::loadu(y)), m);
  }
}

// With norms: c and h of a whole row; overwrites y and raw [padded F].
template <class T, class A = Acc<T>>
void normed_cell(const Cell<T>& cell, A* raw) {
  constexpr int64_t V = kLanes<A>;
  const Norms<A>& norms = cell.norms;
  const int64_t F = cell.F, stride = padded<A>(F);
  standardise<kGates>(cell.y, stride, F);
  const Arguments<A> y{cell.y, stride, norms};
  for (int64_t j = 0; j < F; j += V) {
    const int64_t m = std::min(V, F - j);
    const Vec<A> c = first_lanes(next_c(y, cell.mask, cell.c_before, j, m), m);
    store(cell.c + j, c, m);
    c.store(raw + j);
  }
  standardise<1>(raw, stride, F);
  for (int64_t j = 0; j < F; j += V) {
    const Vec<A> argument = scale_shift(raw + j, norms.c_weight + j, norms.c_bias + j);
    store(cell.h + j, gated<A>(y(3, j), argument), std::min(V, F - j));
  }
}

// The rest of the file is the same step backwards.

// The arrays of a step, [F] per row, from some row and unit on: dh is the gradient of h, dc on entry that of c from
// later steps, on return that of c_before.
template <class A>
struct CellBackward {
  Mask<A> mask;
  const A *c_before, *c;
  A *dh, *dc;

  CellBackward from(int64_t at) const { return {mask.from(at), c_before + at, c + at, dh + at, dc + at}; }
};

// A vector of units of each gate: activated, or the gradients of the activations' arguments.
template <class A>
struct Gates {
  Vec<A> i, f, g, o;

  // Writes them to vector j of the gates y, which are `stride` apart.
  C10_ALWAYS_INLINE void store(A* y, int64_t stride, int64_t j) const {
    i.store(y + j);
    f.store(y + stride + j);
    g.store(y + 2 * stride + j);
    o.store(y + 3 * stride + j);
  }
};

// The gates from argument(k), that of gate k's activation.
template <class A, class Argument>
C10_ALWAYS_INLINE Gates<A> activated(const Argument& argument) {
  const Vec<A> one(A(1)), two(A(2)), e_g = tanh_expm1<A>(argument(2));
  const Vec<A> below_i = sigmoid_expm1<A>(argument(0)) + two, below_g = e_g + two;
  const Vec<A> below_f = sigmoid_expm1<A>(argument(1)) + two, below_o = sigmoid_expm1<A>(argument(3)) + two;
  const Vec<A> inv_ig = one / (below_i * below_g), inv_fo = one / (below_f * below_o);
  return {inv_ig * below_g, inv_fo * below_o, e_g * (inv_ig * below_i), inv_fo * below_f};
}

// From the gradients of h and c; m: factors of dropout.
template <class A>
C10_ALWAYS_INLINE Gates<A> gate_gradients(
    const Gates<A>& gate, const Vec<A>& m, const Vec<A>& dh, const Vec<A>& dc, const Vec<A>& c_before,
    const Vec<A>& tanh_c) {
  const Vec<A> one(A(1));
  return {
      dc * (m * gate.g) * gate.i * (one - gate.i), dc * c_before * gate.f * (one - gate.f),
      dc * gate.i * (m * (one - gate.g * gate.g)), dh * tanh_c * gate.o * (one - gate.o)};
}

// The gradients of vector j, of m units, of a row without norms; updates dc.
template <class A>
C10_ALWAYS_INLINE Gates<A> cell_gradient(
    const Gates<A>& gate, const CellBackward<A>& cell, const Vec<A>& dh, int64_t j, int64_t m) {
  const Vec<A> tanh_c = hyperlstm::tanh<A>(load(cell.c + j, m));
  const Vec<A> dc = at::vec::fmadd(dh * gate.o, Vec<A>(A(1)) - tanh_c * tanh_c, load(cell.dc + j, m));
  const Gates<A> d = gate_gradients(gate, cell.mask.factors(j, m), dh, dc, load(cell.c_before + j, m), tanh_c);
  store(cell.dc + j, dc * gate.f, m);
  return d;
}

// Replaces the gates y of a row without norms by their gradients.
template <class A>
void row_gradient(A* y, int64_t stride, const CellBackward<A>& cell, int64_t F) {
  constexpr int64_t V = kLanes<A>;
  for (int64_t j = 0; j < F; j += V) {
    const int64_t m = std::min(V, F - j);
    const Gates<A> gate = activated<A>([&](int k) { return Vec<A>::loadu(y + k * stride + j); });
    cell_gradient(gate, cell, load(cell.dh + j, m), j, m).store(y, stride, j);
  }
}

// Of K norms, from d, the gradients of their results, and y and rstd, which standardise returned: writes the gradients
// of their arguments to `to`, which may be y, and adds to those of weight and bias; all [F], `stride` apart. Overwrites
// d.
template <int K, class A>
void norm_gradient(
    A* d, const A* y, const std::array<A, K>& rstd, const A* weight, A* d_weight, A* d_bias, A* to, int64_t stride,
    int64_t F) {
  constexpr int64_t V = kLanes<A>;
  Vec<A> sum[K], sum_y[K], mean[K], slope[K];
  for (int64_t j = 0; j < F; j += V) {
    UNROLL for (int k = 0; k < K; ++k) {
      const int64_t at = k * stride + j;
      const Vec<A> given = Vec<A>::loadu(d + at), value = Vec<A>::loadu(y + at);
      at::vec::fmadd(given, value, Vec<A>::loadu(d_weight + at)).store(d_weight + at);
      (Vec<A>::loadu(d_bias + at) + given).store(d_bias + at);
      const Vec<A> weighted = given * Vec<A>::loadu(weight + at);
      weighted.store(d + at);
      sum[k] = sum[k] + weighted;
      sum_y[k] = at::vec::fmadd(weighted, value, sum_y[k]);
    }
  }
  UNROLL for (int k = 0; k < K; ++k) {
    mean[k] = Vec<A>(sum_of_lanes(sum[k]) / A(F));
    slope[k] = Vec<A>(sum_of_lanes(sum_y[k]) / A(F));
  }
  for (int64_t j = 0; j < F; j += V) {
    UNROLL for (int k = 0; k < K; ++k) {
      const int64_t at = k * stride + j;
      const Vec<A> rest = Vec<A>::loadu(d + at) - mean[k] - Vec<A>::loadu(y + at) * slope[k];
      first_lanes(rest * Vec<A>(rstd[k]), std::min(V, F - j)).store(to + at);
    }
  }
}

constexpr int64_t kNormScratch = 7;

// The same of a row with norms, whose gradients it adds to d_norms; scratch holds kNormScratch padded F.
template <class A>
void normed_row_gradient(
    A* y, const Norms<A>& norms, const Norms<A>& d_norms, const CellBackward<A>& cell, int64_t F, A* scratch) {
  constexpr int64_t V = kLanes<A>;
  const int64_t stride = padded<A>(F);
  A *raw = scratch, *d_cell = raw + stride, *tanh_c = d_cell + stride, *gates = tanh_c + stride;
  const auto rstd = standardise<kGates>(y, stride, F);
  for (int64_t j = 0; j < F; j += V) load(cell.c + j, std::min(V, F - j)).store(raw + j);
  const auto c_rstd = standardise<1>(raw, stride, F);
  const Arguments<A> normed{y, stride, norms};
  for (int64_t j = 0; j < F; j += V) {
    const Gates<A> gate = activated<A>([&](int k) { return normed(k, j); });
    const Vec<A> squashed = hyperlstm::tanh<A>(scale_shift(raw + j, norms.c_weight + j, norms.c_bias + j));
    gate.store(gates, stride, j);
    squashed.store(tanh_c + j);
    (load(cell.dh + j, std::min(V, F - j)) * gate.o * (Vec<A>(A(1)) - squashed * squashed)).store(d_cell + j);
  }
  norm_gradient<1>(d_cell, raw, c_rstd, norms.c_weight, d_norms.c_weight, d_norms.c_bias, d_cell, stride, F);
  for (int64_t j = 0; j < F; j += V) {
    const int64_t m = std::min(V, F - j);
    const auto gate = [&](int k) { return Vec<A>::loadu(gates + k * stride + j); };
    const Gates<A> activated{gate(0), gate(1), gate(2), gate(3)};
    const Vec<A> dh = load(cell.dh + j, m), dc = load(cell.dc + j, m) + Vec<A>::loadu(d_cell + j);
    const Vec<A> c_before = load(cell.c_before + j, m);
    gate_gradients(activated, cell.mask.factors(j, m), dh, dc, c_before, Vec<A>::loadu(tanh_c + j))
        .store(gates, stride, j);
    store(cell.dc + j, dc * activated.f, m);
  }
  norm_gradient<kGates>(gates, y, rstd, norms.weight, d_norms.weight, d_norms.bias, y, stride, F);
}

}  // namespace hyperlstm
