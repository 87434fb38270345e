// How a batch is split among threads.
#pragma once

#include <algorithm>

#include "packing.h"
#include "threads.h"

namespace hyperlstm {

// A step's multiply-adds of one row below which it is over before threads have met.
constexpr int64_t kWorthMeeting = 1 << 17;
// Rows that a thread should have at a time: with 8 it reaches 85 % of the speed a row of one with many.
constexpr int64_t kRowsOfGroup = 8;

// The same for the same sizes, rows and threads, since sums over rows and units depend on it. Every thread on its own,
// where there is little to do at a step; else the most groups that have rows enough and leave the fewest threads over.
inline Split choose_split(const Sizes& size, int64_t B, int64_t threads) {
  const auto [H, S, Z, I] = size;
  if (4 * H * (H + I) + 4 * S * (H + I + S) < kWorthMeeting) return {std::min(B, threads), 1};
  const int64_t most = std::clamp<int64_t>(B / kRowsOfGroup, 1, threads);
  Split best{1, threads};
  for (int64_t groups = 2; groups <= most; ++groups) {
    const Split split{groups, threads / groups};
    if (split.threads() >= best.threads()) best = split;
  }
  return best;
}

// How sweeps are split: as asked for, or, where nothing is, by `choose_split`.
struct Splitting {
  std::optional<Split> asked;

  int64_t threads() const { return asked && threads_here() > 1 ? asked->threads() : threads_here(); }

  // Runs start(member) on each thread that has a place, see run_groups.
  template <class Start>
  void run(const Sizes& size, int64_t B, const Start& start) const {
    const auto choose = [&](int64_t present) {
      if (!asked) return choose_split(size, B, present);
      const int64_t groups = std::clamp<int64_t>(asked->groups, 1, std::min(B, present));
      return Split{groups, std::clamp<int64_t>(asked->members, 1, present / groups)};
    };
    run_groups(B, threads(), choose, start);
  }
};

}  // namespace hyperlstm
