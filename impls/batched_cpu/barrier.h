// A barrier for threads that meet many times a millisecond.
#pragma once

#include <atomic>
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

// Threads that run side by side meet within microseconds, so a wait spins as long; then it sleeps, since the thread it
// waits for may need the core.
class Barrier {
 public:
  // Returns once `threads` of them have called this; what each wrote before is then visible to all.
  void wait(int64_t threads) {
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
#ifdef __cpp_lib_atomic_wait
      phase_.notify_all();
#endif
      return;
    }
    for (int i = 0; i < kSpins; ++i) {
      if (phase_.load(std::memory_order_acquire) != phase) return;
      spin_once();
    }
#ifdef __cpp_lib_atomic_wait
    phase_.wait(phase, std::memory_order_acquire);
#else
    while (phase_.load(std::memory_order_acquire) == phase) std::this_thread::yield();
#endif
  }

 private:
  static constexpr int kSpins = 1000;

  // Apart, so that arriving does not take the line from those that spin.
  alignas(64) std::atomic<int64_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

}  // namespace hyperlstm
