// Groups of threads that run the steps together.
#pragma once

#include <memory>
#include <optional>

#include "barrier.h"
#include "jobs.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// How threads divide the work: each group runs its own batch rows through all steps, and each of its members computes
// its own units of these rows.
struct Split {
  int64_t groups, members;
  int64_t threads() const { return groups * members; }
};

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
    if (size > 1) shared->barrier.wait(arrived, shared->spin);
  }

  void sync() const { wait(arrive()); }

  // This member's part of n items.
  Range part(int64_t n) const { return {n * rank / size, n * (rank + 1) / size}; }
};

// Calls make(member) on each thread that has a place in a group, and then run() of the result, which may wait for the
// other members and must not throw. The split is choose(present), since a team can be smaller than requested. If `make`
// throws on a thread, no thread of its group runs, and the exception is rethrown here.
//
// After the steps the threads run the jobs, so that a thread without a place in a group, or in a fast one, does not
// wait for the others.
template <class Choose, class RowsOf, class Make>
void run_groups(int64_t threads, const Choose& choose, const RowsOf& rows_of, const Make& make, const Jobs& jobs) {
  const auto barriers = std::make_unique<GroupBarrier[]>(threads);
  for (int64_t i = 0; i < threads; ++i) barriers[i].spin = spin_time(threads);
  JobQueue queue(jobs, threads);
  Failure failure;
  const auto run_steps = [&](int64_t thread, int64_t present) {
    const Split split = choose(present);
    const int64_t group = thread / split.members;
    if (group >= split.groups) return;
    const Range rows = rows_of(group, split.groups);
    const Member member{thread, rows, group, thread % split.members, split.members, &barriers[group]};
    std::optional<decltype(make(member))> worker;
    if (failure.catches([&] { worker.emplace(make(member)); })) member.shared->failed = true;
    member.sync();
    if (!member.shared->failed) worker->run();
  };
  run_team(threads, [&](int64_t thread, int64_t present) {
    run_steps(thread, present);
    failure.catches([&] { queue.run(); });
  });
  failure.rethrow();
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
