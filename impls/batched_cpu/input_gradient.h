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
  // Adds to jobs, which pack the weights and must run first.
  InputGradient(const Tensors& params, Jobs& jobs) : size_(sizes(params)) {
    weight_x_ = pack(params[kWeightX], 4 * size_.H, jobs);
    hyper_weight_x_ = pack(params[kHyperWeightX], 4 * size_.S, jobs);
  }

  // Writes d_x from dv [N, 4H] and da [N, 4S], whose rows are contiguous.
  Job job(const at::Tensor& dv, const at::Tensor& da, const at::Tensor& d_x) const {
    const auto [H, S, Z, I] = size_;
    const int64_t cost = panel_count<A>(I, false) * kPanel<A> * 4 * (H + S);
    const auto run = [this, dv, da, d_x](int64_t begin, int64_t end) {
      const int64_t I = size_.I;  // clang below 16 cannot capture structured bindings
      alignas(64) std::array<A, kRowBlock * kPanel<A>> tile;
      for (int64_t r = begin; r < end; r += kRowBlock) {
        const auto product = [&](const at::Tensor& d, const A* panels, bool add) {
          const Lhs<A> lhs{d.const_data_ptr<A>() + r * d.stride(0), d.stride(0)};
          const Into<A> into{d_x.mutable_data_ptr<A>() + r * I, I, add};
          const Range all{0, panel_count<A>(I, false)};
          multiply_panels<A>(std::min(kRowBlock, end - r), lhs, panels, d.size(1), I, all, into, tile.data());
        };
        product(dv, weight_x_, false);
        product(da, hyper_weight_x_, true);
      }
    };
    return {dv.size(0), cost, run, kRowBlock};
  }

 private:
  A* pack(const at::Tensor& weight, int64_t K, Jobs& jobs) {
    const int64_t I = size_.I;
    A* const to = scratch_.empty<A>(panel_count<A>(I, false) * K * kPanel<A>);
    jobs.push_back(pack_job<A>(weight.const_data_ptr<A>(), {0, 1, I}, K, I, false, to));
    return to;
  }

  const Sizes size_;
  Scratch scratch_;
  A *weight_x_, *hyper_weight_x_;  // in panels
};

}  // namespace hyperlstm
