// What tests count and disturb. They count the split that threads run, and the numbers that these pack; they let an
// allocation fail, a team be smaller than requested, and members be late.
// A library for use is built without HYPERLSTM_INSTRUMENTED, so the macros add nothing to it.
#pragma once

#ifndef HYPERLSTM_INSTRUMENTED

#define PACKED(numbers)
#define IN_THREAD(thread)
#define IN_SPLIT(groups, members)
#define TEAM(threads) (threads)
#define LATE(rank, members)
#define TRY(call) (call)
#define HOLD(blocks)

#else

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace hyperlstm {

// What a thread did since the last call of hyperlstm_counted, in the order of COUNTS in instrumented.py.
struct Counted {
  int64_t groups, members;  // of the split in which it last ran steps; 0 if it ran none
  int64_t tries;            // allocations, and calls of torch that allocate
  int64_t packed;           // numbers of weights
};

// Each thread writes its own, and the caller reads all after a call.
inline std::array<Counted, 64> counted{};
// The number of this thread in its team, 0 outside of one.
inline thread_local int64_t this_thread = 0;
// The thread whose try fails, and the number of that try; none fails if negative.
inline int64_t failing_thread = -1, failing_try = -1;
// The most threads of a team, as where OpenMP starts fewer than requested.
inline int64_t most_threads = 64;
// How much later than the others one member of a group goes on after a wait; it is another member each time.
inline std::chrono::microseconds lateness{0};
inline thread_local int64_t waits = 0;
// Blocks of memory and tensors of the library that are not yet freed.
inline std::atomic<int64_t> held{0};

inline Counted& of_this_thread() { return counted[this_thread]; }

inline void be_late(int64_t rank, int64_t members) {
  if (waits++ % members == rank) std::this_thread::sleep_for(lateness);
}

inline bool fails() {
  const int64_t before = of_this_thread().tries++;
  return this_thread == failing_thread && before == failing_try;
}

// Gives this thread a number until the end of the block.
class InThread {
 public:
  explicit InThread(int64_t thread) : before_(this_thread) { this_thread = thread; }
  ~InThread() { this_thread = before_; }

 private:
  const int64_t before_;
};

}  // namespace hyperlstm

#define PACKED(numbers) hyperlstm::of_this_thread().packed += numbers
#define IN_THREAD(thread) const hyperlstm::InThread in_thread(thread)
#define IN_SPLIT(in_groups, of_members)             \
  hyperlstm::of_this_thread().groups = (in_groups); \
  hyperlstm::of_this_thread().members = (of_members)
#define TEAM(threads) std::min<int64_t>(threads, hyperlstm::most_threads)
#define LATE(rank, members) hyperlstm::be_late(rank, members)
#define TRY(call) (hyperlstm::fails() ? 1 : (call))
#define HOLD(blocks) hyperlstm::held += blocks

#endif
