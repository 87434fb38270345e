// A whole sequence backwards: of each chunk of steps first the sweep, then the products that sum over its rows.
#pragma once

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "backward_sweep.h"
#include "recompute.h"
#include "weight_gradients.h"

namespace hyperlstm {

// What the forward pass leaves: x [T, B, I], the states at the start [B, *] and after each step [T, B, *], and, if they
// were kept, u and the hyper LSTM's gates before their norm, [T, B, 4H + 4S].
struct Past {
  at::Tensor x;
  Tensors start, trajectory;
  std::optional<at::Tensor> kept;
};

template <class T, class A = Acc<T>>
class SequenceBackward {
 public:
  // carried [B, *]: gradients of the last state on entry, of the start on return. Totals are added to; d_x [T, B, I] is
  // written, if given.
  SequenceBackward(
      const Tensors& params, const Past& past, const at::Tensor& d_out, Carried<A> carried, const Totals& totals,
      const std::optional<at::Tensor>& d_x, const Splitting& splitting)
      : params_(params), past_(past), d_out_(d_out), carried_(carried), totals_(totals), d_x_(d_x),
        splitting_(splitting), packing_(params, true),
        sums_(size_, static_cast<bool>((*packing_).norms), splitting.threads()) {}

  // Chunk i is the steps from bounds[i] to bounds[i + 1].
  void run(const std::vector<int64_t>& bounds) {
    const int64_t H = size_.H, S = size_.S;
    int64_t most = 0;
    for (size_t i = 1; i < bounds.size(); ++i) most = std::max(most, bounds[i] - bounds[i - 1]);
    rec_ = array(most, 4 * H + 4 * S);
    inp_ = array(most, 4 * H);
    z_ = array(most, 12 * size_.Z);
    if (!past_.kept) {
      kept_ = array(most, 4 * H + 4 * S);
      forward_packing_.emplace(params_, false);
    }
    for (size_t i = bounds.size(); i-- > 1;) chunk(bounds[i - 1], bounds[i]);
    sums_.add_to(totals_);
  }

 private:
  at::Tensor array(int64_t steps, int64_t width) const {
    const at::Tensor made = at::empty({steps, B_, width}, past_.x.options());
    expect_writes(made.mutable_data_ptr<T>(), made.numel());
    return made;
  }

  // The states that the steps from `begin` on started from.
  at::Tensor before(int i, int64_t begin, int64_t end) const {
    const at::Tensor &first = past_.start[i], &after = past_.trajectory[i];
    if (begin > 0) return after.slice(0, begin - 1, end - 1);
    return at::cat({first.to(after.scalar_type()).unsqueeze(0), after.slice(0, 0, end - 1)});
  }

  void chunk(int64_t begin, int64_t end) {
    const int64_t K = end - begin, N = K * B_, H4 = 4 * size_.H;
    const auto steps = [&](const at::Tensor& x) { return x.slice(0, begin, end); };
    const at::Tensor x = steps(past_.x), h = before(0, begin, end), c = before(1, begin, end);
    const at::Tensor h_hat = before(2, begin, end), c_hat = before(3, begin, end);
    const at::Tensor h_hat_after = steps(past_.trajectory[2]);
    if (past_.kept) kept_ = steps(*past_.kept);
    else recompute<T>(**forward_packing_, size_, N, data<T>(x), data<T>(h), data<T>(h_hat), kept_.mutable_data_ptr<T>());
    const ChunkArrays<T> chunk{
        data<T>(x), data<T>(kept_), data<T>(h_hat_after), data<A>(c), data<A>(steps(past_.trajectory[1])),
        data<A>(c_hat), data<A>(steps(past_.trajectory[3])), data<T>(steps(d_out_))};
    const DeltaArrays<T> deltas{rec_.mutable_data_ptr<T>(), inp_.mutable_data_ptr<T>(), z_.mutable_data_ptr<T>()};
    BackwardSweep<T>(*packing_, size_, K, B_, chunk, deltas, carried_).run(splitting_, sums_);
    sums_.collect();

    const auto rows = [&](const at::Tensor& x) { return x.slice(0, 0, K).flatten(0, 1); };
    const at::Tensor du = rows(rec_).slice(1, 0, H4), da = rows(rec_).slice(1, H4), dv = rows(inp_);
    add_products({
        {kWeightX, dv, rows(x)},
        {kWeightH, du, rows(h)},
        {kHyperWeightX, da, rows(x)},
        {kHyperWeightH, da, rows(h)},
        {kHyperWeightS, da, rows(h_hat)},
        {kZWeight, rows(z_), rows(h_hat_after)},
    });
    if (d_x_) {
      at::Tensor d_x = rows(steps(*d_x_));
      at::mm_out(d_x, dv, params_[kWeightX].flatten(0, 1));
      d_x.addmm_(da, params_[kHyperWeightX].flatten(0, 1));
    }
  }

  struct Product {
    Param param;
    at::Tensor d, values;  // of N rows each
  };

  // Adds to the total of each parameter that has one d^T values. In half precision with torch's product, since CPUs have
  // instructions for that.
  void add_products(const std::vector<Product>& products) const {
    std::vector<GradientProduct<A>> own;
    for (const auto& [param, d, values] : products) {
      if (!totals_[param]) continue;
      const at::Tensor& total = *totals_[param];
      if constexpr (std::is_same_v<T, A>) {
        own.push_back(gradient_product<A>(total, d, values));
      } else {
        total.view({d.size(1), values.size(1)}).add_(at::mm(d.t(), values));
      }
    }
    if (!own.empty()) add_gradients(own, products[0].d.size(0));
  }

  template <class U>
  static const U* data(const at::Tensor& x) {
    return x.const_data_ptr<U>();
  }

  const Tensors& params_;
  const Past& past_;
  const at::Tensor d_out_;
  const Carried<A> carried_;
  const Totals& totals_;
  const std::optional<at::Tensor>& d_x_;
  const Splitting splitting_;
  const Sizes size_ = sizes(params_);
  const int64_t B_ = past_.x.size(1);
  const Packing<T> packing_;
  std::optional<Packing<T>> forward_packing_;
  SequenceSums<A> sums_;
  at::Tensor rec_, inp_, z_, kept_;  // of one chunk
};

}  // namespace hyperlstm
