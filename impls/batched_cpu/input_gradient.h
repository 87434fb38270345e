// The gradient of x.
#pragma once

#include <array>
#include <vector>

#include "jobs.h"
#include "memory.h"
#include "packing.h"
#include "product.h"

namespace hyperlstm {

// d_x [N, I] = dv weight_x + da hyper_weight_x, in the accumulation type.
template <class A>
class InputGradient {
 public:
  // Adds to jobs those that pack the weights, which have to be run first.
  InputGradient(const Tensors& params, Jobs& jobs) : size_(sizes(params)) {
    weight_x_ = pack(params[kWeightX], 4 * size_.H, jobs);
    hyper_weight_x_ = pack(params[kHyperWeightX], 4 * size_.S, jobs);
  }

  // Writes d_x from dv [N, 4H] and da [N, 4S], whose rows are contiguous.
  Job job(const at::Tensor& dv, const at::Tensor& da, const at::Tensor& d_x) const {
    const auto [H, S, Z, I] = size_;
    const int64_t cost = panels<A>(I, false) * kPanel<A> * 4 * (H + S);
    const auto run = [this, dv, da, d_x](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r += kRowBlock) {
        const int64_t n = std::min(kRowBlock, end - r);
        A* const to = d_x.mutable_data_ptr<A>() + r * size_.I;
        add(dv, r, n, weight_x_, {to, size_.I, false});
        add(da, r, n, hyper_weight_x_, {to, size_.I, true});
      }
    };
    return {dv.size(0), cost, run, kRowBlock};
  }

 private:
  A* pack(const at::Tensor& weight, int64_t K, Jobs& jobs) {
    const int64_t I = size_.I;
    A* const to = scratch_.empty<A>(panels<A>(I, false) * K * kPanel<A>);
    jobs.push_back(pack_job<A>(weight.const_data_ptr<A>(), {0, 1, I}, K, I, false, to));
    return to;
  }

  void add(const at::Tensor& d, int64_t first, int64_t rows, const A* packed, Into<A> into) const {
    const int64_t K = d.size(1), I = size_.I;
    const Left<A> left{d.const_data_ptr<A>() + first * d.stride(0), d.stride(0)};
    alignas(64) std::array<A, kRowBlock * kPanel<A>> tile;
    for (int64_t p = 0; p < panels<A>(I, false); ++p) {
      const int64_t column = p * kPanel<A>, columns = std::min(kPanel<A>, I - column);
      multiply_columns<A>(rows, columns, left, packed + column * K, K, into.from(0, column), tile.data());
    }
  }

  const Sizes size_;
  Scratch scratch_;
  A *weight_x_, *hyper_weight_x_;
};

}  // namespace hyperlstm
