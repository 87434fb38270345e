// The parameters of a layer as the sweeps read them: packed into panels and padded once a sequence.
#pragma once

#include <cstring>

#include "layer.h"
#include "memory.h"

namespace hyperlstm::inline HYPERLSTM_SET {

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

// The distance between rows of z [3, 4, Z], in whole panels.
template <class A>
int64_t z_stride(int64_t Z) {
  return panel_count<A>(12 * Z, false) * kPanel<A>;
}

// How a matrix [K, units] is stored: by rows, by columns as [units, K], or as [4, units, K], a matrix for each gate.
enum class Stored { kRows, kColumns, kGateColumns };

// n stored columns of K numbers, at most a vector -> into [K, lanes], rows kPanel apart, or as many terms; zero from
// column n on. Whole columns are read at a time, since contiguous reads are many times as fast.
template <class T>
void pack_columns(const T* from, int64_t K, int64_t n, Factor<T>* into) {
  using A = Acc<T>;
  constexpr int64_t V = kLanes<A>, P = kPanel<A>, D = Terms<Factor<T>>::kDepth;
  int64_t d = 0;
  for (; n == V && d + V * D <= K; d += V * D) {
    PACKED(V * V * D);
    std::array<Vec<A>, V> square;
    UNROLL for (int64_t j = 0; j < V; ++j) {
      if constexpr (D == 1)
        square[j] = load(from + j * K + d);
      else  // the D numbers of a term are moved together, from an address that is a multiple of their size alone
        std::memcpy(&square[j].native, from + j * K + d, sizeof(square[j].native));
    }
    transpose<A>(square);
    UNROLL for (int64_t j = 0; j < V; ++j) square[j].store(reinterpret_cast<A*>(into + (d + j * D) * P));
  }
  for (; d < K; d += D) {
    Factor<T>* const term = into + d * P;
    PACKED(n * std::min(D, K - d));
    std::fill_n(term, V * D, Factor<T>(0));
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < std::min(D, K - d); ++i) term[j * D + i] = static_cast<Factor<T>>(from[j * K + d + i]);
    }
  }
}

// A row of n numbers, at most a vector, or the two rows of a term, of which the second may be null -> a vector of
// terms, zero from column n on.
template <class T>
void pack_row(const T* from, const T* next, int64_t n, Factor<T>* into) {
  PACKED(n * (next == nullptr ? 1 : 2));
  if constexpr (Terms<Factor<T>>::kDepth == 1) {
    load(from, n).store(into);
  } else {
#ifdef __AVX512BF16__
    const __m512i upper = next == nullptr ? __m512i{} : _mm512_slli_epi32(load_bits(next, n), 16);
    _mm512_storeu_si512(into, _mm512_or_si512(load_bits(from, n), upper));
#endif
  }
}

// Cost of packing one element, in multiply-adds.
constexpr int64_t kCostOfPacking = 8;

// A matrix [K, units] in panels [panels, K, 4, lanes] or, where a term of a sum is of two numbers, [panels, K / 2, 4,
// lanes, 2], zero beyond the last unit; the job that packs it is added to jobs.
template <class T>
Factor<T>* pack(const T* source, Stored stored, int64_t K, int64_t units, Scratch& scratch, Jobs& jobs) {
  using A = Acc<T>;
  using F = Factor<T>;
  constexpr int64_t V = kLanes<A>, P = kPanel<A>, D = Terms<F>::kDepth;
  const bool gates = stored == Stored::kGateColumns;
  const int64_t panels = panel_count<A>(units, gates), numbers = panel_numbers<F>(K);
  F* const to = scratch.empty<F>(panels * numbers);
  advise_huge_pages(to, panels * numbers);
  const auto pack = [=](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      F* const panel = to + p * numbers;
      const auto first = [=](int64_t k) { return gates ? p * V : (p * kGates + k) * V; };  // unit of vector k
      const auto count = [=](int64_t k) { return std::clamp<int64_t>(units - first(k), 0, V); };
      if (stored != Stored::kRows) {
        for (int64_t k = 0; k < kGates; ++k) {
          pack_columns(source + ((gates ? k * units : 0) + first(k)) * K, K, count(k), panel + k * V * D);
        }
        continue;
      }
      for (int64_t d = 0; d < K; d += D) {
        for (int64_t k = 0; k < kGates; ++k) {
          const T* const row = source + d * units + first(k);
          pack_row(row, d + 1 < K ? row + units : nullptr, count(k), panel + d * P + k * V * D);
        }
      }
    }
  };
  jobs.push_back({panels, kCostOfPacking * K * P, pack});
  return to;
}

enum class Direction { kForward, kBackward };

// The parameters as a sweep reads them; which of them are present depends on its direction.
template <class T, class A = Acc<T>>
class Panels {
 public:
  // with_x: with weight_x.
  Panels(const Layer<T>& layer, Direction direction, bool with_x)
      : size(layer.size), p_(layer.params), forward_(direction == Direction::kForward) {
    const auto [H, S, Z, I] = size;
    stored_ = layer.B <= kFewRows && (layer.N <= kFewRows || 4 * (H + S) * H >= kMinStoredWeights);
    pack_scales();
    bias = rows(kBias, 4, H);
    if (with_x) weight_x = gates(kWeightX, H, I);
    z_weight = matrix(kZWeight, Stored::kColumns, S, 12 * Z);
    z_bias = scratch_.zeros<A>(z_stride<A>(Z));  // the last 4 Z have none
    std::copy(p_[kZBias], p_[kZBias] + 8 * Z, z_bias);
    if (layer.has_norms()) {
      norms = norms_of(kNorms, H);
      hyper_norms = norms_of(kNorms + 4, S);
    }
    weight_h = weight_for_h(kWeightH, H);
    hyper_weight_h = weight_for_h(kHyperWeightH, S);
    hyper_weight_s = forward_ ? gates(kHyperWeightS, S, S) : transposed(kHyperWeightS, 4 * S, S);
    if (forward_) {
      hyper_weight_x = gates(kHyperWeightX, S, I);
      hyper_bias = rows(kHyperBias, 4, S);
    } else {
      z_weight_t = transposed(kZWeight, 12 * Z, S);
    }
    run_jobs(jobs_);
    jobs_.clear();
  }

  const Sizes size;
  A* scales;  // d_weight [panels of H, 4, Z, 3, lanes]
  A* bias;    // [4, padded H]
  Factor<T>*z_weight, *weight_x = nullptr;
  A* z_bias;
  Norms<A> norms, hyper_norms;
  // Forward these have gates, backward they are transposed.
  Weight<T> weight_h, hyper_weight_h;
  Factor<T>*hyper_weight_s, *hyper_weight_x = nullptr;  // the latter forward
  A* hyper_bias = nullptr;                              // forward
  Factor<T>* z_weight_t = nullptr;                      // backward

 private:
  Factor<T>* matrix(int param, Stored stored, int64_t K, int64_t units) {
    return pack<T>(p_[param], stored, K, units, scratch_, jobs_);
  }

  // Of a parameter [4, F, K], or [K, F].
  Factor<T>* gates(int param, int64_t F, int64_t K) { return matrix(param, Stored::kGateColumns, K, F); }
  Factor<T>* transposed(int param, int64_t K, int64_t F) { return matrix(param, Stored::kRows, K, F); }

  Weight<T> weight_for_h(int param, int64_t F) {
    if (stored_) return {nullptr, p_[param]};
    return {forward_ ? gates(param, F, size.H) : transposed(param, 4 * F, size.H), nullptr};
  }

  A* rows(int param, int64_t n, int64_t F) {
    const T* const from = p_[param];
    A* const to = scratch_.zeros<A>(n * padded<A>(F));
    for (int64_t k = 0; k < n; ++k) std::copy(from + k * F, from + (k + 1) * F, to + k * padded<A>(F));
    return to;
  }

  Norms<A> norms_of(int first, int64_t F) {
    return {rows(first, 4, F), rows(first + 1, 4, F), rows(first + 2, 1, F), rows(first + 3, 1, F)};
  }

  void pack_scales() {
    scales = scratch_.zeros<A>(padded<A>(size.H) * 12 * size.Z);
    // Four times as slow to pack as a matrix, whose numbers are contiguous.
    const int64_t cost = 4 * kCostOfPacking * 12 * size.Z * kLanes<A>;
    const auto pack = [size = size, from = p_[kDWeight], to = scales](int64_t begin, int64_t end) {
      for_scales<A>(size, begin, end, [=](int64_t i, int64_t in_panels) { to[in_panels] = static_cast<A>(from[i]); });
    };
    jobs_.push_back({panel_count<A>(size.H, true), cost, pack});
  }

  const Params<const T> p_;
  const bool forward_;
  bool stored_;  // the largest matrices are read as they are stored
  Scratch scratch_;
  Jobs jobs_;  // packing that is yet to run
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
