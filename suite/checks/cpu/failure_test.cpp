// Several threads that fail at the same time: one exception is kept, without a race. Built on its own, so that it runs
// under the thread sanitizer.
#define HYPERLSTM_SET baseline
#include "../../../impls/batched_cpu/jobs.h"

#include <cstdio>
#include <new>
#include <thread>
#include <vector>

int main() {
  constexpr int kThreads = 4, kRounds = 500;
  for (int round = 0; round < kRounds; ++round) {
    hyperlstm::Failure failure;
    std::atomic<int> ready{0};
    std::vector<std::thread> team;
    for (int i = 0; i < kThreads; ++i) {
      team.emplace_back([&] {
        ++ready;
        while (ready < kThreads) std::this_thread::yield();
        failure.catches([] { throw std::bad_alloc(); });
      });
    }
    for (std::thread& thread : team) thread.join();
    try {
      failure.rethrow();
      std::puts("nothing was thrown");
      return 1;
    } catch (const std::bad_alloc&) {
    }
  }
  std::puts("one exception each");
}
