// Weight gradients: products that sum over all rows of a chunk.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>

#include <algorithm>
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
};

// Rows that are summed one by one, before such sums are added up. So the rounding error grows with the root of either
// number of terms, and not with the root of their product as in one long sum.
constexpr int64_t kSummed = kDepthBlock;
// Rows of the gradient whose parts, with those of d, stay in the L2 cache while all of the values go by.
constexpr int64_t kGradientBlocks = 4;

// A thread's rows of a gradient.
template <class A>
class GradientRows {
 public:
  GradientRows(A* total, Matrix<A> d, const A* values, int64_t N, int64_t G, bool fresh)
      : total_(total), d_(d), values_(values), N_(N), G_(G), fresh_(fresh) {
    left_ = scratch_.empty<A>(kGradientBlocks * kRowBlock * kSummed);
    tile_ = scratch_.empty<A>(kRowBlock * kPanel<A>);
  }

  void run(int64_t begin, int64_t end) {
    constexpr int64_t kGroupRows = kGradientBlocks * kRowBlock;
    for (int64_t first = begin; first < end; first += kGroupRows) {
      const int64_t rows = std::min(kGroupRows, end - first);
      for (int64_t n = 0; n < N_; n += kSummed) group(first, rows, n, std::min(kSummed, N_ - n));
    }
  }

 private:
  // total[first + r] += the sum over `depth` rows from n on of d[n, first + r] values[n].
  void group(int64_t first, int64_t rows, int64_t n, int64_t depth) {
    for (int64_t r = 0; r < rows; r += kRowBlock) {
      const int64_t some = std::min(kRowBlock, rows - r);
      const A* from = d_.numbers + n * d_.row + first + r;
      A* to = left_ + r * kSummed;
      for (int64_t i = 0; i < depth; ++i) std::copy_n(from + i * d_.row, some, to + i * kRowBlock);
    }
    for (int64_t p = 0; p < panels<A>(G_, false); ++p) {
      const A* panel = values_ + (p * N_ + n) * kPanel<A>;
      for (int64_t r = 0; r < rows; r += kRowBlock) {
        const int64_t some = std::min(kRowBlock, rows - r);
        const int64_t column = p * kPanel<A>, columns = std::min(kPanel<A>, G_ - column);
        const Into<A> into{total_ + (first + r) * G_ + column, G_, !fresh_ || n > 0};
        multiply_columns<A>(some, columns, {left_ + r * kSummed, 1, kRowBlock}, panel, depth, into, tile_);
      }
    }
  }

  A* total_;
  const Matrix<A> d_;
  const A* values_;
  const int64_t N_, G_;
  const bool fresh_;
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

// All products of N rows, in two parallel regions: threads that sleep between regions take long to wake.
template <class A>
void add_gradients(const std::vector<GradientProduct<A>>& products, int64_t N) {
  constexpr int64_t kLeast = 1 << 18;  // multiply-adds that are worth a thread
  Scratch scratch;
  std::vector<Job> packs, sums;
  for (const auto& product : products) {
    const int64_t columns = panels<A>(product.values.width, false);
    A* const packed = scratch.empty<A>(columns * N * kPanel<A>);
    packs.push_back({columns, 8 * N * kPanel<A>, [&product, packed, N](int64_t begin, int64_t end) {
                       const Matrix<A>& values = product.values;
                       pack_panels<A>(
                           values.numbers, {0, values.unit, values.row}, N, values.width, false, packed, begin, end);
                     }});
    // A panel more: to gather a row from d takes about as long.
    const int64_t cost = (columns + 1) * N * kPanel<A>;
    sums.push_back(
        {product.d.width, cost, [&product, packed, N](int64_t begin, int64_t end) {
           GradientRows<A>(product.total, product.d, packed, N, product.values.width, product.fresh).run(begin, end);
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
