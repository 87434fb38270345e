// Scratch arrays of a thread, and hints for large memory.
#pragma once

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

#include "instruments.h"
#include "jobs.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// Requests huge pages for an array, unless it is null, that is about to be written. Large arrays return to the system
// after each use, and faulting them in again by pages of 4 KiB takes longer than computing their values.
template <class A>
void advise_huge_pages(const A* memory, int64_t n) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (memory == nullptr) return;
  constexpr uintptr_t kHuge = uintptr_t(2) << 20;
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = (address + kHuge - 1) & ~(kHuge - 1), end = (address + n * sizeof(A)) & ~(kHuge - 1);
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// glibc returns free memory to the system once it exceeds twice the largest block freed so far. Each training step
// would then fault in its memory again, which can take half as long as the step itself. So this allocates and frees
// one untouched block of about the largest size that glibc takes into account.
inline void raise_trim_threshold() {
#ifdef __GLIBC__
  void* volatile block = std::malloc(size_t(31) << 20);
  std::free(block);
#endif
}

// Allocates arrays that begin on a cache line and are freed together. Small ones share a block.
class Scratch {
 public:
  template <class A>
  A* empty(int64_t n) {
    const int64_t bytes = divup(std::max<int64_t>(n, 1) * sizeof(A), 64) * 64;
    A* const array = static_cast<A*>(bytes > kSmall ? allocate(bytes) : of_block(bytes));
#ifdef HYPERLSTM_POISON  // for tests: NaN shows reads of uninitialised memory
    if constexpr (std::is_constructible_v<A, float>) std::fill_n(array, n, A(std::numeric_limits<float>::quiet_NaN()));
#endif
    return array;
  }

  template <class A>
  A* zeros(int64_t n) {
    A* const array = empty<A>(n);
    std::fill_n(array, n, A(0));
    return array;
  }

 private:
#ifdef HYPERLSTM_POISON  // separate arrays, so that the address sanitizer sees where they end
  static constexpr int64_t kSmall = 0, kBlock = 0;
#else
  static constexpr int64_t kSmall = 1 << 13, kBlock = 1 << 14;
#endif

  void* of_block(int64_t bytes) {
    if (bytes > left_) {
      next_ = static_cast<char*>(allocate(kBlock));
      left_ = kBlock;
    }
    left_ -= bytes;
    return std::exchange(next_, next_ + bytes);
  }

  // As bytes of a tensor: torch's allocator is the one that memory is counted by.
  void* allocate(int64_t bytes) {
    const int64_t stride = 1;
    void *tensor, *memory;
    if (TRY(torch.empty_strided(1, &bytes, &stride, kByte, kCpu, 0, &tensor)) != 0) throw std::bad_alloc();
    owned_.push_back(owned(tensor));
    if (TRY(torch.get_data_ptr(tensor, &memory)) != 0) throw std::bad_alloc();
    return memory;
  }

  std::vector<Tensor> owned_;
  char* next_ = nullptr;  // in the last block, which has left_ bytes left
  int64_t left_ = 0;
};

// Whether numbers are converted before they are multiplied.
template <class T>
constexpr bool kWidens = !std::is_same_v<T, Factor<T>>;

// n numbers as factors: as they are or, if they must be, converted into wide [n].
template <class T>
const Factor<T>* widened(const T* numbers, int64_t n, Factor<T>* wide) {
  if constexpr (!kWidens<T>) {
    return numbers;
  } else {
    for (int64_t i = 0; i < n; ++i) wide[i] = static_cast<Factor<T>>(numbers[i]);
    return wide;
  }
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
