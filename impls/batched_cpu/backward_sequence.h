// A whole sequence backwards: of each chunk of steps first the sweep, then the products that sum over its rows.
#pragma once

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "backward_sweep.h"
#include "recompute.h"
#include "weight_gradients.h"

namespace hyperlstm {

// What the backward pass knows of the sequence: arrays over all tokens, [N, *], but for start, [B, *].
struct Past {
  at::Tensor x;
  Tensors start, trajectory;                  // the states before the first step, and after each
  std::optional<at::Tensor> residuals, mask;  // what the forward sweep left, and which of g dropout kept
  double scale;                               // of those that it kept
  Steps steps;
};

template <class T, class A = Acc<T>>
class SequenceBackward {
 public:
  // wanted: which of params want a gradient. carried [B, *]: on entry the gradients of each row's last state, on return
  // those of its start. d_x [N, I] is written, if given.
  SequenceBackward(
      const Tensors& params, const std::vector<bool>& wanted, const Past& past, const at::Tensor& d_out,
      Carried<A> carried, const std::optional<at::Tensor>& d_x, const Splitting& splitting)
      : params_(params),
        wanted_(wanted),
        past_(past),
        d_out_(d_out),
        carried_(carried),
        d_x_(d_x),
        splitting_(splitting),
        has_v_(past.residuals && past.residuals->size(1) == Residuals<T>::width(size_, true)),
        sums_(size_, params.size() > kNorms, splitting.threads()) {}

  // Returns the gradients of params. Chunk i is the steps from bounds[i] to bounds[i + 1].
  Totals run(const std::vector<int64_t>& bounds) {
    const int64_t H = size_.H, S = size_.S;
    int64_t most = 0;
    for (size_t i = 1; i < bounds.size(); ++i) most = std::max(most, begin(bounds[i]) - begin(bounds[i - 1]));
    d_uh_ = array(most, 4 * H + 4 * S);
    dv_ = array(most, 4 * H);
    dz_ = array(most, 12 * size_.Z);
    if (!past_.residuals) {
      residuals_ = array(most, Residuals<T>::width(size_, false));
      forward_packing_.emplace(params_, false, false, few(size_, B_));
    }
    packing_.emplace(params_, true, !has_v_, few(size_, B_));
    for (size_t i = bounds.size(); i-- > 1;) chunk(bounds[i - 1], bounds[i]);
    sums_.add_to(totals_);
    return std::move(totals_);
  }

 private:
  int64_t begin(int64_t step) const { return past_.steps.begin(step); }

  at::Tensor array(int64_t tokens, int64_t width) const {
    const at::Tensor made = at::empty({tokens, width}, past_.x.options());
    expect_writes(made.mutable_data_ptr<T>(), made.numel());
    return made;
  }

  // The states from which the steps `begin` to `end` started, [n, *].
  at::Tensor before(int i, int64_t begin, int64_t end) const {
    const at::Tensor &first = past_.start[i], &after = past_.trajectory[i];
    const Steps& steps = past_.steps;
    if (begin > 0 && steps.rows(begin - 1) == steps.rows(end - 1)) {
      return after.slice(0, steps.begin(begin - 1), steps.begin(end - 1));
    }
    std::vector<at::Tensor> parts;
    for (int64_t t = begin; t < end;) {
      const int64_t rows = steps.rows(t), first_of = t;
      while (t < end && steps.rows(t) == rows) ++t;  // their states lie side by side, but for those before the first
      parts.push_back(
          first_of == 0 ? first.to(after.scalar_type())
                        : after.slice(0, steps.begin(first_of - 1), steps.begin(first_of - 1) + rows));
      parts.push_back(after.slice(0, steps.begin(first_of), steps.begin(t - 1)));
    }
    return at::cat(parts);
  }

  void chunk(int64_t begin, int64_t end) {
    const int64_t first_token = this->begin(begin), N = this->begin(end) - first_token, H4 = 4 * size_.H;
    const auto steps = [&](const at::Tensor& x) { return x.slice(0, first_token, first_token + N); };
    const at::Tensor x = steps(past_.x), h = before(0, begin, end), c = before(1, begin, end);
    const at::Tensor h_hat = before(2, begin, end), c_hat = before(3, begin, end);
    const at::Tensor h_hat_after = steps(past_.trajectory[2]);
    if (past_.residuals) residuals_ = steps(*past_.residuals);
    const Residuals<T> left{residuals_.mutable_data_ptr<T>(), residuals_.size(1), has_v_};
    if (!past_.residuals) {
      recompute<T>(
          **forward_packing_, forward_packing_->stored(), size_, N, data<T>(x), data<T>(h), data<T>(h_hat), left);
    }
    const ChunkArrays<T> chunk{
        left,
        data<T>(x),
        data<T>(h_hat_after),
        data<A>(c),
        data<A>(steps(past_.trajectory[1])),
        data<A>(c_hat),
        data<A>(steps(past_.trajectory[3])),
        data<T>(steps(d_out_)),
        mask(first_token)};
    const DeltaArrays<T> deltas{d_uh_.mutable_data_ptr<T>(), dv_.mutable_data_ptr<T>(), dz_.mutable_data_ptr<T>()};
    BackwardSweep<T>(**packing_, packing_->stored(), size_, past_.steps.part(begin, end), B_, chunk, deltas, carried_)
        .run(splitting_, sums_);
    sums_.collect();
    if (begin == 0) {  // before there are totals, where there is but one chunk
      packing_.reset();
      forward_packing_.reset();
    }
    const bool first = totals_.empty();
    if (first) make_totals(N);

    const auto rows = [&](const at::Tensor& x) { return x.slice(0, 0, N); };
    const at::Tensor du = rows(d_uh_).slice(1, 0, H4), da = rows(d_uh_).slice(1, H4), dv = rows(dv_);
    std::vector<Product> products;
    const auto sum = [&](Param param, const at::Tensor& d, const at::Tensor& values) {
      if (totals_[param]) products.push_back({*totals_[param], d, values});
    };
    sum(kWeightX, dv, x);
    sum(kWeightH, du, h);
    sum(kHyperWeightX, da, x);
    sum(kHyperWeightH, da, h);
    sum(kHyperWeightS, da, h_hat);
    sum(kZWeight, rows(dz_), h_hat_after);
    add_products<T>(products, first);
    if (d_x_) {
      at::Tensor d_x = steps(*d_x_);
      at::mm_out(d_x, dv, params_[kWeightX].flatten(0, 1));
      d_x.addmm_(da, params_[kHyperWeightX].flatten(0, 1));
    }
  }

  Mask<A> mask(int64_t token) const {
    const Mask<A> whole{past_.mask ? data<bool>(*past_.mask) : nullptr, static_cast<A>(past_.scale)};
    return whole.from(token * size_.H);
  }

  // Makes room for the gradients. Those that are sums of products stay unset: the first chunk writes, the others add.
  void make_totals(int64_t N) {
    totals_.resize(params_.size());
    for (size_t i = 0; i < params_.size(); ++i) {
      if (!wanted_[i]) continue;
      at::Tensor total = at::empty(params_[i].sizes(), params_[i].options().dtype(c10::CppTypeToScalarType<A>::value));
      expect_writes(total.mutable_data_ptr<A>(), total.numel());
      totals_[i] = is_product(static_cast<Param>(i)) && N > 0 ? total : total.zero_();
    }
  }

  static bool is_product(Param param) {
    switch (param) {
      case kWeightX:
      case kWeightH:
      case kHyperWeightX:
      case kHyperWeightH:
      case kHyperWeightS:
      case kZWeight: return true;
      default: return false;
    }
  }

  template <class U>
  static const U* data(const at::Tensor& x) {
    return x.const_data_ptr<U>();
  }

  const Tensors& params_;
  const std::vector<bool>& wanted_;
  const Past& past_;
  const at::Tensor d_out_;
  const Carried<A> carried_;
  const std::optional<at::Tensor>& d_x_;
  const Splitting splitting_;
  const Sizes size_ = sizes(params_);
  const int64_t B_ = past_.steps.rows(0);
  const bool has_v_;
  std::optional<Packing<T>> packing_, forward_packing_;
  SequenceSums<A> sums_;
  at::Tensor d_uh_, dv_, dz_, residuals_;  // of one chunk
  Totals totals_;
};

}  // namespace hyperlstm
