// Threads: independent work shared out among them, and groups of them that take steps together.
#pragma once

#include <ATen/Parallel.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "barrier.h"

namespace hyperlstm {

// Some items of equal cost, counted in multiply-adds; run(begin, end) does those from begin to end.
struct Job {
  int64_t items, cost;
  std::function<void(int64_t, int64_t)> run;
};

// Shares out the items of all jobs among threads, in one parallel region: threads that sleep between regions take long
// to wake. A thread gets `least` of the cost or more.
inline void for_shares(const std::vector<Job>& jobs, int64_t least) {
  int64_t all = 0;
  for (const Job& job : jobs) all += job.items * job.cost;
  at::parallel_for(0, all, least, [&](int64_t begin, int64_t end) {
    int64_t offset = 0;
    for (const Job& job : jobs) {
      const auto item = [&](int64_t at) {
        return job.cost == 0 ? 0 : std::clamp<int64_t>((at - offset) / job.cost, 0, job.items);
      };
      if (item(begin) < item(end)) job.run(item(begin), item(end));
      offset += job.items * job.cost;
    }
  });
}

// The threads that a parallel region may ask for here.
inline int64_t threads_here() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

// Calls body(begin, end) for shares of B rows.
template <class Body>
void for_row_shares(int64_t B, const Body& body) {
  const int64_t shares = std::min(B, threads_here());
  at::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) body(B * i / shares, B * (i + 1) / shares);
  });
}

// How threads divide the work: each of `groups` groups of threads takes its own batch rows through all steps, and each
// of the `members` of a group computes its own units of them.
struct Split {
  int64_t groups, members;
  int64_t threads() const { return groups * members; }
};

struct Range {
  int64_t begin, end;
};

// Where the threads of a group meet.
struct Meeting {
  Barrier barrier;
  std::atomic<bool> failed{false};
};

// A thread's place in its group.
struct Member {
  int64_t thread;  // its number among all threads
  Range rows;      // those of the group
  int64_t group, rank, size;
  Meeting* meeting;

  // Waits until all members have written what they had to before this call.
  void wait() const {
    if (size > 1) meeting->barrier.wait(size);
  }

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

// Calls start(member) on each thread that has a place in a group, and then run() of what it returns, which may wait for
// the other members and must not throw. The split is choose(present), since a team can be smaller than the `threads`
// asked for. If start throws on a thread, no thread of its group runs, and the exception is thrown again here.
template <class Choose, class Share, class Start>
void run_groups(int64_t threads, const Choose& choose, const Share& share, const Start& start) {
  const auto meetings = std::make_unique<Meeting[]>(threads);
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
  const auto work = [&](int64_t thread, int64_t present) {
    const Split split = choose(present);
    const int64_t group = thread / split.members;
    if (group >= split.groups) return;
    const Range rows = share(group, split.groups);
    const Member member{thread, rows, group, thread % split.members, split.members, &meetings[group]};
    std::optional<decltype(start(member))> made;
    try {
      made.emplace(start(member));
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
      member.meeting->failed = true;
    }
    member.wait();
    if (!member.meeting->failed) made->run();
  };
  run_team(threads, work);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace hyperlstm
