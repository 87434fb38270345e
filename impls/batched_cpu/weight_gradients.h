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

// Rows that are summed one by one, before such sums are added up. So the rounding error grows with the root of either
// number of terms, and not with the root of their product as in one long sum.
constexpr int64_t kSummed = 128;
// Columns of d that are gathered side by side: whole tiles, and whole vectors of any width.
constexpr int64_t kGathered = 48;
// Such blocks whose parts stay in the L2 cache while all of the values go by.
constexpr int64_t kGatheredBlocks = 3;

// Rows from which on products take longer than reading and writing the totals.
constexpr int64_t kDeep = 96;

// One of the gradients [F, G] that have a left factor d in common: d^T times values [N, G], which are packed. Where
// `fresh`, total is written, else added to.
template <class A>
struct Target {
  A* total;
  const A* packed;
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
    left_ = scratch_.empty<A>(kGatheredBlocks * kGathered * kSummed);
    tile_ = scratch_.empty<A>(kGathered * kPanel<A>);
  }

  void run(int64_t begin, int64_t end) {
    constexpr int64_t kGroupRows = kGatheredBlocks * kGathered;
    for (int64_t first = begin; first < end; first += kGroupRows) {
      const int64_t rows = std::min(kGroupRows, end - first);
      for (int64_t n = 0; n < N_; n += kSummed) {
        const int64_t depth = std::min(kSummed, N_ - n);
        gather(first, rows, n, depth);
        for (const Target<A>& target : targets_) group(target, first, rows, n, depth);
      }
    }
  }

 private:
  // left_ [blocks, depth, kGathered] = d[n + i, first + r].
  void gather(int64_t first, int64_t rows, int64_t n, int64_t depth) {
    for (int64_t r = 0; r < rows; r += kGathered) {
      const int64_t some = std::min(kGathered, rows - r);
      for (int64_t i = 0; i < depth; ++i) {
        const A* const from = d_ + (n + i) * stride_ + first + r;
        A* const to = left_ + r * kSummed + i * kGathered;
        if (some < kGathered) {
          std::copy_n(from, some, to);
          continue;
        }
#pragma GCC unroll 16
        for (int64_t j = 0; j < kGathered; j += kLanes<A>) Vec<A>::loadu(from + j).store(to + j);
      }
    }
  }

  // total[first + r] += the sum over `depth` rows from n on of left_ values[n]. The tiles of a gathered block take a
  // part of a panel together, while it is in the L1 cache. Where there is little to multiply for all that is written, a
  // tile takes all columns before the next, so that totals are read and written in the order in which they lie in
  // memory.
  void group(const Target<A>& target, int64_t first, int64_t rows, int64_t n, int64_t depth) {
    const int64_t G = target.G, most = depth < kDeep ? kTileRows : kGathered;
    for (int64_t r = 0; r < rows; r += most) {
      const int64_t some = std::min(most, rows - r);
      const Left<A> left{left_ + r / kGathered * kGathered * kSummed + r % kGathered, 1, kGathered};
      for (int64_t p = 0; p < panels<A>(G, false); ++p) {
        const A* const panel = target.packed + (p * N_ + n) * kPanel<A>;
        const int64_t column = p * kPanel<A>, columns = std::min(kPanel<A>, G - column);
        const Into<A> into{target.total + (first + r) * G + column, G, !target.fresh || n > 0};
        multiply_columns<A>(some, columns, left, panel, depth, into, tile_, false);
      }
    }
  }

  const A* const d_;
  const int64_t stride_, N_;
  const std::vector<Target<A>>& targets_;
  Scratch scratch_;
  A *left_, *tile_;
};

// Values [N, G] of a chunk, those that are `needed` packed as right factors of products. They are there once the jobs
// have been run.
template <class A>
class PackedValues {
 public:
  // Adds to jobs.
  PackedValues(const Tensors& values, const std::vector<bool>& needed, Jobs& jobs) : N_(values[0].size(0)) {
    for (size_t i = 0; i < values.size(); ++i) {
      const at::Tensor& x = values[i];
      packed_.push_back(needed[i] ? scratch_.empty<A>(panels<A>(x.size(1), false) * N_ * kPanel<A>) : nullptr);
      if (!needed[i]) continue;
      const Columns at{0, x.stride(1), x.stride(0)};
      jobs.push_back(pack_job<A>(x.const_data_ptr<A>(), at, N_, x.size(1), false, packed_[i], kCostOfValue));
    }
  }

  int64_t rows() const { return N_; }
  const A* operator[](size_t i) const { return packed_[i]; }

 private:
  // Of packing a number, in multiply-adds.
  static constexpr int64_t kCostOfValue = 8;

  const int64_t N_;
  Scratch scratch_;
  std::vector<A*> packed_;
};

// Gradients with a factor d [N, F] in common, whose rows are contiguous. To each total, contiguous and of F G numbers,
// d^T times one of the values is added, which is told by its place among them; where `fresh`, totals are written.
struct Products {
  at::Tensor d;
  std::vector<std::pair<at::Tensor, size_t>> totals;
};

template <class A>
Job sum_job(const Products& products, const Tensors& values, const PackedValues<A>& packed, bool fresh) {
  const at::Tensor& d = products.d;
  std::vector<Target<A>> targets;
  int64_t columns = 1;  // to gather a row from d takes about as long as a panel
  for (const auto& [total, i] : products.totals) {
    const int64_t G = values[i].size(1);
    TORCH_CHECK(
        total.is_contiguous() && total.numel() == d.size(1) * G && d.size(0) == values[i].size(0) && d.stride(1) == 1,
        "expected d [N, F] with contiguous rows, values [N, G] and a contiguous total of F G numbers, got ", d.sizes(),
        ", ", values[i].sizes(), " and ", total.sizes());
    targets.push_back({total.template mutable_data_ptr<A>(), packed[i], G, fresh});
    columns += panels<A>(G, false);
  }
  const int64_t N = packed.rows();
  const auto run = [d, N, targets](int64_t begin, int64_t end) {
    GradientRows<A>(d.const_data_ptr<A>(), d.stride(0), N, targets).run(begin, end);
  };
  return {d.size(1), columns * N * kPanel<A>, run, kGathered};
}

}  // namespace hyperlstm
