// Groups of threads that take steps together.
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

// How threads divide the work: each of `groups` groups of threads takes its own batch rows through all steps, and each
// of the `members` of a group computes its own units of them.
struct Split {
  int64_t groups, members;
  int64_t threads() const { return groups * members; }
};

// Where the threads of a group meet.
struct Meeting {
  Barrier barrier;
  std::chrono::microseconds spin;  // for which a wait does not sleep
  std::atomic<bool> failed{false};
};

// A thread's place in its group.
struct Member {
  int64_t thread;  // its number among all threads
  Range rows;      // those of the group
  int64_t group, rank, size;
  Meeting* meeting;

  // Tells the other members that this one has written what it had to before this call.
  [[nodiscard]] uint32_t arrive() const { return size > 1 ? meeting->barrier.arrive(size) : 0; }

  // Waits until all members have done so.
  void wait(uint32_t arrived) const {
    if (size > 1) meeting->barrier.wait(arrived, meeting->spin);
  }

  void meet() const { wait(arrive()); }

  // This member's part of n items.
  Range part(int64_t n) const { return {n * rank / size, n * (rank + 1) / size}; }
};

// Calls work(thread, present) on `present` threads at the same time: as many as asked for, or fewer.
template <class Work>
void run_team(int64_t threads, const Work& work) {
  if (threads == 1) return work(0, 1);
#if defined(HYPERLSTM_STD_THREADS)
  // The thread sanitizer does not see how OpenMP's threads start and meet.
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

// The part of the other jobs, see run_groups, that is done before the steps, while what they read is in the cache.
constexpr double kBeforeSteps = 0.5;

// Calls start(member) on each thread that has a place in a group, and then run() of what it returns, which may wait for
// the other members and must not throw. The split is choose(present), since a team can be smaller than the `threads`
// asked for. If start throws on a thread, no thread of its group runs, and the exception is thrown again here.
//
// The threads do the other jobs too: some before, and the rest after, so that a thread without a place in a group, or
// with a fast one, does not wait for the others.
template <class Choose, class Share, class Start>
void run_groups(int64_t threads, const Choose& choose, const Share& share, const Start& start, const Jobs& others) {
  const auto meetings = std::make_unique<Meeting[]>(threads);
  for (int64_t i = 0; i < threads; ++i) meetings[i].spin = spin_of(threads);
  Pieces pieces(others, threads);
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
  const auto note_failure = [&] {
    if (!failed.exchange(true)) failure = std::current_exception();
  };
  const auto steps = [&](int64_t thread, int64_t present) {
    const Split split = choose(present);
    const int64_t group = thread / split.members;
    if (group >= split.groups) return;
    const Range rows = share(group, split.groups);
    const Member member{thread, rows, group, thread % split.members, split.members, &meetings[group]};
    std::optional<decltype(start(member))> made;
    try {
      made.emplace(start(member));
    } catch (...) {
      note_failure();
      member.meeting->failed = true;
    }
    member.meet();
    if (!member.meeting->failed) made->run();
  };
  const auto work = [&](double part) {
    try {
      pieces.work(part);
    } catch (...) {
      note_failure();
    }
  };
  run_team(threads, [&](int64_t thread, int64_t present) {
    work(kBeforeSteps);
    steps(thread, present);
    work(1);
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace hyperlstm
