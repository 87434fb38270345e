// x of a block of steps. Unlike h it is known in advance, so if a group has few rows, the products of several steps
// with x can share one read of the weights.
#pragma once

#include "phases.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// Tokens that share one read of a weight: two tiles.
constexpr int64_t kTokensAhead = 2 * kTileRows;

// x of consecutive steps at which a group has the same rows, one step after another.
template <class T>
class InputBlock {
 public:
  // x [N, I] of all steps; max_rows: of the group at any step.
  InputBlock(const Steps& steps, const T* x, int64_t I, int64_t max_rows)
      : steps_(steps),
        all_(x),
        I_(I),
        max_rows_(max_rows),
        buffer_(scratch_.empty<Factor<T>>(capacity(max_rows) * I)) {}

  // Tokens of the longest block.
  static int64_t capacity(int64_t max_rows) { return std::max(kTokensAhead, max_rows); }

  // False if step t is in the block. Else the block becomes one from t on or, backwards, up to t, of `rows` rows from
  // `first` on.
  bool advance(int64_t t, int64_t first, int64_t rows, bool backwards) {
    if (block_.begin <= t && t < block_.end) return false;
    const auto has_them = [&](int64_t s) {
      const int64_t present = s < 0 ? 0 : steps_.rows(s) - first;
      return backwards ? std::min(present, max_rows_) == rows : present >= rows;
    };
    int64_t n = 1;
    while ((n + 1) * rows <= kTokensAhead && has_them(backwards ? t - n : t + n)) ++n;
    block_ = backwards ? Range{t + 1 - n, t + 1} : Range{t, t + n};
    rows_ = rows;
    const auto x_of = [&](int64_t s) { return all_ + (steps_.begin(s) + first) * I_; };
    if (n == 1) {
      x_ = widened(x_of(t), rows * I_, buffer_);
      return true;
    }
    for (int64_t s = block_.begin; s < block_.end; ++s) std::copy_n(x_of(s), rows * I_, buffer_ + offset(s) * I_);
    x_ = buffer_;
    return true;
  }

  const Factor<T>* x() const { return x_; }  // [tokens(), I]
  bool has_several_steps() const { return block_.size() > 1; }
  int64_t tokens() const { return offset(block_.end); }
  int64_t offset(int64_t t) const { return (t - block_.begin) * rows_; }  // of the first row of step t

 private:
  const Steps& steps_;
  const T* const all_;
  const int64_t I_, max_rows_;
  Scratch scratch_;
  Factor<T>* const buffer_;
  const Factor<T>* x_ = nullptr;
  Range block_{0, 0};
  int64_t rows_ = 0;
};

// The products of a thread's units with x at a step: with few rows those of several steps at once, else each when it
// is needed.
template <class T, class A = Acc<T>>
class InputProducts {
 public:
  // x [N, I] of all steps; max_rows: at a step; main_panels, hyper_panels: the thread's, of either LSTM.
  InputProducts(
      const Panels<T>& p, const Steps& steps, const T* x, int64_t max_rows, Range main_panels, Range hyper_panels)
      : p_(p), main_panels_(main_panels), hyper_panels_(hyper_panels), block_(steps, x, p.size.I, max_rows) {
    tile_ = scratch_.empty<A>(kRowBlock * kPanel<A>);
    v_ = scratch_.empty<A>(main_panels.size() * kPerPanel);
    a_ = scratch_.empty<A>(hyper_panels.size() * kPerPanel);
  }

  // Advances to step t of `rows` rows from `first` on.
  void advance(int64_t t, int64_t first, int64_t rows) {
    const bool fresh = block_.advance(t, first, rows, false);
    offset_ = block_.offset(t);
    if (!fresh || !block_.has_several_steps()) return;
    for (int64_t p = main_panels_.begin; p < main_panels_.end; ++p) write_v(p, 0, block_.tokens(), v_of(p));
    for (int64_t p = hyper_panels_.begin; p < hyper_panels_.end; ++p) write_a(p, 0, block_.tokens(), a_of(p));
  }

  // v [n, 4, lanes] = weight_x x of one panel and n of the rows, at most kRowBlock, valid until the next call.
  const A* v(int64_t panel, int64_t first, int64_t n) {
    if (block_.has_several_steps()) return v_of(panel) + (offset_ + first) * kPanel<A>;
    write_v(panel, first, n, tile_);
    return tile_;
  }

  // Writes a [n, 4, lanes] = hyper_weight_x x + hyper_bias of one panel and n of the rows.
  void start_hyper_gates(int64_t panel, int64_t first, int64_t n, A* a) const {
    if (!block_.has_several_steps()) return write_a(panel, first, n, a);
    std::copy_n(a_of(panel) + (offset_ + first) * kPanel<A>, n * kPanel<A>, a);
  }

 private:
  static constexpr int64_t kPerPanel = kTokensAhead * kPanel<A>;

  void write_v(int64_t panel, int64_t first, int64_t n, A* v) const {
    const int64_t I = p_.size.I;
    const Factor<T>* const weights = p_.weight_x + panel * panel_numbers<Factor<T>>(I);
    multiply(n, {block_.x() + first * I, I}, weights, I, {v, kPanel<A>, false});
  }

  void write_a(int64_t panel, int64_t first, int64_t n, A* a) const {
    hyperlstm::start_hyper_gates(p_, panel, n, block_.x() + first * p_.size.I, a);
  }

  A* v_of(int64_t panel) const { return v_ + (panel - main_panels_.begin) * kPerPanel; }
  A* a_of(int64_t panel) const { return a_ + (panel - hyper_panels_.begin) * kPerPanel; }

  const Panels<T>& p_;
  const Range main_panels_, hyper_panels_;
  InputBlock<T> block_;
  Scratch scratch_;
  A *tile_, *v_, *a_;   // v_ and a_ [panels of this thread, kTokensAhead, 4, lanes]: of several steps
  int64_t offset_ = 0;  // of this step's first row among their tokens
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
