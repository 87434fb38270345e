// How functions are exported to Python: for each dtype and instruction set, both set by the build.
#pragma once

#include <exception>
#include <string>

#define HYPERLSTM_JOIN(name, dtype, set) hyperlstm_##name##_##dtype##_##set
#define HYPERLSTM_NAME(name, dtype, set) HYPERLSTM_JOIN(name, dtype, set)
#define EXPORT(type, name) \
  extern "C" __attribute__((visibility("default"))) type HYPERLSTM_NAME(name, HYPERLSTM_DTYPE, HYPERLSTM_SET)

namespace hyperlstm::inline HYPERLSTM_SET {

using float64 = double;
using float32 = float;
using bfloat16 = struct BFloat16;

// Returns the message of an exception of the body, or null.
template <class Body>
const char* message_of(const Body& body) {
  static thread_local std::string message;
  try {
    body();
    return nullptr;
  } catch (const std::bad_alloc&) {
    message = "not enough memory";
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
