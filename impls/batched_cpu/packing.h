// The parameters of a layer as the sweeps read them: packed and padded once a sequence.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <array>

#include "cell.h"
#include "jobs.h"
#include "memory.h"
#include "stored.h"

namespace hyperlstm {

struct Sizes {
  int64_t H, S, Z, I;
};

using Tensors = std::vector<at::Tensor>;

// The parameters in the order of LayerParams. Those of the norms come last; only the first of them has a name.
enum Param {
  kWeightX,
  kWeightH,
  kBias,
  kHyperWeightX,
  kHyperWeightH,
  kHyperWeightS,
  kHyperBias,
  kZWeight,
  kZBias,
  kDWeight,
  kNorms
};

// Their names in LayerParams.
constexpr std::array<const char*, kNorms + 1> kParamNames{
    "weight_x",   "weight_h", "bias",   "hyper_weight_x", "hyper_weight_h", "hyper_weight_s",
    "hyper_bias", "z_weight", "z_bias", "d_weight",       "norm_weight"};

// What the forward pass leaves of a row and step, so that the backward pass need not compute it again: u [4H], the
// hyper LSTM's gates before their norm [4S] and, if `has_v`, v [4H].
template <class T>
struct Residuals {
  T* numbers;
  int64_t stride;
  bool has_v;

  static int64_t width(const Sizes& size, bool has_v) { return (has_v ? 8 : 4) * size.H + 4 * size.S; }
  T* u(int64_t row) const { return numbers + row * stride; }
  T* a(int64_t row, const Sizes& size) const { return u(row) + 4 * size.H; }
  T* v(int64_t row, const Sizes& size) const { return a(row, size) + 4 * size.S; }
};

// Whether a sequence of B rows is better off without packing its largest matrices.
inline bool few(const Sizes& size, int64_t B) { return B <= kFew && 4 * (size.H + size.S) * size.H >= kWorthSparing; }

inline Sizes sizes(const Tensors& p) {
  return {p[kBias].size(1), p[kHyperBias].size(1), p[kZBias].size(2), p[kWeightX].size(2)};
}

// The packed arrays of either sweep; which of them are there depends on the direction.
template <class A>
struct Packed {
  A* scales;  // [panels of H, 4, Z, 3, lanes], d_weight
  A* bias;    // [4, padded H]
  Norms<A> norms, hyper_norms;
  A *weight_x, *z_weight, *z_bias;
  // Forward: products with x, h and h_hat.
  A *weight_h, *hyper_weight_x, *hyper_weight_h, *hyper_weight_s, *hyper_bias;
  // Backward: the transposed ones.
  A *weight_h_t, *hyper_weight_h_t, *hyper_weight_s_t, *z_weight_t;
};

// Calls move(i, j) for the numbers of d_weight in panels `begin` to `end`: i is a number's place in [3, 4, H, Z], j
// that in [panels of H, 4, Z, 3, lanes].
template <class A, class Move>
void for_scales(Sizes size, int64_t begin, int64_t end, const Move& move) {
  constexpr int64_t V = kLanes<A>;
  for (int64_t p = begin; p < end; ++p) {
    for (int64_t sk = 0; sk < 12; ++sk) {
      for (int64_t j = p * V; j < std::min(p * V + V, size.H); ++j) {
        const int64_t first = ((p * 4 + sk % 4) * size.Z * 3 + sk / 4) * V + j % V;
        for (int64_t n = 0; n < size.Z; ++n) move((sk * size.H + j) * size.Z + n, first + n * 3 * V);
      }
    }
  }
}

// How far apart rows of z [3, 4, Z] lie, in whole panels.
template <class A>
int64_t z_stride(int64_t Z) {
  return panels<A>(12 * Z, false) * kPanel<A>;
}

// Numbers whose packing is worth a thread.
constexpr int64_t kLeastToPack = 1 << 15;

// Packs all panels of source, see pack_panels; cost: that of a number.
template <class T>
Job pack_job(const T* source, Columns at, int64_t K, int64_t units, bool gates, Acc<T>* to, int64_t cost = 1) {
  using A = Acc<T>;
  return {panels<A>(units, gates), cost * K * kPanel<A>, [=](int64_t begin, int64_t end) {
            pack_panels<T>(source, at, K, units, gates, to, begin, end);
          }};
}

// Owns what a Packed points to, as tensors, so that memory is torch's own.
template <class T, class A = Acc<T>>
class Packing {
 public:
  // with_x: with the weights for x, which the forward sweep needs. few: the largest matrices are read as they are
  // stored.
  Packing(const Tensors& p, bool backward, bool with_x, bool few = false) : p_(p), size_(sizes(p)) {
    const auto [H, S, Z, I] = size_;
    packed_.scales = scales();
    packed_.bias = rows(data(kBias), 4, H);
    if (with_x) packed_.weight_x = matrix(data(kWeightX), {H * I, I, 1}, I, H, true);
    packed_.z_weight = matrix(data(kZWeight), {0, S, 1}, S, 12 * Z, false);
    packed_.z_bias = allocate(z_stride<A>(Z));  // the last 4 Z have none
    std::copy(data(kZBias), data(kZBias) + 8 * Z, packed_.z_bias);
    if (p.size() > kNorms) {
      packed_.norms = norms(kNorms, H);
      packed_.hyper_norms = norms(kNorms + 4, S);
    }
    if (few) stored_ = {data(kWeightH), data(kHyperWeightH)};
    if (backward) {
      if (!few) {
        packed_.weight_h_t = matrix(data(kWeightH), {0, 1, H}, 4 * H, H, false);
        packed_.hyper_weight_h_t = matrix(data(kHyperWeightH), {0, 1, H}, 4 * S, H, false);
      }
      packed_.hyper_weight_s_t = matrix(data(kHyperWeightS), {0, 1, S}, 4 * S, S, false);
      packed_.z_weight_t = matrix(data(kZWeight), {0, 1, S}, 12 * Z, S, false);
    } else {
      if (!few) {
        packed_.weight_h = matrix(data(kWeightH), {H * H, H, 1}, H, H, true);
        packed_.hyper_weight_h = matrix(data(kHyperWeightH), {S * H, H, 1}, H, S, true);
      }
      packed_.hyper_weight_x = matrix(data(kHyperWeightX), {S * I, I, 1}, I, S, true);
      packed_.hyper_weight_s = matrix(data(kHyperWeightS), {S * S, S, 1}, S, S, true);
      packed_.hyper_bias = rows(data(kHyperBias), 4, S);
    }
    run_jobs(jobs_, kLeastToPack);
    jobs_.clear();
  }

  const Packed<A>& operator*() const { return packed_; }
  const Stored<T>& stored() const { return stored_; }

 private:
  const T* data(int i) const { return p_[i].const_data_ptr<T>(); }

  A* allocate(int64_t n) {
    owned_.push_back(at::zeros({n}, options()));
    return owned_.back().mutable_data_ptr<A>();
  }

  A* matrix(const T* source, Columns at, int64_t K, int64_t units, bool gates) {
    owned_.push_back(at::empty({panels<A>(units, gates) * K * kPanel<A>}, options()));
    A* to = owned_.back().mutable_data_ptr<A>();
    expect_writes(to, owned_.back().numel());
    jobs_.push_back(pack_job<T>(source, at, K, units, gates, to));
    return to;
  }

  at::TensorOptions options() const { return p_[0].options().dtype(c10::CppTypeToScalarType<A>::value); }

  A* rows(const T* source, int64_t n, int64_t F) {
    A* to = allocate(n * padded<A>(F));
    for (int64_t k = 0; k < n; ++k) std::copy(source + k * F, source + (k + 1) * F, to + k * padded<A>(F));
    return to;
  }

  Norms<A> norms(int first, int64_t F) {
    const auto next = [&](int i, int64_t n) { return rows(data(first + i), n, F); };
    return {next(0, 4), next(1, 4), next(2, 1), next(3, 1)};
  }

  A* scales() {
    const auto [H, S, Z, I] = size_;
    const T* from = data(kDWeight);
    A* to = allocate(padded<A>(H) * 12 * Z);
    // Four times as slow to pack as a matrix, whose numbers lie side by side.
    jobs_.push_back({panels<A>(H, true), 4 * 12 * Z * kLanes<A>, [=, size = size_](int64_t begin, int64_t end) {
                       for_scales<A>(size, begin, end, [=](int64_t stored, int64_t packed) {
                         to[packed] = static_cast<A>(from[stored]);
                       });
                     }});
    return to;
  }

  const Tensors& p_;
  Sizes size_;
  Packed<A> packed_{};
  Stored<T> stored_;
  Tensors owned_;
  Jobs jobs_;  // what is left to pack
};

}  // namespace hyperlstm
