// How a batch is split among threads.
#pragma once

#include <algorithm>

#include "packing.h"
#include "steps.h"
#include "threads.h"

namespace hyperlstm {

// Weights below which a step of one row is over before threads have met.
constexpr int64_t kWorthMeeting = 1 << 17;
// The fewest rows that are worth a group of their own. Each group reads all weights at every step, which takes longer
// where they exceed a thread's own cache, at kLarge numbers, and weighs more the wider the vectors that multiply them.
// Measured on two threads at H 256, 900 and 1000, with AVX2 and with AVX-512.
constexpr int64_t kRows = 4, kRowsOfLarge = 2 * kLanes<float>;
constexpr int64_t kLarge = 1 << 20;
// Units that a member should have: the columns of a panel on the way back.
constexpr int64_t kUnits = 64;

// Depends on sizes, rows and the number of threads alone, since the bits of sums over rows depend on the split. Where a
// step is little work, each thread is a group of its own; else there are as many groups as have enough rows, of those
// numbers that leave the fewest threads without work.
inline Split choose_split(const Sizes& size, int64_t B, int64_t threads) {
  const auto [H, S, Z, I] = size;
  const int64_t weights = 4 * H * (H + I) + 4 * S * (H + I + S);
  if (weights < kWorthMeeting) return {std::min(B, threads), 1};
  const int64_t most = std::clamp<int64_t>(B / (weights < kLarge ? kRows : kRowsOfLarge), 1, threads);
  Split best{1, std::min(threads, at::divup(H, kUnits))};
  for (int64_t groups = 2; groups <= most; ++groups) {
    const Split split{groups, std::min(threads / groups, at::divup(H, kUnits))};
    if (split.threads() >= best.threads()) best = split;
  }
  // Threads left over since there are no units for them take rows.
  return {std::max(best.groups, std::min(B, threads / best.members)), best.members};
}

// How sweeps are split: as asked for, or, where nothing is, by `choose_split`.
struct Splitting {
  std::optional<Split> asked;

  int64_t threads() const {
#ifdef HYPERLSTM_STD_THREADS
    if (asked) return asked->threads();
#endif
    return asked && threads_here() > 1 ? asked->threads() : threads_here();
  }

  // Runs start(member) on each thread that has a place, and does the other jobs beside, see run_groups.
  template <class Start>
  void run(const Sizes& size, const Steps& steps, const Start& start, const Jobs& others = {}) const {
    const int64_t B = steps.rows(0);
    if (B == 0) return;
    const auto choose = [&](int64_t present) {
      if (!asked) return choose_split(size, B, present);
      const int64_t groups = std::clamp<int64_t>(asked->groups, 1, std::min(B, present));
      return Split{groups, std::clamp<int64_t>(asked->members, 1, present / groups)};
    };
    const auto share = [&](int64_t group, int64_t groups) { return steps.share(group, groups); };
    run_groups(threads(), choose, share, start, others);
  }
};

}  // namespace hyperlstm
