// The barrier: what each thread wrote before is visible to all after, and long waits leave the core to others. Built on
// its own, so that it also runs under the thread sanitizer.
#include "../../../impls/batched_cpu/barrier.h"
#include "expect.h"

#include <chrono>
#include <cstdio>
#include <ctime>
#include <vector>

namespace {

template <class Body>
void in_threads(int threads, const Body& body) {
  std::vector<std::thread> team;
  for (int i = 0; i < threads; ++i) team.emplace_back([&body, i] { body(i); });
  for (std::thread& thread : team) thread.join();
}

// Numbers, not atomic, each written by one thread and read by all: a race if a wait returns too early.
void check_that_all_see_what_each_wrote(int threads, int rounds) {
  hyperlstm::Barrier barrier;
  std::vector<int> written(threads, -1);
  in_threads(threads, [&](int i) {
    for (int round = 0; round < rounds; ++round) {
      written[i] = round;
      const uint32_t arrived = barrier.arrive(threads);
      // One is so slow to wait that the others are at the next barrier.
      if ((i + round) % threads == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
      barrier.wait(arrived, hyperlstm::spin_time(threads));
      for (int other : written) expect(other == round, "all have written the number of this round");
      barrier.wait(barrier.arrive(threads), hyperlstm::spin_time(threads));
    }
  });
}

double processor_seconds() { return double(std::clock()) / CLOCKS_PER_SEC; }

void check_that_a_long_wait_sleeps() {
  hyperlstm::Barrier barrier;
  const double before = processor_seconds();
  in_threads(4, [&](int i) {
    if (i == 0) std::this_thread::sleep_for(std::chrono::milliseconds(400));
    barrier.wait(barrier.arrive(4), hyperlstm::kSpin);
  });
  expect(processor_seconds() - before < 0.1, "three threads that wait for 0.4 s use less than 0.1 s of a processor");
}

void check_that_waits_spin_long_where_each_thread_has_a_core() {
  const int64_t cores = std::thread::hardware_concurrency();
  if (cores == 0) return;  // unknown
  expect(hyperlstm::kSpinOversubscribed < hyperlstm::kSpin, "a wait for a core is left sooner than any other");
  expect(hyperlstm::spin_time(cores) == hyperlstm::kSpin, "as many threads as cores spin long");
  expect(hyperlstm::spin_time(cores + 1) == hyperlstm::kSpinOversubscribed, "more threads than cores spin briefly");
}

}  // namespace

int main() {
  check_that_waits_spin_long_where_each_thread_has_a_core();
  for (int threads = 1; threads <= 8; ++threads) check_that_all_see_what_each_wrote(threads, 300);
  check_that_a_long_wait_sleeps();
  std::puts("all in sync");
}
