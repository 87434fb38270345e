// What the library has once, for all dtypes and instruction sets.
#include "memory.h"
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

hyperlstm::Torch hyperlstm::torch;
bool hyperlstm::use_tiles = false;

// The digest of the sources that it was built of.
EXPORT const char* hyperlstm_sources() { return HYPERLSTM_SOURCES; }

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
