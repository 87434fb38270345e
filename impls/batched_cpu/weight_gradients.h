// Weight gradients: products that sum over all rows of a chunk.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "memory.h"
#include "product.h"
#include "threads.h"

namespace hyperlstm {

// A matrix [N, width] whose number (n, i) lies at row * n + unit * i.
template <class A>
struct Matrix {
  const A* numbers;
  int64_t row, unit, width;

  bool operator==(const Matrix& other) const {
    return std::tie(numbers, row, unit, width) == std::tie(other.numbers, other.row, other.unit, other.width);
  }
};

// Rows that are summed one by one, before such sums are added up. So the rounding error grows with the root of either
// number of terms, and not with the root of their product as in one long sum.
constexpr int64_t kSummed = 128;
// Columns of d that are gathered side by side: whole tiles, and whole vectors of any width.
constexpr int64_t kGathered = 48;
// Such blocks whose parts stay in the L2 cache while all of the values go by.
constexpr int64_t kGatheredBlocks = 3;

// One of the gradients [F, G] that have a left factor d in common: d^T times values [N, G], which are packed. Where
// `fresh`, total is written.
template <class A>
struct Target {
  A* total;
  const A* packed;
  int64_t G;
  bool fresh;
};

// A thread's rows of some gradients.
template <class A>
class GradientRows {
  static_assert(kGathered % kTileRows == 0 && kGathered % kLanes<A> == 0);

 public:
  GradientRows(Matrix<A> d, int64_t N, const std::vector<Target<A>>& targets) : d_(d), N_(N), targets_(targets) {
    left_ = scratch_.empty<A>(kGatheredBlocks * kGathered * kSummed);
    tile_ = scratch_.empty<A>(kTileRows * kPanel<A>);
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
        const A* const from = d_.numbers + (n + i) * d_.row + first + r;
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

  // total[first + r] += the sum over `depth` rows from n on of left_ values[n]. A tile of rows takes all columns before
  // the next, so that the total is read and written in the order in which it lies in memory.
  void group(const Target<A>& target, int64_t first, int64_t rows, int64_t n, int64_t depth) {
    const int64_t G = target.G;
    for (int64_t r = 0; r < rows; r += kTileRows) {
      const int64_t some = std::min<int64_t>(kTileRows, rows - r);
      const A* const left = left_ + r / kGathered * kGathered * kSummed + r % kGathered;
      for (int64_t p = 0; p < panels<A>(G, false); ++p) {
        const A* panel = target.packed + (p * N_ + n) * kPanel<A>;
        const int64_t column = p * kPanel<A>, columns = std::min(kPanel<A>, G - column);
        const Into<A> into{target.total + (first + r) * G + column, G, !target.fresh || n > 0};
        multiply_columns<A>(some, columns, {left, 1, kGathered}, panel, depth, into, tile_);
      }
    }
  }

  const Matrix<A> d_;
  const int64_t N_;
  const std::vector<Target<A>>& targets_;
  Scratch scratch_;
  A *left_, *tile_;
};

// total [F, G] += d^T values, of d [N, F], whose rows are contiguous, and values [N, G]; where `fresh`, total is
// written.
template <class A>
struct GradientProduct {
  A* total;
  Matrix<A> d, values;
  bool fresh;
};

// The GradientProduct of tensors; total is contiguous and has F G numbers.
template <class A>
GradientProduct<A> gradient_product(
    const at::Tensor& total, const at::Tensor& d, const at::Tensor& values, bool fresh) {
  TORCH_CHECK(
      total.is_contiguous() && total.numel() == d.size(1) * values.size(1) && d.size(0) == values.size(0) &&
          d.stride(1) == 1,
      "expected d [N, F] with contiguous rows, values [N, G] and a contiguous total of F G numbers, got ", d.sizes(),
      ", ", values.sizes(), " and ", total.sizes());
  return {
      total.mutable_data_ptr<A>(),
      {d.const_data_ptr<A>(), d.stride(0), 1, d.size(1)},
      {values.const_data_ptr<A>(), values.stride(0), values.stride(1), values.size(1)},
      fresh};
}

// All products of N rows, in two parallel regions: threads that sleep between regions take long to wake. A factor of
// several products is packed or gathered once.
template <class A>
void add_gradients(const std::vector<GradientProduct<A>>& products, int64_t N) {
  constexpr int64_t kLeast = 1 << 18;  // multiply-adds that are worth a thread
  struct Gathered {
    Matrix<A> d;
    std::vector<Target<A>> targets;
  };
  Scratch scratch;
  std::vector<std::pair<Matrix<A>, const A*>> packed;
  std::vector<Gathered> lefts;
  std::vector<Job> packs, sums;
  for (const auto& product : products) {
    const Matrix<A>& values = product.values;
    auto right = std::find_if(packed.begin(), packed.end(), [&](const auto& x) { return x.first == values; });
    if (right == packed.end()) {
      const int64_t columns = panels<A>(values.width, false);
      A* const to = scratch.empty<A>(columns * N * kPanel<A>);
      packs.push_back({columns, 8 * N * kPanel<A>, [values, to, N](int64_t begin, int64_t end) {
                         pack_panels<A>(
                             values.numbers, {0, values.unit, values.row}, N, values.width, false, to, begin, end);
                       }});
      right = packed.insert(packed.end(), {values, to});
    }
    auto left = std::find_if(lefts.begin(), lefts.end(), [&](const auto& x) { return x.d == product.d; });
    if (left == lefts.end()) left = lefts.insert(lefts.end(), {product.d, {}});
    left->targets.push_back({product.total, right->second, values.width, product.fresh});
  }
  for (const Gathered& left : lefts) {
    int64_t columns = 1;  // to gather a row from d takes about as long as a panel
    for (const Target<A>& target : left.targets) columns += panels<A>(target.G, false);
    sums.push_back({left.d.width, columns * N * kPanel<A>, [&left, N](int64_t begin, int64_t end) {
                      GradientRows<A>(left.d, N, left.targets).run(begin, end);
                    }});
  }
  for_shares(packs, kLeast);
  for_shares(sums, kLeast);
}

// total += d^T values; total is contiguous and in the accumulation type, with as many numbers as the product.
struct Product {
  at::Tensor total, d, values;
};

// All products, of as many rows; where `fresh`, totals are written. In half precision with torch's product, since CPUs
// have instructions for that.
template <class T, class A = Acc<T>>
void add_products(const std::vector<Product>& products, bool fresh) {
  std::vector<GradientProduct<A>> own;
  for (const auto& [total, d, values] : products) {
    if constexpr (std::is_same_v<T, A>) {
      own.push_back(gradient_product<A>(total, d, values, fresh));
    } else {
      const at::Tensor flat = total.view({d.size(1), values.size(1)}), product = at::mm(d.t(), values);
      fresh ? flat.copy_(product) : flat.add_(product);
    }
  }
  if (!own.empty()) add_gradients(own, products[0].d.size(0));
}

}  // namespace hyperlstm
