// What the library has once, for all dtypes and instruction sets.
#include "memory.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

hyperlstm::Torch hyperlstm::torch;

// The digest of the sources that it was built of.
EXPORT const char* hyperlstm_sources() { return HYPERLSTM_SOURCES; }

// Sets the functions of torch, before any other call.
EXPORT void hyperlstm_start(const hyperlstm::Torch* torch) {
  hyperlstm::torch = *torch;
  hyperlstm::raise_trim_threshold();
}
