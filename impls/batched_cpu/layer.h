// A layer as a call passes it, with every array's size checked; and how functions are exported.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "arguments.h"
#include "cell.h"
#include "jobs.h"
#include "outcome.h"

// Exports a function for a dtype and an instruction set, both set by the build.
#define HYPERLSTM_JOIN(name, dtype, set) hyperlstm_##name##_##dtype##_##set
#define HYPERLSTM_NAME(name, dtype, set) HYPERLSTM_JOIN(name, dtype, set)
#define EXPORT(type, name) \
  extern "C" __attribute__((visibility("default"))) type HYPERLSTM_NAME(name, HYPERLSTM_DTYPE, HYPERLSTM_SET)

namespace hyperlstm::inline HYPERLSTM_SET {

using float64 = double;
using float32 = float;
using bfloat16 = struct BFloat16;

struct Sizes {
  int64_t H, S, Z, I;
};

// How threads divide the work: each group runs its own batch rows through all steps, and each of its members computes
// its own units of these rows.
struct Split {
  int64_t groups, members;
  int64_t threads() const { return groups * members; }
};

// Numbers of each parameter.
inline std::array<int64_t, kParams> elements(const Sizes& size) {
  const auto [H, S, Z, I] = size;
  return {4 * H * I,  4 * H * H, 4 * H, 4 * S * I, 4 * S * H, 4 * S * S, 4 * S, 12 * Z * S, 8 * Z,
          12 * H * Z, 4 * H,     4 * H, H,         H,         4 * S,     4 * S, S,          S};
}

template <class T>
using Params = std::array<T*, kParams>;  // null without norms or, of gradients, where none is needed

// The states h, c, h_hat and c_hat of some rows or steps, or their gradients in the accumulation type.
template <class T, class A = Acc<T>>
struct States {
  T* h;
  A* c;
  T* h_hat;
  A* c_hat;

  States from_row(int64_t row, const Sizes& size) const {
    return {h + row * size.H, c + row * size.H, h_hat + row * size.S, c_hat + row * size.S};
  }
};

// Of each row and step, what the forward pass saves so that the backward pass need not recompute it: u [4H], the hyper
// LSTM's gates before their norm [4S] and, if `has_v`, v [4H].
template <class T>
struct Residuals {
  T* numbers = nullptr;
  int64_t stride = 0, H = 0, S = 0;
  bool has_v = false;

  static int64_t width(const Sizes& size, bool has_v) { return (has_v ? 8 : 4) * size.H + 4 * size.S; }
  static Residuals in(T* numbers, const Sizes& size, bool has_v) {
    return {numbers, width(size, has_v), size.H, size.S, has_v};
  }

  T* u(int64_t row) const { return numbers + row * stride; }
  T* a(int64_t row) const { return u(row) + 4 * H; }
  T* v(int64_t row) const { return a(row) + 4 * S; }
};

// Which tokens belong to which step of sequences of any lengths, the longest first. A step has one token of each row
// that has not ended.
class Steps {
 public:
  // rows: the number of rows at each step, which never rises.
  explicit Steps(const std::vector<int64_t>& rows) : begins_{0} {
    for (const int64_t n : rows) begins_.push_back(begins_.back() + n);
  }

  int64_t count() const { return static_cast<int64_t>(begins_.size()) - 1; }
  int64_t tokens() const { return begins_.back(); }
  // The first token of step t; for t = count() the number of tokens.
  int64_t begin(int64_t t) const { return begins_[t]; }
  int64_t rows(int64_t t) const { return t < count() ? begins_[t + 1] - begins_[t] : 0; }

  // Steps `begin` to `end` alone.
  Steps part(int64_t begin, int64_t end) const {
    std::vector<int64_t> rows;
    for (int64_t t = begin; t < end; ++t) rows.push_back(this->rows(t));
    return Steps(rows);
  }

  // The rows of group i of n; all groups have about as many tokens.
  Range rows_of_group(int64_t i, int64_t n) const { return {boundary(i, n), boundary(i + 1, n)}; }

 private:
  int64_t boundary(int64_t i, int64_t n) const {
    const int64_t B = rows(0);
    if (rows(count() - 1) == B || i == 0 || i == n) return B * i / n;
    const int64_t target = tokens() * i / n;
    int64_t before = 0, length = count();
    for (int64_t b = 0; b < B; ++b) {
      while (rows(length - 1) <= b) --length;
      if (std::abs(before - target) <= std::abs(before + length - target)) return b;
      before += length;
    }
    return B;
  }

  std::vector<int64_t> begins_;
};

// The n numbers of an array. of, name: what an error calls it.
template <class T>
T* numbers_of(const Array& array, int64_t n, const char* name, const char* of = "") {
  const int64_t expected = n * int64_t(sizeof(T));
  if (array.bytes == expected && (array.address != nullptr || expected == 0)) return static_cast<T*>(array.address);
  const std::string came = array.bytes == expected ? "no memory" : std::to_string(array.bytes);
  throw std::invalid_argument(
      std::string(of) + name + ": expected " + std::to_string(expected) + " bytes, got " + came);
}

// The same, or null if there is no such array.
template <class T>
T* optional(const Array& array, int64_t n, const char* name, const char* of = "") {
  return array.bytes == 0 ? nullptr : numbers_of<T>(array, n, name, of);
}

template <class T, class A = Acc<T>>
States<T> states_of(const StateArrays& in, const Sizes& size, int64_t rows, const char* of) {
  return {
      numbers_of<T>(in.h, rows * size.H, "h", of), numbers_of<A>(in.c, rows * size.H, "c", of),
      numbers_of<T>(in.h_hat, rows * size.S, "h_hat", of), numbers_of<A>(in.c_hat, rows * size.S, "c_hat", of)};
}

template <class T, class A = Acc<T>>
struct Layer {
  Sizes size;
  Split split;  // requested; zeros for the one that suits the sizes
  Steps steps;
  int64_t N, B;  // tokens, and rows of the first step
  Params<const T> params;
  const T* x;       // [N, I]
  States<T> start;  // before the first step, [B, *]
  Mask<A> mask;     // which of g are kept, [N, H]

  explicit Layer(const LayerArguments& in)
      : size{in.H, in.S, in.Z, in.I},
        split{in.groups, in.members},
        steps(rows_of_steps(in)),
        N(steps.tokens()),
        B(steps.rows(0)),
        x(numbers_of<T>(in.x, N * size.I, "x")),
        start(states_of<T>(in.start, size, B, "start ")),
        mask{optional<bool>(in.keep, N * size.H, "keep"), static_cast<A>(in.scale)} {
    const auto n = elements(size);
    for (int i = 0; i < kParams; ++i) {
      const char* const name = kParamNames[i];
      params[i] = i < kNorms ? numbers_of<T>(in.params[i], n[i], name) : optional<T>(in.params[i], n[i], name);
    }
  }

  static std::vector<int64_t> rows_of_steps(const LayerArguments& in) {
    if (in.batch_sizes == nullptr) return std::vector<int64_t>(in.T, in.B);
    return {in.batch_sizes, in.batch_sizes + in.T};
  }

  bool has_norms() const { return params[kNorms] != nullptr; }

  Residuals<T> residuals(const LayerArguments& in) const {
    T* const numbers = optional<T>(in.residuals, N * Residuals<T>::width(size, in.has_v), "residuals");
    return numbers ? Residuals<T>::in(numbers, size, in.has_v) : Residuals<T>{};
  }
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
