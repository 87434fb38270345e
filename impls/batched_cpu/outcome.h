// How a call of the library ended, as Python reads it.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>

namespace hyperlstm {

// In the order of Outcome in loading.py.
enum class Outcome : int32_t { kDone, kOutOfMemory, kFailed };

// Of the last call of this thread that failed. Not a string, for which there may be no memory.
using Message = std::array<char, 256>;
extern constinit thread_local Message message;

template <class Body>
Outcome outcome_of(const Body& body) {
  try {
    body();
    return Outcome::kDone;
  } catch (const std::bad_alloc&) {
    return Outcome::kOutOfMemory;
  } catch (const std::exception& error) {
    std::snprintf(message.data(), message.size(), "%s", error.what());
    return Outcome::kFailed;
  }
}

}  // namespace hyperlstm
