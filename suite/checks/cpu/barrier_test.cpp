// The barrier under stress: all threads see what each wrote before it, and a long wait sleeps.
#include "../../../impls/batched_cpu/barrier.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

namespace {

void expect(bool holds, const char* claim) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", claim);
  std::exit(1);
}

template <class Body>
void in_threads(int threads, const Body& body) {
  std::vector<std::thread> team;
  for (int i = 0; i < threads; ++i) team.emplace_back([&body, i] { body(i); });
  for (std::thread& thread : team) thread.join();
}

// The numbers are not atomic: they are a race if a wait returns too early.
void check_visibility(int threads) {
  hyperlstm::Barrier barrier;
  std::vector<int> written(threads, -1);
  in_threads(threads, [&](int i) {
    for (int round = 0; round < 300; ++round) {
      written[i] = round;
      const uint32_t arrived = barrier.arrive(threads);
      // One is so slow to wait that the others are at the next barrier.
      if ((i + round) % threads == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
      barrier.wait(arrived, hyperlstm::spin_time(threads));
      for (int other : written) expect(other == round, "all threads have written the number of this round");
      barrier.wait(barrier.arrive(threads), hyperlstm::spin_time(threads));
    }
  });
}

double cpu_seconds() { return double(std::clock()) / CLOCKS_PER_SEC; }

void check_sleep() {
  hyperlstm::Barrier barrier;
  const double before = cpu_seconds();
  in_threads(4, [&](int i) {
    if (i == 0) std::this_thread::sleep_for(std::chrono::milliseconds(400));
    barrier.wait(barrier.arrive(4), hyperlstm::kSpin);
  });
  expect(cpu_seconds() - before < 0.1, "three threads that wait for 0.4 s use less than 0.1 s of a processor");
}

}  // namespace

int main() {
  for (int threads = 1; threads <= 8; ++threads) check_visibility(threads);
  check_sleep();
}
