// A barrier for threads that meet many times a millisecond.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace hyperlstm {

// Tells the core that this thread spins.
inline void spin_once() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A wait spins for a while and then sleeps. Threads that run side by side meet within microseconds. Where another
// process has taken the core of one, it may have it back within a while, and a thread that sleeps takes as long again
// to get going, so that with a busy process on each core steps of one row take half the time if waits spin for longer.
constexpr std::chrono::microseconds kSpin{500};
// Where there are more threads than cores, the thread that is waited for may need this one.
constexpr std::chrono::microseconds kSpinInCrowd{10};

inline std::chrono::microseconds spin_of(int64_t threads) {
  static const int64_t cores = std::thread::hardware_concurrency();  // 0 if unknown
  return cores != 0 && threads > cores ? kSpinInCrowd : kSpin;
}

class Barrier {
 public:
  // Tells the others that this thread has come so far; what it returns is for `wait`, which is due before it arrives
  // again.
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

  // Returns once all have arrived; what each wrote before that is then visible to this thread.
  void wait(uint32_t phase, std::chrono::microseconds spin) const {
    if (phase_.load(std::memory_order_acquire) != phase) return;
    using Clock = std::chrono::steady_clock;
    const Clock::time_point end = Clock::now() + spin;
    do {
      for (int i = 0; i < kLooks; ++i) {
        if (phase_.load(std::memory_order_acquire) != phase) return;
        spin_once();
      }
    } while (Clock::now() < end);
#ifdef __cpp_lib_atomic_wait
    phase_.wait(phase, std::memory_order_acquire);
#else
    while (phase_.load(std::memory_order_acquire) == phase) std::this_thread::yield();
#endif
  }

 private:
  static constexpr int kLooks = 100;  // between two looks at the clock

  // Apart, so that arriving does not take the line from those that spin.
  alignas(64) std::atomic<int64_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

}  // namespace hyperlstm
