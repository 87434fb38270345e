// Independent work distributed among threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <utility>
#include <vector>

namespace hyperlstm {

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
      const int64_t grains = at::divup(job.items, job.grain);
      const int64_t n = std::min(at::divup(job.items * job.cost, max_cost), grains);
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
inline int64_t available_threads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

// Multiply-adds that are worth a thread.
constexpr int64_t kMinCostPerThread = 1 << 18;

// Runs all jobs in one parallel region: threads that sleep between regions take long to wake.
inline void run_jobs(const Jobs& jobs) {
  const int64_t threads = std::clamp<int64_t>(cost(jobs) / kMinCostPerThread, 1, available_threads());
  JobQueue queue(jobs, threads);
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) { queue.run(); });
}

}  // namespace hyperlstm
