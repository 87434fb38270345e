// x of one step or of several. Unlike h it is known beforehand, so that where a group has few rows, the products of
// several steps with x can share one read of the weights.
#pragma once

#include <algorithm>

#include "memory.h"
#include "product.h"
#include "steps.h"

namespace hyperlstm {

// Tokens that share one read of a weight: two tiles.
constexpr int64_t kTokensAhead = 2 * kTileRows;

// x of a block of steps at which a group has the same rows, one step after another.
template <class T, class A = Acc<T>>
class Inputs {
 public:
  // x [N, I], of all steps; most: rows that the group has at a step.
  Inputs(const Steps& steps, const T* x, int64_t I, int64_t most)
      : steps_(steps), all_(x), I_(I), most_(most), side_by_side_(scratch_.empty<A>(capacity(most) * I)) {}

  // Tokens of the longest block of up to `most` rows.
  static int64_t capacity(int64_t most) { return std::max(kTokensAhead, most); }

  // Forgets the block, since other rows come next.
  void clear() { block_ = {0, 0}; }

  // Returns false if step t is in the block. Else the block is then one from t on or, backwards, up to t, of `rows`
  // rows from `first` on.
  bool enter(int64_t t, int64_t first, int64_t rows, bool backwards) {
    if (block_.begin <= t && t < block_.end) return false;
    const auto has_them = [&](int64_t s) {
      const int64_t still_going = s < 0 ? 0 : steps_.rows(s) - first;
      return backwards ? std::min(still_going, most_) == rows : still_going >= rows;
    };
    int64_t n = 1;
    while ((n + 1) * rows <= kTokensAhead && has_them(backwards ? t - n : t + n)) ++n;
    block_ = backwards ? Range{t + 1 - n, t + 1} : Range{t, t + n};
    rows_ = rows;
    const auto x_of = [&](int64_t s) { return all_ + (steps_.begin(s) + first) * I_; };
    if (n == 1) {
      x_ = widened(x_of(t), rows * I_, side_by_side_);
      return true;
    }
    for (int64_t s = block_.begin; s < block_.end; ++s) {
      std::copy_n(x_of(s), rows * I_, side_by_side_ + place(s) * I_);
    }
    x_ = side_by_side_;
    return true;
  }

  const A* x() const { return x_; }  // [tokens(), I]
  bool several() const { return block_.end - block_.begin > 1; }
  int64_t tokens() const { return place(block_.end); }
  int64_t place(int64_t t) const { return (t - block_.begin) * rows_; }  // of the first row of step t

 private:
  const Steps& steps_;
  const T* const all_;
  const int64_t I_, most_;
  Scratch scratch_;
  A* const side_by_side_;
  const A* x_ = nullptr;
  Range block_{0, 0};
  int64_t rows_ = 0;
};

}  // namespace hyperlstm
