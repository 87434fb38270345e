// How a batch is split among groups of threads, which run the steps together.
#pragma once

#include <optional>
#include <vector>

#include "barrier.h"
#include "layer.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// With fewer weights, a step of one row takes less time than a barrier.
constexpr int64_t kMinWeightsToSync = 1 << 17;
// The fewest rows that justify another group. Each group reads all weights at every step, which takes longer where they
// exceed the thread's own cache, at kLargeWeights elements, and matters more with wider vectors. Measured on two
// threads at H 256, 900 and 1000, with AVX2 and with AVX-512.
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
  // Leftover threads form more groups.
  return {std::max(best.groups, std::min(B, threads / best.members)), best.members};
}

struct GroupBarrier {
  Barrier barrier;
  std::chrono::microseconds spin;
  std::atomic<bool> failed{false};
};

// A thread's place in its group.
struct Member {
  int64_t thread;  // its number among all threads
  Range rows;      // of the group
  int64_t group, rank, size;
  GroupBarrier* shared;

  // Signals that this member has written what the others read after `wait`.
  [[nodiscard]] uint32_t arrive() const { return size > 1 ? shared->barrier.arrive(size) : 0; }

  void wait(uint32_t arrived) const {
    if (size == 1) return;
    shared->barrier.wait(arrived, shared->spin);
    LATE(rank, size);
  }

  void sync() const { wait(arrive()); }

  // This member's part of n items.
  Range part(int64_t n) const { return {n * rank / size, n * (rank + 1) / size}; }
};

// The requested split or, if it is zero, the result of `choose_split`.
struct SplitChoice {
  Split requested;

  int64_t threads() const {
#ifdef HYPERLSTM_STD_THREADS
    if (requested.threads() > 0) return requested.threads();
#endif
    const int64_t available = available_threads();
    return requested.threads() > 0 && available > 1 ? requested.threads() : available;
  }

  // Calls make(member) on each thread that has a place in a group, and then run() of the result, which may wait for the
  // other members and must not throw. If `make` throws on a thread, no thread of its group runs, and the exception is
  // rethrown here.
  //
  // After the steps the threads run the jobs, so that a thread without a place in a group, or in a fast one, does not
  // wait for the others.
  template <class Make>
  void run(const Sizes& size, const Steps& steps, const Make& make, const Jobs& jobs = {}) const {
    if (steps.rows(0) == 0) return;
    const int64_t wanted = threads();
    // A smaller team can form more groups than this one, but no more than there are threads.
    std::vector<GroupBarrier> barriers(wanted);
    for (GroupBarrier& barrier : barriers) barrier.spin = spin_time(wanted);
    JobQueue queue(jobs, wanted);
    Failure failure;
    const auto run_steps = [&](int64_t thread, int64_t present) {
      const auto [groups, members] = of_team(size, steps.rows(0), present);
      const int64_t group = thread / members;
      if (group >= groups) return;
      const Range rows = steps.rows_of_group(group, groups);
      const Member member{thread, rows, group, thread % members, members, &barriers[group]};
      std::optional<decltype(make(member))> worker;
      if (failure.catches([&] { worker.emplace(make(member)); })) member.shared->failed = true;
      member.sync();
      if (member.shared->failed) return;
      IN_SPLIT(groups, members);
      worker->run();
    };
    run_team(wanted, [&](int64_t thread, int64_t present) {
      run_steps(thread, present);
      failure.catches([&] { queue.run(); });
    });
    failure.rethrow();
  }

 private:
  // The split of the threads that are present; a team can be smaller than requested.
  Split of_team(const Sizes& size, int64_t B, int64_t present) const {
    if (requested.threads() == 0) return choose_split(size, B, present);
    const int64_t groups = std::clamp<int64_t>(requested.groups, 1, std::min(B, present));
    return {groups, std::clamp<int64_t>(requested.members, 1, present / groups)};
  }
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
