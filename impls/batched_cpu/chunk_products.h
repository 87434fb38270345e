// Products over all rows of a chunk after its sweep: the gradients of the weights and of x.
#pragma once

#include <ATen/ops/mm.h>

#include <memory>

#include "input_gradient.h"
#include "weight_gradients.h"

namespace hyperlstm {

// In the accumulation type, by own products. They run as jobs after the next sweep, and so does packing the
// values of that sweep's chunk: no thread idles while jobs are left.
template <class A>
class OwnProducts {
 public:
  // Chunks whose deltas are in memory at a time: one is written while the other is multiplied.
  static constexpr int kChunks = 2;

  // needed: which of a chunk's values are multiplied. d_x: whether x needs a gradient.
  OwnProducts(const Tensors& params, std::vector<bool> needed, bool d_x) : needed_(std::move(needed)) {
    if (d_x) input_.emplace(params, jobs_);
  }

  // The jobs to run with the sweep of the chunk that has these values.
  const Jobs& jobs_of_sweep(const Tensors& values) {
    previous_ = std::move(values_);
    values_ = std::make_unique<ValuePanels<A>>(values, needed_, jobs_);
    return jobs_;
  }

  // After that sweep: what the chunk adds to the totals or, if `fresh`, writes.
  void sum(const std::vector<Products>& products, const Tensors& values, bool fresh) {
    jobs_.clear();
    previous_.reset();
    for (const Products& some : products) {
      if (!some.totals.empty()) jobs_.push_back(sum_job<A>(some, values, *values_, fresh));
    }
  }

  // After `sum`: d_x [N, I] of the chunk.
  void input(const at::Tensor& dv, const at::Tensor& da, const at::Tensor& d_x) {
    jobs_.push_back(input_->job(dv, da, d_x));
  }

  // Runs the jobs left after the last sweep.
  void finish() { run_jobs(jobs_, kMinCostPerThread); }

 private:
  const std::vector<bool> needed_;
  std::unique_ptr<ValuePanels<A>> values_, previous_;  // of the sweep's chunk, and of the one that is multiplied
  std::optional<InputGradient<A>> input_;
  Jobs jobs_;
};

// In half precision, by torch's products: CPUs have instructions for those.
class TorchProducts {
 public:
  static constexpr int kChunks = 1;

  TorchProducts(const Tensors& params, const std::vector<bool>&, bool) : params_(params) {}

  Jobs jobs_of_sweep(const Tensors&) { return {}; }

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

template <class T>
using ChunkProducts = std::conditional_t<std::is_same_v<T, Acc<T>>, OwnProducts<T>, TorchProducts>;

}  // namespace hyperlstm
