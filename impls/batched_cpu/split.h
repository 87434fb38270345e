// How a batch is split among threads.
#pragma once

#include <algorithm>

#include "layer.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// With fewer weights, a step of one row takes less time than a barrier.
constexpr int64_t kMinWeightsToSync = 1 << 17;
// The fewest rows that are worth a group of their own. Each group reads all weights at every step, which takes longer
// where they exceed a thread's own cache, at kLargeWeights numbers, and matters more the wider the vectors that
// multiply them. Measured on two threads at H 256, 900 and 1000, with AVX2 and with AVX-512.
constexpr int64_t kMinRows = 4, kMinRowsLarge = 2 * kLanes<float>;
constexpr int64_t kLargeWeights = 1 << 20;
// The fewest units of a member: the columns of a panel in the backward pass.
constexpr int64_t kMinUnits = 64;

// Depends only on sizes, rows and the number of threads, since the rounding of sums over rows depends on the split. If
// a step is little work, each thread is a group; else there are as many groups as have enough rows, of those numbers
// that leave the fewest threads idle.
inline Split choose_split(const Sizes& size, int64_t B, int64_t threads) {
  const auto [H, S, Z, I] = size;
  const int64_t weights = 4 * H * (H + I) + 4 * S * (H + I + S);
  if (weights < kMinWeightsToSync) return {std::min(B, threads), 1};
  const int64_t max_groups = std::clamp<int64_t>(B / (weights < kLargeWeights ? kMinRows : kMinRowsLarge), 1, threads);
  Split best{1, std::min(threads, divup(H, kMinUnits))};
  for (int64_t groups = 2; groups <= max_groups; ++groups) {
    const Split split{groups, std::min(threads / groups, divup(H, kMinUnits))};
    if (split.threads() >= best.threads()) best = split;
  }
  // Threads for which there are no units take rows.
  return {std::max(best.groups, std::min(B, threads / best.members)), best.members};
}

// The split that was requested or, of zeros, that of `choose_split`.
struct SplitChoice {
  Split requested;

  int64_t threads() const {
#ifdef HYPERLSTM_STD_THREADS
    if (requested.threads() > 0) return requested.threads();
#endif
    const int64_t available = available_threads();
    return requested.threads() > 0 && available > 1 ? requested.threads() : available;
  }

  // Runs make(member) on each thread that has a place, and the jobs, see run_groups.
  template <class Make>
  void run(const Sizes& size, const Steps& steps, const Make& make, const Jobs& jobs = {}) const {
    const int64_t B = steps.rows(0);
    if (B == 0) return;
    const auto choose = [&](int64_t present) {
      if (requested.threads() == 0) return choose_split(size, B, present);
      const int64_t groups = std::clamp<int64_t>(requested.groups, 1, std::min(B, present));
      return Split{groups, std::clamp<int64_t>(requested.members, 1, present / groups)};
    };
    const auto rows_of = [&](int64_t group, int64_t groups) { return steps.rows_of_group(group, groups); };
    run_groups(threads(), choose, rows_of, make, jobs);
  }
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
