// Weight gradients in the accumulation type: products that sum over all rows of a chunk.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "jobs.h"
#include "memory.h"
#include "packing.h"
#include "product.h"

namespace hyperlstm {

// Rows of one partial sum; the partial sums are then added up. The rounding error grows with the root of either number
// of terms, not with the root of their product as in one long sum.
constexpr int64_t kPartialRows = 128;
// Columns of d that are gathered into one block: whole tiles, and whole vectors of any width.
constexpr int64_t kGathered = 48;
// Such blocks, whose parts stay in the L2 cache while all values are read once.
constexpr int64_t kGatheredBlocks = 3;

// Rows from which on products take longer than reading and writing the totals.
constexpr int64_t kDeep = 96;

// One of the gradients [F, G] that share a left factor d: d^T times values [N, G], in panels. If `fresh`, total is
// written, else added to.
template <class A>
struct Target {
  A* total;
  const A* panels;
  int64_t G;
  bool fresh;
};

// A thread's rows of some gradients; d [N, F] has rows `stride` apart.
template <class A>
class GradientRows {
  static_assert(kGathered % kTileRows == 0 && kGathered % kLanes<A> == 0);

 public:
  GradientRows(const A* d, int64_t stride, int64_t N, const std::vector<Target<A>>& targets)
      : d_(d), stride_(stride), N_(N), targets_(targets) {
    lhs_ = scratch_.empty<A>(kGatheredBlocks * kGathered * kPartialRows);
    tile_ = scratch_.empty<A>(kGathered * kPanel<A>);
  }

  void run(int64_t begin, int64_t end) {
    constexpr int64_t kGroupRows = kGatheredBlocks * kGathered;
    for (int64_t first = begin; first < end; first += kGroupRows) {
      const int64_t rows = std::min(kGroupRows, end - first);
      for (int64_t n = 0; n < N_; n += kPartialRows) {
        const int64_t depth = std::min(kPartialRows, N_ - n);
        gather(first, rows, n, depth);
        for (const Target<A>& target : targets_) group(target, first, rows, n, depth);
      }
    }
  }

 private:
  // lhs_ [blocks, depth, kGathered] = d[n + i, first + r].
  void gather(int64_t first, int64_t rows, int64_t n, int64_t depth) {
    for (int64_t r = 0; r < rows; r += kGathered) {
      const int64_t some = std::min(kGathered, rows - r);
      for (int64_t i = 0; i < depth; ++i) {
        const A* const from = d_ + (n + i) * stride_ + first + r;
        A* const to = lhs_ + r * kPartialRows + i * kGathered;
        if (some < kGathered) {
          std::copy_n(from, some, to);
          continue;
        }
        UNROLL for (int64_t j = 0; j < kGathered; j += kLanes<A>) Vec<A>::loadu(from + j).store(to + j);
      }
    }
  }

  // total[first + r] += the sum over `depth` rows from n on of lhs_ values[n]. The tiles of a gathered block share a
  // part of a panel while it is in the L1 cache. With little to multiply for what is written, a tile takes all columns
  // before the next, so that totals are read and written in the order of memory.
  void group(const Target<A>& target, int64_t first, int64_t rows, int64_t n, int64_t depth) {
    const int64_t G = target.G, block = depth < kDeep ? kTileRows : kGathered;
    for (int64_t r = 0; r < rows; r += block) {
      const int64_t some = std::min(block, rows - r);
      const Lhs<A> lhs{lhs_ + r / kGathered * kGathered * kPartialRows + r % kGathered, 1, kGathered};
      for (int64_t p = 0; p < panel_count<A>(G, false); ++p) {
        const A* const panel = target.panels + (p * N_ + n) * kPanel<A>;
        const int64_t column = p * kPanel<A>, columns = std::min(kPanel<A>, G - column);
        const Into<A> into{target.total + (first + r) * G + column, G, !target.fresh || n > 0};
        multiply_columns<A>(some, columns, lhs, panel, depth, into, tile_, false);
      }
    }
  }

  const A* const d_;
  const int64_t stride_, N_;
  const std::vector<Target<A>>& targets_;
  Scratch scratch_;
  A *lhs_, *tile_;
};

// Gradients that share a factor d [N, F] with contiguous rows. To each total, contiguous and of F G numbers, d^T times
// one of the values is added, given by its index.
struct Products {
  at::Tensor d;
  std::vector<std::pair<at::Tensor, size_t>> totals;
};

// panels: of the values. fresh: totals are written, not added to.
template <class A>
Job sum_job(const Products& products, const Tensors& values, const std::vector<A*>& panels, bool fresh) {
  const at::Tensor& d = products.d;
  const int64_t N = d.size(0);
  std::vector<Target<A>> targets;
  int64_t columns = 1;  // gathering a row from d takes about as long as a panel
  for (const auto& [total, i] : products.totals) {
    const int64_t G = values[i].size(1);
    TORCH_CHECK(
        total.is_contiguous() && total.numel() == d.size(1) * G && N == values[i].size(0) && d.stride(1) == 1,
        "expected d [N, F] with contiguous rows, values [N, G] and a contiguous total of F G numbers, got ", d.sizes(),
        ", ", values[i].sizes(), " and ", total.sizes());
    targets.push_back({total.template mutable_data_ptr<A>(), panels[i], G, fresh});
    columns += panel_count<A>(G, false);
  }
  const auto run = [d, N, targets](int64_t begin, int64_t end) {
    GradientRows<A>(d.const_data_ptr<A>(), d.stride(0), N, targets).run(begin, end);
  };
  return {d.size(1), columns * N * kPanel<A>, run, kGathered};
}

}  // namespace hyperlstm
