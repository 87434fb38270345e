// A layer as Python passes it: its sizes, parameters, states and residuals, and functions as Python calls them.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

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

// The parameters in the order of LayerParams; the norms come last.
enum Param {
  kWeightX,
  kWeightH,
  kBias,
  kHyperWeightX,
  kHyperWeightH,
  kHyperWeightS,
  kHyperBias,
  kZWeight,
  kZBias,
  kDWeight,
  kNorms,
  kParams = kNorms + 8
};

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

// The arguments of a call, one after another: a number, a list of numbers, or the address of a contiguous array and its
// size in bytes, 0 and 0 if there is none.
class Arguments {
 public:
  explicit Arguments(const int64_t* next) : next_(next) {}

  int64_t number() { return *next_++; }

  std::vector<int64_t> list(int64_t n) {
    next_ += n;
    return {next_ - n, next_};
  }

  template <class T>
  T* optional(int64_t n) {
    if (next_[1] != 0) return array<T>(n);
    next_ += 2;
    ++arrays_;
    return nullptr;
  }

  template <class T>
  T* array(int64_t n) {
    const int64_t address = number(), bytes = number(), expected = n * int64_t(sizeof(T));
    ++arrays_;
    if (bytes == expected && (address != 0 || bytes == 0)) return reinterpret_cast<T*>(address);
    if (bytes == expected) throw std::invalid_argument("array " + std::to_string(arrays_) + ": it has no memory");
    throw std::invalid_argument(
        "array " + std::to_string(arrays_) + ": expected " + std::to_string(expected) + " bytes, got " +
        std::to_string(bytes));
  }

  template <class T, class A = Acc<T>>
  States<T> states(const Sizes& size, int64_t rows) {
    return {array<T>(rows * size.H), array<A>(rows * size.H), array<T>(rows * size.S), array<A>(rows * size.S)};
  }

  template <class T>
  Residuals<T> residuals(const Sizes& size, int64_t rows) {
    const bool has_v = next_[1] == rows * Residuals<T>::width(size, true) * int64_t(sizeof(T));
    T* const numbers = optional<T>(rows * Residuals<T>::width(size, has_v));
    return numbers ? Residuals<T>::in(numbers, size, has_v) : Residuals<T>{};
  }

 private:
  const int64_t* next_;
  int arrays_ = 0;  // that were read
};

// What both passes read, in this order: H, S, Z, I; the requested split, zeros if there is none; the number of steps;
// B if each step has as many rows, else -1 and their rows, which never rise; the parameters; x [N, I], where N tokens
// is the sum of the rows; the states before the first step, [B, *]; and which of g are kept, [N, H], see Mask.
template <class T, class A = Acc<T>>
struct Layer {
  Sizes size;
  Split split;  // requested; zeros for the one that suits the sizes
  Steps steps;
  int64_t N, B;
  Params<const T> params;
  const T* x;
  States<T> start;
  Mask<A> mask;

  Layer(Arguments& in, double scale)
      : size{in.number(), in.number(), in.number(), in.number()},
        split{in.number(), in.number()},
        steps(read_steps(in)),
        N(steps.tokens()),
        B(steps.rows(0)) {
    const auto n = elements(size);
    for (int i = 0; i < kParams; ++i) params[i] = i < kNorms ? in.array<T>(n[i]) : in.optional<T>(n[i]);
    x = in.array<T>(N * size.I);
    start = in.states<T>(size, B);
    mask = {in.optional<bool>(N * size.H), static_cast<A>(scale)};
  }

  static Steps read_steps(Arguments& in) {
    const int64_t steps = in.number(), rows = in.number();
    return Steps(rows < 0 ? in.list(steps) : std::vector<int64_t>(steps, rows));
  }

  bool has_norms() const { return params[kNorms] != nullptr; }
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
