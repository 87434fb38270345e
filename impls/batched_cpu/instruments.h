// For tests: how much each thread multiplies, packs and reads, its place in a group, an allocation that fails, a team
// that is smaller than requested, and threads that are late.
// Without HYPERLSTM_INSTRUMENTED, which no library for use is built with, the macros add nothing.
#pragma once

#ifndef HYPERLSTM_INSTRUMENTED

#define COUNT(multiply_adds)
#define PRODUCT(multiply_adds)
#define READ(numbers)
#define PACKED(numbers)
#define PACKED_SINGLY(numbers)
#define PIECE()
#define READ_SCALES(numbers)
#define SUMS_STARTED(tiles)
#define IN_THREAD(thread, threads)
#define IN_STEPS_OF(member, groups)
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

// What a thread did since the last call of hyperlstm_counted, in the order of Counted in instrumented.py.
struct Counted {
  int64_t in_steps, in_jobs;             // multiply-adds of the steps of a sequence, and all others
  int64_t group, groups, rank, members;  // its place in the last sweep; groups is 0 if it had none
  int64_t rows_begin, rows_end;          // of its group
  int64_t tries;                         // allocations, and calls of torch that allocate
  int64_t read;                          // numbers of weights as they are stored
  int64_t packed, packed_singly;         // numbers of matrices, and those that were moved one at a time
  int64_t pieces, pieces_alone;          // of jobs, and those that it ran while no other thread could take any
  int64_t scales;                        // numbers of d_weight in panels that were read
  int64_t sums;                          // tiles of products whose sums were started, each for a part of its depth
};

// Each thread writes its own, which the caller reads after they have met.
inline std::array<Counted, 64> counted{};
// Of this thread: its number in its team, 0 outside of one, the threads of that, and whether it runs steps.
inline thread_local int64_t this_thread = 0, team = 1;
inline thread_local bool in_steps = false;
// The thread, and which of its tries, that fails; none if negative.
inline int64_t failing_thread = -1, failing_try = -1;
// Whether products are counted instead of made, so that large layers take no time.
inline bool counts_only = false;
// The most threads of a team, as where OpenMP starts fewer than requested.
inline int64_t most_threads = 64;
// How long one member of a group goes on later than the others after each of its waits; another one after each.
inline std::chrono::microseconds lateness{0};
inline thread_local int64_t waits = 0;
// Blocks of memory and tensors of the library that are not yet freed.
inline std::atomic<int64_t> held{0};

inline Counted& of_this_thread() { return counted[this_thread]; }

inline void count(int64_t multiply_adds) {
  Counted& of_thread = of_this_thread();
  (in_steps ? of_thread.in_steps : of_thread.in_jobs) += multiply_adds;
}

inline void be_late(int64_t rank, int64_t members) {
  if (waits++ % members == rank) std::this_thread::sleep_for(lateness);
}

inline bool fails() {
  const int64_t before = of_this_thread().tries++;
  return this_thread == failing_thread && before == failing_try;
}

// Sets a variable until the end of the block.
template <class T>
class Until {
 public:
  Until(T& variable, T value) : variable_(variable), before_(variable) { variable = value; }
  ~Until() { variable_ = before_; }

 private:
  T& variable_;
  const T before_;
};

template <class Member>
Until<bool> steps_of(const Member& member, int64_t groups) {
  Counted& of_thread = of_this_thread();
  of_thread.group = member.group;
  of_thread.groups = groups;
  of_thread.rank = member.rank;
  of_thread.members = member.size;
  of_thread.rows_begin = member.rows.begin;
  of_thread.rows_end = member.rows.end;
  return {in_steps, true};
}

}  // namespace hyperlstm

#define COUNT(multiply_adds) hyperlstm::count(multiply_adds)
// At the begin of a function that multiplies.
#define PRODUCT(multiply_adds) \
  COUNT(multiply_adds);        \
  if (hyperlstm::counts_only) return
#define READ(numbers) hyperlstm::of_this_thread().read += numbers
#define PACKED(numbers) hyperlstm::of_this_thread().packed += numbers
#define PACKED_SINGLY(numbers) \
  PACKED(numbers);             \
  hyperlstm::of_this_thread().packed_singly += numbers
#define READ_SCALES(numbers) hyperlstm::of_this_thread().scales += numbers
#define SUMS_STARTED(tiles) hyperlstm::of_this_thread().sums += tiles
#define PIECE()                         \
  ++hyperlstm::of_this_thread().pieces; \
  hyperlstm::of_this_thread().pieces_alone += hyperlstm::team == 1
#define IN_THREAD(thread, threads) \
  const hyperlstm::Until<int64_t> in_thread(hyperlstm::this_thread, thread), in_team(hyperlstm::team, threads)
#define IN_STEPS_OF(member, groups) const hyperlstm::Until<bool> in_steps_of = hyperlstm::steps_of(member, groups)
#define TEAM(threads) std::min<int64_t>(threads, hyperlstm::most_threads)
#define LATE(rank, members) hyperlstm::be_late(rank, members)
#define TRY(call) (hyperlstm::fails() ? 1 : (call))
#define HOLD(blocks) hyperlstm::held += blocks

#endif
