// x of a block of steps. Unlike h it is known in advance, so if a group has few rows, the products of several steps
// with x can share one read of the weights.
#pragma once

#include <algorithm>

#include "memory.h"
#include "product.h"
#include "steps.h"

namespace hyperlstm {
inline namespace HYPERLSTM_SET {

// Tokens that share one read of a weight: two tiles.
constexpr int64_t kTokensAhead = 2 * kTileRows;

// x of consecutive steps at which a group has the same rows, one step after another.
template <class T, class A = Acc<T>>
class InputBlock {
 public:
  // x [N, I] of all steps; max_rows: of the group at any step.
  InputBlock(const Steps& steps, const T* x, int64_t I, int64_t max_rows)
      : steps_(steps), all_(x), I_(I), max_rows_(max_rows), buffer_(scratch_.empty<A>(capacity(max_rows) * I)) {}

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

  const A* x() const { return x_; }  // [tokens(), I]
  bool has_several_steps() const { return block_.size() > 1; }
  int64_t tokens() const { return offset(block_.end); }
  int64_t offset(int64_t t) const { return (t - block_.begin) * rows_; }  // of the first row of step t

 private:
  const Steps& steps_;
  const T* const all_;
  const int64_t I_, max_rows_;
  Scratch scratch_;
  A* const buffer_;
  const A* x_ = nullptr;
  Range block_{0, 0};
  int64_t rows_ = 0;
};

}  // namespace HYPERLSTM_SET
}  // namespace hyperlstm
