// Which tokens of a batch of sequences belong to which step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "jobs.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// The steps of sequences of any lengths, the longest first. A step has one token of each row that has not ended.
class Steps {
 public:
  // rows: the number of rows at each step, which never rises.
  explicit Steps(const std::vector<int64_t>& rows) : begins_{0} {
    begins_.reserve(rows.size() + 1);
    for (const int64_t n : rows) begins_.push_back(begins_.back() + n);
  }

  // The same number of rows at each step.
  Steps(int64_t steps, int64_t rows) : begins_(steps + 1) {
    for (int64_t t = 0; t <= steps; ++t) begins_[t] = t * rows;
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

}  // namespace hyperlstm::inline HYPERLSTM_SET
