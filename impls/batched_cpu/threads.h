// Groups of threads that run the steps together.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

#include <exception>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "barrier.h"
#include "jobs.h"

namespace hyperlstm {

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

// Calls work(thread, present) on `present` threads at the same time: as many as requested, or fewer.
template <class Work>
void run_team(int64_t threads, const Work& work) {
  if (threads == 1) return work(0, 1);
#if defined(HYPERLSTM_STD_THREADS)
  // The thread sanitizer does not see how OpenMP's threads start and synchronise.
  std::vector<std::thread> team;
  for (int64_t i = 0; i < threads; ++i) team.emplace_back([&work, i, threads] { work(i, threads); });
  for (std::thread& thread : team) thread.join();
#elif defined(_OPENMP)
#pragma omp parallel num_threads(static_cast<int>(threads))
  work(omp_get_thread_num(), omp_get_num_threads());
#else
  work(0, 1);
#endif
}

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
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
  const auto catching = [&](const auto& body) {
    try {
      body();
      return true;
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
      return false;
    }
  };
  const auto run_steps = [&](int64_t thread, int64_t present) {
    const Split split = choose(present);
    const int64_t group = thread / split.members;
    if (group >= split.groups) return;
    const Range rows = rows_of(group, split.groups);
    const Member member{thread, rows, group, thread % split.members, split.members, &barriers[group]};
    std::optional<decltype(make(member))> worker;
    if (!catching([&] { worker.emplace(make(member)); })) member.shared->failed = true;
    member.sync();
    if (!member.shared->failed) worker->run();
  };
  run_team(threads, [&](int64_t thread, int64_t present) {
    run_steps(thread, present);
    catching([&] { queue.run(); });
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace hyperlstm
