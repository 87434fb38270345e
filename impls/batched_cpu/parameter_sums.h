// Gradients of parameters that the backward sweep sums over rows.
#pragma once

#include <utility>

#include "memory.h"
#include "packing.h"

namespace hyperlstm::inline HYPERLSTM_SET {

template <class A>
struct Sums {
  A *scales, *bias, *hyper_bias;  // laid out as in Panels
  A* z_bias;                      // [2, 4, Z]
  Norms<A> norms, hyper_norms;

  static int64_t numbers(Sizes size, bool normed) {
    const int64_t H = padded<A>(size.H), S = padded<A>(size.S);
    return H * 12 * size.Z + 4 * (H + S) + 8 * size.Z + (normed ? 10 * (H + S) : 0);
  }

  Sums(A* memory, Sizes size, bool normed) {
    const auto next = [&](int64_t n) { return std::exchange(memory, memory + n); };
    const auto next_norms = [&](int64_t F) { return Norms<A>{next(4 * F), next(4 * F), next(F), next(F)}; };
    scales = next(padded<A>(size.H) * 12 * size.Z);
    bias = next(4 * padded<A>(size.H));
    hyper_bias = next(4 * padded<A>(size.S));
    z_bias = next(8 * size.Z);
    if (normed) {
      norms = next_norms(padded<A>(size.H));
      hyper_norms = next_norms(padded<A>(size.S));
    }
  }

  void add_to(const Params<A>& totals, Sizes size) const {
    const auto add = [&](int param, const A* from, int64_t rows, int64_t F) {
      A* const to = totals[param];
      if (to == nullptr) return;
      for (int64_t k = 0; k < rows; ++k) {
        for (int64_t j = 0; j < F; ++j) to[k * F + j] += from[k * padded<A>(F) + j];
      }
    };
    add(kBias, bias, 4, size.H);
    add(kHyperBias, hyper_bias, 4, size.S);
    add(kZBias, z_bias, 1, 8 * size.Z);
    if (A* const to = totals[kDWeight]; to != nullptr) {
      for_scales<A>(size, 0, panel_count<A>(size.H, true), [&](int64_t stored, int64_t in_panels) {
        to[stored] += scales[in_panels];
      });
    }
    int param = kNorms;
    for (const auto& [n, F] : {std::pair{norms, size.H}, std::pair{hyper_norms, size.S}}) {
      if (!n) continue;
      add(param++, n.weight, 4, F);
      add(param++, n.bias, 4, F);
      add(param++, n.c_weight, 1, F);
      add(param++, n.c_bias, 1, F);
    }
  }
};

// Sums over a whole sequence. Each thread adds to its own, and `collect` adds these to the totals after every chunk:
// many short sums round better than one long one.
template <class A>
class SequenceSums {
 public:
  SequenceSums(Sizes size, bool normed, int64_t threads)
      : size_(size), normed_(normed), threads_(threads), numbers_(Sums<A>::numbers(size, normed)) {
    memory_ = scratch_.zeros<A>((threads + 1) * numbers_);
  }

  Sums<A> of_thread(int64_t i) const { return Sums<A>(memory_ + (i + 1) * numbers_, size_, normed_); }

  void collect() {
    for (int64_t i = 1; i <= threads_; ++i) {
      A* const part = memory_ + i * numbers_;
      for (int64_t j = 0; j < numbers_; ++j) memory_[j] += part[j];
      std::fill_n(part, numbers_, A(0));
    }
  }

  void add_to(const Params<A>& totals) const { Sums<A>(memory_, size_, normed_).add_to(totals, size_); }

 private:
  const Sizes size_;
  const bool normed_;
  const int64_t threads_, numbers_;
  Scratch scratch_;
  A* memory_;  // the totals, then the sums of each thread
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
