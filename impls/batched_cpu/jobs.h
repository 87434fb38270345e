// Independent work distributed among threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <utility>
#include <vector>
#ifdef HYPERLSTM_STD_THREADS
#include <thread>
#endif

#include "instruments.h"
#include "tiles.h"
#include "torch.h"

namespace hyperlstm::inline HYPERLSTM_SET {

inline int64_t divup(int64_t x, int64_t y) { return (x + y - 1) / y; }

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Items of equal cost, in multiply-adds; run(begin, end) processes a range of them. No item depends on another, of this
// or any other job. Fewer than `grain` items are not worth a call.
struct Job {
  int64_t items, cost;
  std::function<void(int64_t, int64_t)> run;
  int64_t grain = 1;
};

using Jobs = std::vector<Job>;

inline int64_t cost(const Jobs& jobs) {
  int64_t sum = 0;
  for (const Job& job : jobs) sum += job.items * job.cost;
  return sum;
}

// Jobs cut into pieces that threads take dynamically, so that a thread which lost its core to another process for a
// while takes fewer. The results do not depend on which thread takes a piece.
class JobQueue {
 public:
  JobQueue(const Jobs& jobs, int64_t threads) {
    const int64_t max_cost = std::max<int64_t>(cost(jobs) / (threads * kPiecesPerThread), 1);
    for (const Job& job : jobs) {
      const int64_t grains = divup(job.items, job.grain);
      const int64_t n = std::min(divup(job.items * job.cost, max_cost), grains);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t end = std::min(grains * (i + 1) / n * job.grain, job.items);
        pieces_.push_back({&job, {grains * i / n * job.grain, end}});
      }
    }
  }

  // Takes pieces until none is left.
  void run() {
    for (size_t i; (i = next_++) < pieces_.size();) {
      const auto& [job, items] = pieces_[i];
      job->run(items.begin, items.end);
    }
  }

 private:
  static constexpr int64_t kPiecesPerThread = 8;

  std::vector<std::pair<const Job*, Range>> pieces_;
  std::atomic<size_t> next_{0};
};

// Threads that a parallel region may request here.
inline int64_t available_threads() {
  uint32_t threads;
  const bool several = torch.parallel != nullptr && !torch.in_parallel() && torch.get_num_threads(&threads) == 0;
  return several ? threads : 1;
}

// Calls work(thread, present) on `present` threads at the same time: as many as requested, or fewer. It must not throw.
template <class Work>
void run_team(int64_t requested, const Work& of_thread) {
  const int64_t threads = TEAM(requested);
  const auto work = [&of_thread](int64_t thread, int64_t present) {
    [[maybe_unused]] const TileRegion tiles;
    IN_THREAD(thread);
    of_thread(thread, present);
  };
#ifdef HYPERLSTM_STD_THREADS  // the thread sanitizer does not see how OpenMP's threads start and synchronise
  std::vector<std::thread> team;
  for (int64_t i = 1; i < threads; ++i) team.emplace_back([&work, i, threads] { work(i, threads); });
  work(0, threads);
  for (std::thread& thread : team) thread.join();
#else
  if (threads == 1) return work(0, 1);
  using Body = decltype(work);
  const auto body = [](void* work) { (*static_cast<Body*>(work))(torch.thread_num(), torch.num_threads()); };
  torch.parallel(body, const_cast<std::remove_const_t<Body>*>(&work), static_cast<unsigned>(threads), 0);
#endif
}

// The first exception of several threads.
class Failure {
 public:
  // Whether the body throws.
  template <class Body>
  bool catches(const Body& body) {
    try {
      body();
      return false;
    } catch (...) {
      if (!failed_.exchange(true)) first_ = std::current_exception();
      return true;
    }
  }

  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::exception_ptr first_;
  std::atomic<bool> failed_{false};
};

// Multiply-adds that are worth a thread.
constexpr int64_t kMinCostPerThread = 1 << 18;

// Runs all jobs in one parallel region: threads that sleep between regions take long to wake.
inline void run_jobs(const Jobs& jobs) {
  const int64_t threads = std::clamp<int64_t>(cost(jobs) / kMinCostPerThread, 1, available_threads());
  JobQueue queue(jobs, threads);
  Failure failure;
  run_team(threads, [&](int64_t, int64_t) { failure.catches([&] { queue.run(); }); });
  failure.rethrow();
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
