// How a thread that has finished its rows takes some of another's.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

#include "barrier.h"
#include "jobs.h"

namespace hyperlstm {

// Some rows from a step on.
struct Rest {
  Range rows;
  int64_t step;
};

// Threads that have equally many rows do not end together: each loses its core to other processes at other moments. So
// one that has ended asks for rows, and another, between two steps, gives it some of its own. One asks at a time.
class Handover {
 public:
  // rows: all there are, which `finish` will be told of, by whoever has them then.
  explicit Handover(int64_t rows) : unfinished_(rows) {}

  // After the last step of some rows, or if there will be none.
  void finish(int64_t rows) { unfinished_.fetch_sub(rows, std::memory_order_release); }

  bool asked() const { return state_.load(std::memory_order_relaxed) == kAsked; }

  // Gives the last half of some rows that are to go on with a step, or as many as the other takes if that is less;
  // returns how many those are.
  int64_t give(Range rows, int64_t step) {
    if (!turn(kAsked, kBusy)) return 0;
    const int64_t n = std::min((rows.end - rows.begin) / 2, most_);
    rest_ = {{rows.end - n, rows.end}, step};
    ++given_;
    state_.store(kGiven, std::memory_order_release);
    return n;
  }

  // Waits for up to `most` rows; returns nothing once all are finished. It spins for a while and then sleeps now and
  // then, so as not to take a core from those that work.
  std::optional<Rest> ask(int64_t most, std::chrono::microseconds spin) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point end = Clock::now() + spin;
    for (bool asks = false; unfinished_.load(std::memory_order_acquire) > 0;) {
      if (asks && state_.load(std::memory_order_acquire) == kGiven) {
        const Rest rest = rest_;
        state_.store(kNobody, std::memory_order_release);
        return rest;
      }
      if (!asks && turn(kNobody, kBusy)) {
        asks = true;
        most_ = most;
        state_.store(kAsked, std::memory_order_release);
      }
      if (Clock::now() < end) {
        spin_once();
      } else {
        std::this_thread::sleep_for(kSleep);
      }
    }
    return {};
  }

  // How often rows were given in this process, for tests.
  static int64_t given() { return given_; }

 private:
  enum State { kNobody, kBusy, kAsked, kGiven };
  static constexpr std::chrono::microseconds kSleep{50};

  bool turn(State from, State to) { return state_.compare_exchange_strong(from, to, std::memory_order_acq_rel); }

  alignas(64) std::atomic<State> state_{kNobody};
  int64_t most_ = 0;  // that the thread which asks takes
  Rest rest_{};
  alignas(64) std::atomic<int64_t> unfinished_;
  inline static std::atomic<int64_t> given_{0};
};

}  // namespace hyperlstm
