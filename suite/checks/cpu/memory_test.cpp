// What a library does when it starts, and scratch arrays. Built on its own, with functions of torch that count.
#define HYPERLSTM_SET baseline
#define HYPERLSTM_SOURCES ""
#include "../../../impls/batched_cpu/library.cpp"
#include "expect.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

namespace {

int64_t tensors = 0, made = 0;

hyperlstm::Torch counting() {
  hyperlstm::Torch torch{};
  torch.empty_strided = [](int64_t, const int64_t* sizes, const int64_t*, int32_t, int32_t, int32_t, void** tensor) {
    *tensor = std::aligned_alloc(64, sizes[0]);
    std::memset(*tensor, 0xff, sizes[0]);
    ++tensors;
    ++made;
    return 0;
  };
  torch.get_data_ptr = [](void* tensor, void** memory) {
    *memory = tensor;
    return 0;
  };
  torch.delete_tensor_object = [](void* tensor) {
    std::free(tensor);
    --tensors;
    return 0;
  };
  return torch;
}

// Whether a block of 20 MB has pages of its own, which return to the system when it is freed.
bool returns_to_the_system() {
#ifdef __GLIBC__
  void* volatile block = std::malloc(size_t(20) << 20);
  const bool found = mallinfo2().hblks > 0;
  std::free(block);
  return found;
#else
  return false;
#endif
}

void check_that_large_blocks_stay_after_the_start() {
#ifdef __GLIBC__
  expect(returns_to_the_system(), "a large block returns to the system at first");
#endif
  const hyperlstm::Torch torch = counting();
  hyperlstm_start(&torch);
  expect(!returns_to_the_system(), "large blocks stay with the process after the start");
}

void check_arrays() {
  constexpr int64_t kSmallArrays = 100, kLarge = 1 << 14;
  std::vector<std::pair<float*, int64_t>> arrays;
  hyperlstm::Scratch scratch;
  for (int64_t n = 0; n < kSmallArrays; ++n) arrays.push_back({scratch.empty<float>(n), n});
  expect(made < kSmallArrays / 4, "small arrays share blocks");
  for (int64_t n : {2047, 2048, 2049, 4096, int(kLarge)}) arrays.push_back({scratch.zeros<float>(n), n});
  for (const auto& [array, n] : arrays) {
    expect(reinterpret_cast<uintptr_t>(array) % 64 == 0, "an array begins on a cache line");
    if (n >= kSmallArrays) {
      for (int64_t i = 0; i < n; ++i) expect(array[i] == 0, "an array of zeros has no other number");
    }
  }
  for (const auto& [array, n] : arrays) std::fill_n(array, n, float(n));
  for (const auto& [array, n] : arrays) {
    for (int64_t i = 0; i < n; ++i) expect(array[i] == float(n), "no two arrays share a number");
  }
}

}  // namespace

int main() {
  check_that_large_blocks_stay_after_the_start();
  check_arrays();
  expect(made > 0 && tensors == 0, "scratch arrays are freed with their owner");
  std::puts("as said");
}
