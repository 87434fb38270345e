// Independent work shared out among threads.
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
};

// Some items of equal cost, counted in multiply-adds; run(begin, end) does those from begin to end. Items of different
// jobs, and of one, do not depend on each other. Fewer than `together` of them are not worth a call.
struct Job {
  int64_t items, cost;
  std::function<void(int64_t, int64_t)> run;
  int64_t together = 1;
};

using Jobs = std::vector<Job>;

inline int64_t cost(const Jobs& jobs) {
  int64_t all = 0;
  for (const Job& job : jobs) all += job.items * job.cost;
  return all;
}

// Jobs cut into pieces that threads take one after another, so that a thread which has lost its core to another process
// for a while takes fewer. Which thread takes a piece changes no bit of it.
class Pieces {
 public:
  Pieces(const Jobs& jobs, int64_t threads) {
    const int64_t most = std::max<int64_t>(cost(jobs) / (threads * kOfThread), 1);
    for (const Job& job : jobs) {
      const int64_t units = at::divup(job.items, job.together);
      const int64_t n = std::min(at::divup(job.items * job.cost, most), units);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t end = std::min(units * (i + 1) / n * job.together, job.items);
        pieces_.push_back({&job, {units * i / n * job.together, end}});
      }
    }
  }

  // Does one piece after another until that part of all has been taken.
  void work(double part = 1) {
    const auto end = static_cast<size_t>(part * pieces_.size());
    for (size_t i; next_ < end && (i = next_++) < pieces_.size();) {
      const auto& [job, items] = pieces_[i];
      job->run(items.begin, items.end);
    }
  }

 private:
  // Pieces for each thread: all wait for the last one.
  static constexpr int64_t kOfThread = 8;

  std::vector<std::pair<const Job*, Range>> pieces_;
  std::atomic<size_t> next_{0};
};

// The threads that a parallel region may ask for here.
inline int64_t threads_here() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

// Multiply-adds that are worth a thread.
constexpr int64_t kLeastOfThread = 1 << 18;

// Does all jobs, in one parallel region: threads that sleep between regions take long to wake. A thread gets `least` of
// the cost or more.
inline void run_jobs(const Jobs& jobs, int64_t least) {
  const int64_t threads = std::clamp<int64_t>(cost(jobs) / least, 1, threads_here());
  Pieces pieces(jobs, threads);
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) { pieces.work(); });
}

}  // namespace hyperlstm
