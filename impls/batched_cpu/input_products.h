// The forward sweep's products with x.
#pragma once

#include "inputs.h"
#include "phases.h"

namespace hyperlstm {

// The products of a thread's units with x at a step: those of several steps at once, where there are few rows, or else
// each when it is asked for.
template <class T, class A = Acc<T>>
class InputProducts {
 public:
  // x [N, I], of all steps; most: rows at a step; of_H, of_S: the thread's panels of either LSTM.
  InputProducts(
      const Packed<A>& p, const Sizes& size, const Steps& steps, const T* x, int64_t most, Range of_H, Range of_S)
      : p_(p), size_(size), of_H_(of_H), of_S_(of_S), inputs_(steps, x, size.I, most) {
    tile_ = scratch_.empty<A>(kRowBlock * kPanel<A>);
    v_ = scratch_.empty<A>((of_H.end - of_H.begin) * kOfPanel);
    a_ = scratch_.empty<A>((of_S.end - of_S.begin) * kOfPanel);
  }

  // Other rows come next.
  void clear() { inputs_.clear(); }

  // Goes on to step t of `rows` rows from `first` on.
  void enter(int64_t t, int64_t first, int64_t rows) {
    const bool fresh = inputs_.enter(t, first, rows, false);
    place_ = inputs_.place(t);
    if (!fresh || !inputs_.several()) return;
    for (int64_t p = of_H_.begin; p < of_H_.end; ++p) write_v(p, 0, inputs_.tokens(), v_of(p));
    for (int64_t p = of_S_.begin; p < of_S_.end; ++p) write_a(p, 0, inputs_.tokens(), a_of(p));
  }

  // v [n, 4, lanes] = weight_x x of one panel and n of the rows, at most kRowBlock, until it is called again.
  const A* v(int64_t panel, int64_t first, int64_t n) {
    if (inputs_.several()) return v_of(panel) + (place_ + first) * kPanel<A>;
    write_v(panel, first, n, tile_);
    return tile_;
  }

  // Writes a [n, 4, lanes] = hyper_weight_x x + hyper_bias of one panel and n of the rows.
  void start(int64_t panel, int64_t first, int64_t n, A* a) const {
    if (!inputs_.several()) return write_a(panel, first, n, a);
    std::copy_n(a_of(panel) + (place_ + first) * kPanel<A>, n * kPanel<A>, a);
  }

 private:
  static constexpr int64_t kOfPanel = kTokensAhead * kPanel<A>;

  void write_v(int64_t panel, int64_t first, int64_t n, A* v) const {
    const int64_t I = size_.I;
    multiply<A>(n, {inputs_.x() + first * I, I}, p_.weight_x + panel * I * kPanel<A>, I, {v, kPanel<A>, false});
  }

  void write_a(int64_t panel, int64_t first, int64_t n, A* a) const {
    hyper_inputs(p_, size_, panel, n, inputs_.x() + first * size_.I, a);
  }

  A* v_of(int64_t panel) const { return v_ + (panel - of_H_.begin) * kOfPanel; }
  A* a_of(int64_t panel) const { return a_ + (panel - of_S_.begin) * kOfPanel; }

  const Packed<A>& p_;
  const Sizes size_;
  const Range of_H_, of_S_;
  Inputs<T> inputs_;
  Scratch scratch_;
  A *tile_, *v_, *a_;  // v_ and a_ [panels of this thread, kTokensAhead, 4, lanes]: of several steps
  int64_t place_ = 0;  // of this step's first row among their tokens
};

}  // namespace hyperlstm
