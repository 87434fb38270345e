// One LSTM cell on one row: gates to state, and the gradient of the state to that of the gates, with or without norms.
#pragma once

#include <array>
#include <cmath>

#include "product.h"

namespace hyperlstm {

// EPS of definition.py; the build says what it is.
constexpr double kEps = HYPERLSTM_EPS;

// The norms of a cell, padded to whole vectors: of its gates [4, F] and of its cell's output [F]; null without layer
// norm.
template <class A>
struct Norms {
  A *weight = nullptr, *bias = nullptr, *c_weight = nullptr, *c_bias = nullptr;
  explicit operator bool() const { return weight != nullptr; }
};

// Subtracts the mean of each of K arrays y [F], `stride` apart, and divides by its standard deviation, in place;
// returns 1 / deviation. y has zeros up to a whole vector, before and after. Side by side, the arrays hide the latency
// of each other's sums.
template <int K, class A>
std::array<A, K> standardise(A* y, int64_t stride, int64_t F) {
  constexpr int64_t V = kLanes<A>;
  Vec<A> total[K], mean[K], squares[K];
  std::array<A, K> rstd;
  for (int64_t j = 0; j < F; j += V) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) total[k] = total[k] + Vec<A>::loadu(y + k * stride + j);
  }
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) mean[k] = Vec<A>(sum_of_lanes(total[k]) / A(F));
  for (int64_t j = 0; j < F; j += V) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      A* const at = y + k * stride + j;
      const Vec<A> centred = first_lanes(Vec<A>::loadu(at) - mean[k], std::min(V, F - j));
      centred.store(at);
      squares[k] = at::vec::fmadd(centred, centred, squares[k]);
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) rstd[k] = A(1) / std::sqrt(sum_of_lanes(squares[k]) / A(F) + A(kEps));
  for (int64_t j = 0; j < F; j += V) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
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

// What recurrent dropout multiplies the candidate g of some units by: `scale` where they are kept, 0 elsewhere; 1
// without dropout.
template <class A>
struct Mask {
  const bool* kept = nullptr;
  A scale = 1;

  Mask from(int64_t unit) const { return {kept == nullptr ? nullptr : kept + unit, scale}; }

  // The factors of n units from j on, at most a vector.
  C10_ALWAYS_INLINE Vec<A> factors(int64_t j, int64_t n) const {
    if (kept == nullptr) return Vec<A>(A(1));
    std::array<A, kLanes<A>> m{};
    for (int64_t i = 0; i < n; ++i) m[i] = static_cast<A>(kept[j + i]);
    return Vec<A>::loadu(m.data()) * Vec<A>(scale);
  }
};

// The arguments of the gates' activations: vector j of each gate, with norms standardised before.
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

// c of m units from vector j on, from the gates' arguments i, f and g.
template <class A>
C10_ALWAYS_INLINE Vec<A> cell(const Arguments<A>& y, const Mask<A>& mask, const A* c_before, int64_t j, int64_t m) {
  const Vec<A> added = mask.factors(j, m) * gated<A>(y(0, j), y(2, j));
  return at::vec::fmadd(sigmoid<A>(y(1, j)), load(c_before + j, m), added);
}

// Without norms: c and h, rows `stride` apart, of m units of some rows from their gates, a tile [rows, 4, lanes] that
// is overwritten. The cells of all rows come before the first h, since the tanh of a cell has to wait for that cell
// alone.
template <class T, class A = Acc<T>>
inline void cells(
    int64_t rows, A* tile, const Mask<A>& mask, const A* c_before, A* c, T* h, int64_t stride, int64_t m) {
  constexpr int64_t V = kLanes<A>;
  for (int64_t r = 0; r < rows; ++r) {
    A* const y = tile + r * kPanel<A>;
    const int64_t at = r * stride;
    const Vec<A> after = cell<A>({y, V}, mask.from(at), c_before + at, 0, m);
    store(c + at, after, m);
    after.store(y);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const A* const y = tile + r * kPanel<A>;
    store(h + r * stride, gated<A>(Vec<A>::loadu(y + 3 * V), Vec<A>::loadu(y)), m);
  }
}

// With norms: c and h of a whole row of F units; y [4, padded F] and raw [padded F] are overwritten.
template <class T, class A = Acc<T>>
void normed_cell(A* y, const Norms<A>& norms, const Mask<A>& mask, const A* c_before, A* c, T* h, int64_t F, A* raw) {
  constexpr int64_t V = kLanes<A>;
  const int64_t stride = padded<A>(F);
  standardise<kGates>(y, stride, F);
  const Arguments<A> normed{y, stride, norms};
  for (int64_t j = 0; j < F; j += V) {
    const int64_t m = std::min(V, F - j);
    const Vec<A> after = first_lanes(cell(normed, mask, c_before, j, m), m);
    store(c + j, after, m);
    after.store(raw + j);
  }
  standardise<1>(raw, stride, F);
  for (int64_t j = 0; j < F; j += V) {
    const Vec<A> argument = scale_shift(raw + j, norms.c_weight + j, norms.c_bias + j);
    store(h + j, gated<A>(normed(3, j), argument), std::min(V, F - j));
  }
}

// What follows is the same step backwards. dh [F] is the gradient of h; dc [F] that of c from later steps on entry,
// that of c_before on return; y becomes its own gradient. Gates are `stride` apart.

// The gates of a vector of units, activated.
template <class A>
struct Gates {
  Vec<A> i, f, g, o;
};

// Writes vector j of each of the four gates, which are `stride` apart.
template <class A>
C10_ALWAYS_INLINE void store_gates(A* y, int64_t stride, int64_t j, const std::array<Vec<A>, kGates>& gates) {
#pragma GCC unroll 4
  for (int64_t k = 0; k < kGates; ++k) gates[k].store(y + k * stride + j);
}

// argument(k): that of gate k's activation.
template <class A, class Argument>
C10_ALWAYS_INLINE Gates<A> activated(const Argument& argument) {
  const Vec<A> one(A(1)), two(A(2)), of_g = of_tanh<A>(argument(2));
  const Vec<A> below_i = of_sigmoid<A>(argument(0)) + two, below_g = of_g + two;
  const Vec<A> below_f = of_sigmoid<A>(argument(1)) + two, below_o = of_sigmoid<A>(argument(3)) + two;
  const Vec<A> of_ig = one / (below_i * below_g), of_fo = one / (below_f * below_o);
  return {of_ig * below_g, of_fo * below_o, of_g * (of_ig * below_i), of_fo * below_f};
}

// Gradients of the gates before their activations, and of c_before, from those of h and c.
template <class A>
struct GateGradients {
  Vec<A> i, f, g, o, c_before;

  C10_ALWAYS_INLINE GateGradients(
      const Gates<A>& gate, const Vec<A>& m, const Vec<A>& dh, const Vec<A>& dc, const Vec<A>& c,
      const Vec<A>& squashed) {
    const Vec<A> one(A(1));
    i = dc * (m * gate.g) * gate.i * (one - gate.i);
    f = dc * c * gate.f * (one - gate.f);
    g = dc * gate.i * (m * (one - gate.g * gate.g));
    o = dh * squashed * gate.o * (one - gate.o);
    c_before = dc * gate.f;
  }
};

// The gradients of vector j, of m units, of a row without norms; writes dc.
template <class A>
C10_ALWAYS_INLINE GateGradients<A> gate_gradients(
    const Gates<A>& gate, const Mask<A>& mask, const A* c_before, const A* c, const Vec<A>& dh, A* dc, int64_t j,
    int64_t m) {
  const Vec<A> squashed = hyperlstm::tanh<A>(load(c + j, m));
  const Vec<A> d_c = at::vec::fmadd(dh * gate.o, Vec<A>(A(1)) - squashed * squashed, load(dc + j, m));
  const GateGradients<A> d(gate, mask.factors(j, m), dh, d_c, load(c_before + j, m), squashed);
  store(dc + j, d.c_before, m);
  return d;
}

template <class A>
void cell_gradient(
    A* y, int64_t stride, const Mask<A>& mask, const A* c_before, const A* c, const A* dh, A* dc, int64_t F) {
  constexpr int64_t V = kLanes<A>;
  for (int64_t j = 0; j < F; j += V) {
    const int64_t m = std::min(V, F - j);
    const Gates<A> gate = activated<A>([&](int k) { return Vec<A>::loadu(y + k * stride + j); });
    const GateGradients<A> d = gate_gradients(gate, mask, c_before, c, load(dh + j, m), dc, j, m);
    store_gates(y, stride, j, {d.i, d.f, d.g, d.o});
  }
}

// From d, the gradients of the results of K norms, and y, their standardised arguments, whose rstd standardise
// returned: writes those of the arguments to `to`, which may be y, and adds to those of weight and bias; all [F],
// `stride` apart. d is overwritten.
template <int K, class A>
void norm_gradient(
    A* d, const A* y, const std::array<A, K>& rstd, const A* weight, A* d_weight, A* d_bias, A* to, int64_t stride,
    int64_t F) {
  constexpr int64_t V = kLanes<A>;
  Vec<A> total[K], along[K], mean[K], slope[K];
  for (int64_t j = 0; j < F; j += V) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      const int64_t at = k * stride + j;
      const Vec<A> given = Vec<A>::loadu(d + at), value = Vec<A>::loadu(y + at);
      at::vec::fmadd(given, value, Vec<A>::loadu(d_weight + at)).store(d_weight + at);
      (Vec<A>::loadu(d_bias + at) + given).store(d_bias + at);
      const Vec<A> weighted = given * Vec<A>::loadu(weight + at);
      weighted.store(d + at);
      total[k] = total[k] + weighted;
      along[k] = at::vec::fmadd(weighted, value, along[k]);
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) {
    mean[k] = Vec<A>(sum_of_lanes(total[k]) / A(F));
    slope[k] = Vec<A>(sum_of_lanes(along[k]) / A(F));
  }
  for (int64_t j = 0; j < F; j += V) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) {
      const int64_t at = k * stride + j;
      const Vec<A> rest = Vec<A>::loadu(d + at) - mean[k] - Vec<A>::loadu(y + at) * slope[k];
      first_lanes(rest * Vec<A>(rstd[k]), std::min(V, F - j)).store(to + at);
    }
  }
}

// With norms, whose gradients are added to d_norms; scratch holds kNormScratch padded F.
constexpr int64_t kNormScratch = 7;

template <class A>
void normed_cell_gradient(
    A* y, const Norms<A>& norms, const Norms<A>& d_norms, const Mask<A>& mask, const A* c_before, const A* c,
    const A* dh, A* dc, int64_t F, A* scratch) {
  constexpr int64_t V = kLanes<A>;
  const int64_t stride = padded<A>(F);
  A *raw = scratch, *d_cell = raw + stride, *squashed = d_cell + stride, *gates = squashed + stride;
  const auto rstd = standardise<kGates>(y, stride, F);
  for (int64_t j = 0; j < F; j += V) load(c + j, std::min(V, F - j)).store(raw + j);
  const auto c_rstd = standardise<1>(raw, stride, F);
  const Arguments<A> normed{y, stride, norms};
  for (int64_t j = 0; j < F; j += V) {
    const Gates<A> gate = activated<A>([&](int k) { return normed(k, j); });
    const Vec<A> of_c = hyperlstm::tanh<A>(scale_shift(raw + j, norms.c_weight + j, norms.c_bias + j));
    store_gates(gates, stride, j, {gate.i, gate.f, gate.g, gate.o});
    of_c.store(squashed + j);
    (load(dh + j, std::min(V, F - j)) * gate.o * (Vec<A>(A(1)) - of_c * of_c)).store(d_cell + j);
  }
  norm_gradient<1>(d_cell, raw, c_rstd, norms.c_weight, d_norms.c_weight, d_norms.c_bias, d_cell, stride, F);
  for (int64_t j = 0; j < F; j += V) {
    const int64_t m = std::min(V, F - j);
    const auto kept = [&](int k) { return Vec<A>::loadu(gates + k * stride + j); };
    const GateGradients<A> d(
        {kept(0), kept(1), kept(2), kept(3)}, mask.factors(j, m), load(dh + j, m),
        load(dc + j, m) + Vec<A>::loadu(d_cell + j), load(c_before + j, m), Vec<A>::loadu(squashed + j));
    store_gates(gates, stride, j, {d.i, d.f, d.g, d.o});
    store(dc + j, d.c_before, m);
  }
  norm_gradient<kGates>(gates, y, rstd, norms.weight, d_norms.weight, d_norms.bias, y, stride, F);
}

}  // namespace hyperlstm
