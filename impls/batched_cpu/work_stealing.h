// Work stealing: a thread that has finished its rows takes over some of another's.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include "barrier.h"
#include "jobs.h"

namespace hyperlstm {

// Rows from a step on.
struct StolenRows {
  Range rows;
  int64_t step;
};

// Threads with equally many rows do not finish together, since each loses its core to other processes at other times.
// So a thread that has finished requests rows, and another donates some of its own between two steps. One thread
// requests at a time.
class WorkStealing {
 public:
  // rows: of the whole batch; whoever owns rows at their end reports them to `finish`.
  explicit WorkStealing(int64_t rows) : unfinished_(rows) {}

  // Reports rows after their last step, or rows that will have none.
  void finish(int64_t rows) { unfinished_.fetch_sub(rows, std::memory_order_release); }

  bool requested() const { return state_.load(std::memory_order_relaxed) == kRequested; }

  // Donates the last half of `rows`, before `step`, or as many as the other thread takes if that is less; returns how
  // many.
  int64_t donate(Range rows, int64_t step) {
    if (!exchange(kRequested, kBusy)) return 0;
    const int64_t n = std::min((rows.end - rows.begin) / 2, max_rows_);
    stolen_ = {{rows.end - n, rows.end}, step};
    ++count_;
    state_.store(kDonated, std::memory_order_release);
    return n;
  }

  // Waits for up to `max_rows` rows; returns nothing once all are finished. Spins for a while, then sleeps in short
  // intervals to leave the core to others.
  std::optional<StolenRows> steal(int64_t max_rows, std::chrono::microseconds spin) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point end = Clock::now() + spin;
    for (bool requests = false; unfinished_.load(std::memory_order_acquire) > 0;) {
      if (requests && state_.load(std::memory_order_acquire) == kDonated) {
        const StolenRows stolen = stolen_;
        state_.store(kIdle, std::memory_order_release);
        return stolen;
      }
      if (!requests && exchange(kIdle, kBusy)) {
        requests = true;
        max_rows_ = max_rows;
        state_.store(kRequested, std::memory_order_release);
      }
      if (Clock::now() < end) {
        cpu_pause();
      } else {
        std::this_thread::sleep_for(kSleep);
      }
    }
    return {};
  }

  // Donations in this process, for tests.
  static int64_t count() { return count_; }

 private:
  enum State { kIdle, kBusy, kRequested, kDonated };
  static constexpr std::chrono::microseconds kSleep{50};

  bool exchange(State from, State to) { return state_.compare_exchange_strong(from, to, std::memory_order_acq_rel); }

  alignas(64) std::atomic<State> state_{kIdle};
  int64_t max_rows_ = 0;  // of the thread that requests
  StolenRows stolen_{};
  alignas(64) std::atomic<int64_t> unfinished_;
  inline static std::atomic<int64_t> count_{0};
};

}  // namespace hyperlstm
