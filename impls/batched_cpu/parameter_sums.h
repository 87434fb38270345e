// Gradients of parameters that the backward sweep sums over rows.
#pragma once

#include "packing.h"

namespace hyperlstm::inline HYPERLSTM_SET {

template <class A>
struct Sums {
  A *scales, *bias, *hyper_bias;  // laid out as in Panels
  A* z_bias;                      // [2, 4, Z]
  Norms<A> norms, hyper_norms;

  // Calls array(pointer, param, rows, F) for each array: a parameter's [rows, F], F padded to whole vectors.
  template <class Array>
  void for_arrays(const Sizes& size, bool normed, const Array& array) {
    array(scales, kDWeight, 12 * size.Z, size.H);
    array(bias, kBias, 4, size.H);
    array(hyper_bias, kHyperBias, 4, size.S);
    array(z_bias, kZBias, 1, 8 * size.Z);
    if (!normed) return;
    int param = kNorms;
    for (const auto& [of, F] : {std::pair{&norms, size.H}, std::pair{&hyper_norms, size.S}}) {
      array(of->weight, param++, 4, F);
      array(of->bias, param++, 4, F);
      array(of->c_weight, param++, 1, F);
      array(of->c_bias, param++, 1, F);
    }
  }

  void add_to(const Params<A>& totals, const Sizes& size, bool normed) {
    for_arrays(size, normed, [&](const A* from, int param, int64_t rows, int64_t F) {
      A* const to = totals[param];
      if (to == nullptr) return;
      if (param == kDWeight) {
        const auto add = [&](int64_t stored, int64_t in_panels) { to[stored] += from[in_panels]; };
        return for_scales<A>(size, 0, panel_count<A>(F, true), add);
      }
      for (int64_t k = 0; k < rows; ++k) {
        for (int64_t j = 0; j < F; ++j) to[k * F + j] += from[k * padded<A>(F) + j];
      }
    });
  }
};

// Sums over a whole sequence. Each thread adds to its own, and `collect` adds these to the totals after every chunk:
// many short sums round better than one long one.
template <class A>
class SequenceSums {
 public:
  SequenceSums(const Sizes& size, bool normed, int64_t threads) : size_(size), normed_(normed), threads_(threads) {
    Sums<A>().for_arrays(size, normed, [&](A*, int, int64_t rows, int64_t F) { numbers_ += rows * padded<A>(F); });
    memory_ = scratch_.zeros<A>((threads + 1) * numbers_);
  }

  Sums<A> of_thread(int64_t i) const { return sums(memory_ + (i + 1) * numbers_); }

  void collect() {
    for (int64_t i = 1; i <= threads_; ++i) {
      A* const part = memory_ + i * numbers_;
      for (int64_t j = 0; j < numbers_; ++j) memory_[j] += part[j];
      std::fill_n(part, numbers_, A(0));
    }
  }

  void add_to(const Params<A>& totals) const { sums(memory_).add_to(totals, size_, normed_); }

 private:
  Sums<A> sums(A* memory) const {
    Sums<A> sums;
    sums.for_arrays(size_, normed_, [&](A*& array, int, int64_t rows, int64_t F) {
      array = std::exchange(memory, memory + rows * padded<A>(F));
    });
    return sums;
  }

  const Sizes size_;
  const bool normed_;
  const int64_t threads_;
  int64_t numbers_ = 0;  // of one thread
  Scratch scratch_;
  A* memory_;  // the totals, then the sums of each thread
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
