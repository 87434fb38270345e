// What remains of a chunk after its sweep: products over all of its rows, for the weights' gradients and that of x.
#pragma once

#include <ATen/ops/mm.h>

#include <memory>

#include "input_gradient.h"
#include "weight_gradients.h"

namespace hyperlstm {

// In the accumulation type by our own products. They are jobs for the threads during the next sweep, and so is packing
// what that sweep's chunk multiplies: no thread waits for another as long as there are some left.
template <class A>
class OwnProducts {
 public:
  // Chunks whose deltas are in memory at a time: one is written while those of the other are multiplied.
  static constexpr int kChunks = 2;

  // needed: which of a chunk's values are multiplied. d_x: whether the gradient of x is wanted.
  OwnProducts(const Tensors& params, std::vector<bool> needed, bool d_x) : needed_(std::move(needed)) {
    if (d_x) input_.emplace(params, jobs_);
  }

  // Returns what is to be done during the sweep of the chunk whose values are given.
  const Jobs& during(const Tensors& values) {
    of_jobs_ = std::move(packed_);
    packed_ = std::make_unique<PackedValues<A>>(values, needed_, jobs_);
    return jobs_;
  }

  // After that sweep: what the chunk adds to its totals, or, where `fresh`, writes.
  void sum(const std::vector<Products>& products, const Tensors& values, bool fresh) {
    jobs_.clear();
    of_jobs_.reset();
    for (const Products& some : products) {
      if (!some.totals.empty()) jobs_.push_back(sum_job<A>(some, values, *packed_, fresh));
    }
  }

  // After `sum`: d_x [N, I] of the chunk.
  void input(const at::Tensor& dv, const at::Tensor& da, const at::Tensor& d_x) {
    jobs_.push_back(input_->job(dv, da, d_x));
  }

  // Does what is left after the last sweep.
  void finish() { run_jobs(jobs_, kLeastOfThread); }

 private:
  const std::vector<bool> needed_;
  std::unique_ptr<PackedValues<A>> packed_, of_jobs_;  // of the chunk of the sweep, and of the one that is multiplied
  std::optional<InputGradient<A>> input_;
  Jobs jobs_;
};

// In half precision by torch's products, since CPUs have instructions for those.
class TorchProducts {
 public:
  static constexpr int kChunks = 1;

  TorchProducts(const Tensors& params, const std::vector<bool>&, bool) : params_(params) {}

  Jobs during(const Tensors&) { return {}; }

  void sum(const std::vector<Products>& products, const Tensors& values, bool fresh) {
    for (const auto& [d, totals] : products) {
      for (const auto& [total, i] : totals) {
        const at::Tensor flat = total.view({d.size(1), values[i].size(1)}), product = at::mm(d.t(), values[i]);
        fresh ? flat.copy_(product) : flat.add_(product);
      }
    }
  }

  void input(const at::Tensor& dv, const at::Tensor& da, at::Tensor d_x) {
    at::mm_out(d_x, dv, params_[kWeightX].flatten(0, 1));
    d_x.addmm_(da, params_[kHyperWeightX].flatten(0, 1));
  }

  void finish() {}

 private:
  const Tensors& params_;
};

// Those of a sequence in T.
template <class T>
using ChunkProducts = std::conditional_t<std::is_same_v<T, Acc<T>>, OwnProducts<T>, TorchProducts>;

}  // namespace hyperlstm
