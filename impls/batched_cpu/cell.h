// The LSTM cell without layer norm, forwards and backwards, and what it shares with the cell of normed_cell.h.
#pragma once

#include "product.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// The parameters of a cell's norms, padded to whole vectors: of its gates [4, F] and of c [F]; null without layer norm.
template <class A>
struct Norms {
  A *weight = nullptr, *bias = nullptr, *c_weight = nullptr, *c_bias = nullptr;
  explicit operator bool() const { return weight != nullptr; }
};

// Rows that a pass over units processes together.
constexpr int kGroup = 4;

// The factors of recurrent dropout on the candidate g: `scale` where `keep`, 0 elsewhere; 1 without dropout.
template <class A>
struct Mask {
  const bool* keep = nullptr;
  A scale = 1;

  Mask from(int64_t unit) const { return {keep == nullptr ? nullptr : keep + unit, scale}; }

  // Those of n units from j on, at most a vector.
  ALWAYS_INLINE Vec<A> factors(int64_t j, int64_t n) const {
    if (keep == nullptr) return Vec<A>(A(1));
    std::array<A, kLanes<A>> m{};
    for (int64_t i = 0; i < n; ++i) m[i] = static_cast<A>(keep[j + i]);
    return Vec<A>::loadu(m.data()) * Vec<A>(scale);
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

// From the arguments of the gates; m: factors of dropout.
template <class A>
ALWAYS_INLINE Vec<A> next_c(
    const Vec<A>& i, const Vec<A>& f, const Vec<A>& g, const Vec<A>& m, const Vec<A>& c_before) {
  const Vec<A> added = m * gated<A>(i, g);
  return fmadd(sigmoid<A>(f), c_before, added);
}

// Without norms: c and h of m units of some rows from their gates, a tile [rows, 4, lanes] that is overwritten. c of
// all rows is computed before the first h, so that no tanh waits for its own c.
template <class T, class A = Acc<T>>
inline void cells(const Cell<T>& cell, int64_t rows, A* tile, int64_t m) {
  constexpr int64_t V = kLanes<A>;
  for (int64_t r = 0; r < rows; ++r) {
    A* const y = tile + r * kPanel<A>;
    const int64_t at = r * cell.F;
    const auto gate = [=](int k) { return Vec<A>::loadu(y + k * V); };
    const Vec<A> factors = cell.mask.factors(at, m), c_before = load(cell.c_before + at, m);
    const Vec<A> c = next_c<A>(gate(0), gate(1), gate(2), factors, c_before);
    store(cell.c + at, c, m);
    c.store(y);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const A* const y = tile + r * kPanel<A>;
    store(cell.h + r * cell.F, gated<A>(Vec<A>::loadu(y + 3 * V), Vec<A>::loadu(y)), m);
  }
}

// The rest of the file is the backward pass of the same step.

// The arrays of a step, [F] per row, from some row and unit on. dh: gradient of h. dc: in: gradient of c from later
// steps; out: gradient of c_before.
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

  static Gates load(const A* y, int64_t stride, int64_t j) {
    const auto gate = [=](int k) { return Vec<A>::loadu(y + k * stride + j); };
    return {gate(0), gate(1), gate(2), gate(3)};
  }

  // Writes them to vector j of the gates y, which are `stride` apart.
  ALWAYS_INLINE void store(A* y, int64_t stride, int64_t j) const {
    i.store(y + j);
    f.store(y + stride + j);
    g.store(y + 2 * stride + j);
    o.store(y + 3 * stride + j);
  }
};

// The gates from argument(k), the argument of gate k's activation. f is a quotient by itself, which is 1 if the gate is
// open: c, which may be large, multiplies 1 - f.
template <class A, class Argument>
ALWAYS_INLINE Gates<A> activated(const Argument& argument) {
  const Vec<A> one(A(1)), two(A(2)), e_g = tanh_expm1<A>(argument(2));
  const Vec<A> below_i = sigmoid_expm1<A>(argument(0)) + two, below_g = e_g + two;
  const Vec<A> f = one / (sigmoid_expm1<A>(argument(1)) + two), o = one / (sigmoid_expm1<A>(argument(3)) + two);
  const Vec<A> inv_ig = one / (below_i * below_g);
  return {inv_ig * below_g, f, e_g * (inv_ig * below_i), o};
}

// From the gradients of h and c; m: factors of dropout.
template <class A>
ALWAYS_INLINE Gates<A> gate_gradients(
    const Gates<A>& gate, const Vec<A>& m, const Vec<A>& dh, const Vec<A>& dc, const Vec<A>& c_before,
    const Vec<A>& tanh_c) {
  const Vec<A> one(A(1));
  return {
      dc * (m * gate.g) * gate.i * (one - gate.i), dc * c_before * gate.f * (one - gate.f),
      dc * gate.i * (m * (one - gate.g * gate.g)), dh * tanh_c * gate.o * (one - gate.o)};
}

// The gradients of vector j, of m units, of a row without norms; updates dc.
template <class A>
ALWAYS_INLINE Gates<A> cell_gradient(
    const Gates<A>& gate, const CellBackward<A>& cell, const Vec<A>& dh, int64_t j, int64_t m) {
  const Vec<A> tanh_c = hyperlstm::tanh<A>(load(cell.c + j, m));
  const Vec<A> dc = fmadd(dh * gate.o, Vec<A>(A(1)) - tanh_c * tanh_c, load(cell.dc + j, m));
  const Gates<A> d = gate_gradients(gate, cell.mask.factors(j, m), dh, dc, load(cell.c_before + j, m), tanh_c);
  store(cell.dc + j, dc * gate.f, m);
  return d;
}

// Replaces the gates y of a row without norms by their gradients.
template <class A>
void row_gradient(A* y, int64_t stride, const CellBackward<A>& cell, int64_t F) {
  for_vectors<A>(F, [&](int64_t j, int64_t m) ALWAYS_INLINE_LAMBDA {
    const Gates<A> gate = activated<A>([&](int k) { return Vec<A>::loadu(y + k * stride + j); });
    cell_gradient(gate, cell, load(cell.dh + j, m), j, m).store(y, stride, j);
  });
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
