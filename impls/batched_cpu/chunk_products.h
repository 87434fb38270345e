// What remains of a chunk after its sweep: products over all of its rows, for the weights' gradients and that of x.
#pragma once

#include <ATen/ops/mm.h>

#include <memory>

#include "input_gradient.h"
#include "weight_gradients.h"

namespace hyperlstm {

// Multiply-adds that are worth a thread.
constexpr int64_t kLeastOfThread = 1 << 18;

// In the accumulation type by our own products. All of a chunk's stand in one parallel region, and so does packing what
// the next chunk multiplies: at the end of a region the threads wait for the last of them, which may have lost its core
// to another process.
template <class A>
class OwnProducts {
 public:
  // values: those of the chunk that comes first; needed: which of a chunk's are multiplied. d_x: whether the gradient
  // of x is wanted.
  OwnProducts(const Tensors& params, const Tensors& values, std::vector<bool> needed, bool d_x)
      : needed_(std::move(needed)) {
    std::vector<Job> jobs;
    if (d_x) input_.emplace(params, jobs);
    packed_ = std::make_unique<PackedValues<A>>(values, needed_, jobs);
    for_shares(jobs, kLeastToPack);
  }

  // Adds all products of a chunk to their totals, or, where `fresh`, writes those; next: values of the next chunk.
  void run(const std::vector<Products>& products, const Tensors& values, bool fresh, const Tensors* next) {
    for (const Products& some : products) {
      if (!some.totals.empty()) jobs_.push_back(sum_job<A>(some, values, *packed_, fresh));
    }
    auto packed = next == nullptr ? nullptr : std::make_unique<PackedValues<A>>(*next, needed_, jobs_);
    for_shares(jobs_, kLeastOfThread);
    jobs_.clear();
    packed_ = std::move(packed);
  }

  // Has the next `run` write d_x [N, I] too.
  void input(const at::Tensor& dv, const at::Tensor& da, const at::Tensor& d_x) {
    jobs_.push_back(input_->job(dv, da, d_x));
  }

 private:
  const std::vector<bool> needed_;
  std::unique_ptr<PackedValues<A>> packed_;
  std::optional<InputGradient<A>> input_;
  std::vector<Job> jobs_;
};

// In half precision by torch's products, since CPUs have instructions for those.
class TorchProducts {
 public:
  TorchProducts(const Tensors& params, const Tensors&, const std::vector<bool>&, bool) : params_(params) {}

  void run(const std::vector<Products>& products, const Tensors& values, bool fresh, const Tensors*) {
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

 private:
  const Tensors& params_;
};

}  // namespace hyperlstm
