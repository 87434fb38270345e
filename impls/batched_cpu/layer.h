// A layer as Python passes it: its sizes, parameters, states and residuals.
#pragma once

#include <stdexcept>
#include <string>

#include "cell.h"
#include "steps.h"
#include "threads.h"

namespace hyperlstm::inline HYPERLSTM_SET {

struct Sizes {
  int64_t H, S, Z, I;
};

// The parameters in the order of LayerParams; those of the norms come last.
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
    if (bytes == expected) return reinterpret_cast<T*>(address);
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
    return rows < 0 ? Steps(in.list(steps)) : Steps(steps, rows);
  }

  bool has_norms() const { return params[kNorms] != nullptr; }
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
