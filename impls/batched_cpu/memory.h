// Arrays of one thread, and hints for memory that is large.
#pragma once

#include <c10/core/CPUAllocator.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <vector>

#include "vec.h"

namespace hyperlstm {

// Asks for huge pages for memory that is about to be written. Large arrays go back to the system after each use, and
// faulting them in again by pages of 4 KiB takes longer than computing their values. Only a hint: no value changes.
template <class A>
void expect_writes(const A* memory, int64_t n) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = uintptr_t(2) << 20;
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = (address + kHuge - 1) & ~(kHuge - 1), end = (address + n * sizeof(A)) & ~(kHuge - 1);
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// glibc gives free memory back to the system once there is more of it than twice the largest block freed so far. Each
// training step would then fault in its memory anew, which can take half as long as the step itself. So one large block
// is allocated and freed, untouched: about the largest that glibc takes into account.
inline void expect_large_blocks() {
#ifdef __GLIBC__
  void* volatile block = std::malloc(size_t(31) << 20);
  std::free(block);
#endif
}

// Hands out arrays that begin on a cache line and are freed together.
class Scratch {
 public:
  template <class A>
  A* empty(int64_t n) {
    owned_.push_back(c10::GetCPUAllocator()->allocate(std::max<int64_t>(n, 1) * sizeof(A)));
    A* const array = static_cast<A*>(owned_.back().get());
#ifdef HYPERLSTM_POISON  // for tests: whatever is read before it is written shows
    std::fill_n(array, n, std::numeric_limits<A>::quiet_NaN());
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
  std::vector<c10::DataPtr> owned_;
};

// Stored rows [rows, F] as a factor of a product: as they are, or converted into wide [rows, F].
template <class T, class A = Acc<T>>
const A* widened(const T* rows, int64_t n, A* wide) {
  if constexpr (std::is_same_v<T, A>) {
    return rows;
  } else {
    for (int64_t i = 0; i < n; ++i) wide[i] = static_cast<A>(rows[i]);
    return wide;
  }
}

}  // namespace hyperlstm
