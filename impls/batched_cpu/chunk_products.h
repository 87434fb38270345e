// Products over all rows of a chunk after its sweep: the gradients of the weights and of x.
#pragma once

#include <ATen/ops/mm.h>

#include <array>

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
    if (!d_x) return;
    weight_x_ = pack_rows(params[kWeightX].flatten(0, 1), scratch_);
    hyper_weight_x_ = pack_rows(params[kHyperWeightX].flatten(0, 1), scratch_);
  }

  // The jobs to run with the sweep of the chunk that has these values.
  const Jobs& jobs_of_sweep(const Tensors& values) {
    previous_ = std::move(values_);
    values_ = {};
    for (size_t i = 0; i < values.size(); ++i) {
      values_.panels.push_back(needed_[i] ? pack_rows(values[i], values_.scratch) : nullptr);
    }
    return jobs_;
  }

  // After that sweep: what the chunk adds to the totals or, if `fresh`, writes.
  void sum(const std::vector<Products>& products, const Tensors& values, bool fresh) {
    jobs_.clear();
    previous_ = {};
    for (const Products& some : products) {
      if (!some.totals.empty()) jobs_.push_back(sum_job<A>(some, values, values_.panels, fresh));
    }
  }

  // After `sum`: d_x [N, I] = dv weight_x + da hyper_weight_x of the chunk; the rows of dv and da are contiguous.
  void input(const at::Tensor& dv, const at::Tensor& da, const at::Tensor& d_x) {
    const int64_t I = d_x.size(1), cost = panel_count<A>(I, false) * kPanel<A> * (dv.size(1) + da.size(1));
    const auto run = [this, dv, da, d_x, I](int64_t begin, int64_t end) {
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
    jobs_.push_back({dv.size(0), cost, run, kRowBlock});
  }

  // Runs the jobs left after the last sweep.
  void finish() { run_jobs(jobs_); }

 private:
  // The values of a chunk as right factors: those that are needed.
  struct Values {
    Scratch scratch;
    std::vector<A*> panels;
  };

  // x [K, N]; adds to jobs, which must run before the panels are read.
  A* pack_rows(const at::Tensor& x, Scratch& scratch) {
    return pack<A>(x, Stored::kRows, x.size(0), x.size(1), scratch, jobs_);
  }

  const std::vector<bool> needed_;
  Values values_, previous_;  // of the sweep's chunk, and of the one that is multiplied
  Scratch scratch_;
  A *weight_x_ = nullptr, *hyper_weight_x_ = nullptr;  // in panels, if x needs a gradient
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
