// What the library has once, for all dtypes and instruction sets.
#include "arguments.h"
#include "instruments.h"
#include "memory.h"
#include "outcome.h"

#include <cstddef>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

hyperlstm::Torch hyperlstm::torch;
bool hyperlstm::use_tiles = false;
constinit thread_local hyperlstm::Message hyperlstm::message{};

// The digest of the sources that it was built of.
EXPORT const char* hyperlstm_sources() { return HYPERLSTM_SOURCES; }

// What went wrong in the last call of this thread that failed.
EXPORT const char* hyperlstm_message() { return hyperlstm::message.data(); }

// The sizes of the structures that calls read, for a comparison with those of Python.
EXPORT int64_t hyperlstm_bytes_of_forward() { return sizeof(hyperlstm::ForwardArguments); }
EXPORT int64_t hyperlstm_bytes_of_backward() { return sizeof(hyperlstm::BackwardArguments); }

// Sets the functions of torch, before any other call.
EXPORT void hyperlstm_start(const hyperlstm::Torch* torch) {
  hyperlstm::torch = *torch;
  hyperlstm::raise_trim_threshold();
}

// Chooses whether bfloat16 is multiplied by tiles, for which a process asks Linux once. Returns whether it now is.
EXPORT bool hyperlstm_use_tiles(bool wanted) {
#if defined(__linux__) && defined(__x86_64__)
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  hyperlstm::use_tiles = wanted && syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#endif
  return hyperlstm::use_tiles;
}

#ifdef HYPERLSTM_INSTRUMENTED
// Lets a try of a thread fail from now on; none if negative.
EXPORT void hyperlstm_fail(int64_t thread, int64_t number) {
  hyperlstm::failing_thread = thread;
  hyperlstm::failing_try = number;
}

// Chooses the most threads of a team, and how late a member of a group goes on after a wait.
EXPORT void hyperlstm_limit_team(int64_t threads) { hyperlstm::most_threads = threads; }
EXPORT void hyperlstm_make_late(int64_t microseconds) { hyperlstm::lateness = std::chrono::microseconds(microseconds); }

// Writes what each thread did, counts from zero again, and returns the number of blocks that are held.
EXPORT int64_t hyperlstm_counted(hyperlstm::Counted* of_threads) {
  std::ranges::copy(hyperlstm::counted, of_threads);
  hyperlstm::counted = {};
  return hyperlstm::held;
}

// The memory of containers, by the functions that the library uses.
namespace {
void* block_of(size_t bytes, size_t alignment) {
  const size_t whole = hyperlstm::divup(bytes, alignment) * alignment;
  void* const memory = hyperlstm::fails() ? nullptr : std::aligned_alloc(alignment, whole);
  if (memory == nullptr) throw std::bad_alloc();
  HOLD(1);
  return memory;
}

void release(void* memory) {
  if (memory != nullptr) HOLD(-1);
  std::free(memory);
}
}  // namespace

void* operator new(size_t bytes) { return block_of(bytes, alignof(std::max_align_t)); }
void* operator new(size_t bytes, std::align_val_t alignment) { return block_of(bytes, size_t(alignment)); }
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { release(memory); }
#endif
