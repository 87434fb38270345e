// A barrier for threads that synchronise many times a millisecond. At commit 833470aa it was checked in every order in
// which two or three threads can run; check it again when this file changes.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace hyperlstm {

// Tells the core that this thread spins.
inline void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A wait spins for this long and then sleeps. Threads that run at the same time arrive within microseconds. A thread
// that lost its core to another process may get it back soon, and a sleeping thread takes as long again to wake: with a
// busy process on each core, steps of one row take half the time if waits spin this long.
constexpr std::chrono::microseconds kSpin{500};
// With more threads than cores, the thread that is waited for may need this core.
constexpr std::chrono::microseconds kSpinOversubscribed{10};

inline std::chrono::microseconds spin_time(int64_t threads) {
  static const int64_t cores = std::thread::hardware_concurrency();  // 0 if unknown
  return cores != 0 && threads > cores ? kSpinOversubscribed : kSpin;
}

class Barrier {
 public:
  // Signals that this thread has arrived; returns what `wait` needs, which must follow before the next arrival.
  [[nodiscard]] uint32_t arrive(int64_t threads) {
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
#ifdef __cpp_lib_atomic_wait
      phase_.notify_all();
#endif
    }
    return phase;
  }

  // Returns once all threads have arrived; what each wrote before is then visible to this one.
  void wait(uint32_t phase, std::chrono::microseconds spin) const {
    if (phase_.load(std::memory_order_acquire) != phase) return;
    using Clock = std::chrono::steady_clock;
    const Clock::time_point end = Clock::now() + spin;
    do {
      for (int i = 0; i < kPollsPerClock; ++i) {
        if (phase_.load(std::memory_order_acquire) != phase) return;
        cpu_pause();
      }
    } while (Clock::now() < end);
#ifdef __cpp_lib_atomic_wait
    phase_.wait(phase, std::memory_order_acquire);
#else
    while (phase_.load(std::memory_order_acquire) == phase) std::this_thread::yield();
#endif
  }

 private:
  static constexpr int kPollsPerClock = 100;

  // In separate cache lines, so that arrivals do not take the line from spinning threads.
  alignas(64) std::atomic<int64_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

}  // namespace hyperlstm
