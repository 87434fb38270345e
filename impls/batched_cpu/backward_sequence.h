// A whole sequence backwards: of each chunk of steps first the sweep, then the products that sum over its rows.
#pragma once

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>

#include "backward_sweep.h"
#include "chunk_products.h"
#include "recompute.h"

namespace hyperlstm {

// What the backward pass knows of the sequence: arrays over all tokens, [N, *], but for start, [B, *].
struct Past {
  at::Tensor x;
  Tensors start, trajectory;                  // the states before the first step, and after each
  std::optional<at::Tensor> residuals, mask;  // what the forward sweep left, and which of g dropout kept
  double scale;                               // of those that it kept
  Steps steps;
};

// What the sweep of a chunk writes, see DeltaArrays.
struct Deltas {
  at::Tensor d_uh, dv, dz;
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
    for (int i = 0; i < std::min<int>(ChunkProducts<T>::kChunks, bounds.size() - 1); ++i) {
      deltas_[i] = {array(most, 4 * H + 4 * S), array(most, 4 * H), array(most, 12 * size_.Z)};
    }
    if (!past_.residuals) {
      residuals_ = array(most, Residuals<T>::width(size_, false));
      forward_packing_.emplace(params_, false, false, few(size_, B_));
    }
    packing_.emplace(params_, true, !has_v_, few(size_, B_));
    ChunkProducts<T> products(params_, needed(), d_x_.has_value());
    for (size_t i = bounds.size() - 1; i > 0; --i) {
      chunk(part(bounds[i - 1], bounds[i]), deltas_[(i - 1) % ChunkProducts<T>::kChunks], products);
    }
    products.finish();
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

  // A chunk's part of the past, [n, *].
  struct Part {
    int64_t begin, end, first_token, N;
    Tensors values;  // x, h and h_hat before each step, and h_hat after it
    at::Tensor c, c_hat;
  };
  enum Value { kX, kH, kHHat, kHHatAfter, kValues };
  enum Delta { kDu, kDv, kDa, kDz, kDeltas };

  // The gradient of a parameter that is a sum of products: of which delta with which value.
  struct Term {
    Param param;
    Delta delta;
    Value value;
  };
  static constexpr std::array kTerms{Term{kWeightX, kDv, kX},         Term{kWeightH, kDu, kH},
                                     Term{kHyperWeightX, kDa, kX},    Term{kHyperWeightH, kDa, kH},
                                     Term{kHyperWeightS, kDa, kHHat}, Term{kZWeight, kDz, kHHatAfter}};

  // Which values a gradient that is wanted needs.
  std::vector<bool> needed() const {
    std::vector<bool> found(kValues);
    for (const Term& term : kTerms) found[term.value] = found[term.value] || wanted_[term.param];
    return found;
  }

  Part part(int64_t begin, int64_t end) const {
    const int64_t first_token = this->begin(begin), N = this->begin(end) - first_token;
    Tensors values{
        past_.x.slice(0, first_token, first_token + N), before(0, begin, end), before(2, begin, end),
        past_.trajectory[2].slice(0, first_token, first_token + N)};
    return {begin, end, first_token, N, std::move(values), before(1, begin, end), before(3, begin, end)};
  }

  void chunk(const Part& part, const Deltas& d, ChunkProducts<T>& products) {
    const auto& [begin, end, first_token, N, values, c, c_hat] = part;
    const auto steps = [first = first_token, n = N](const at::Tensor& x) { return x.slice(0, first, first + n); };
    if (past_.residuals) residuals_ = steps(*past_.residuals);
    const Residuals<T> left{residuals_.mutable_data_ptr<T>(), residuals_.size(1), has_v_};
    if (!past_.residuals) {
      recompute<T>(
          **forward_packing_, forward_packing_->stored(), size_, N, data<T>(values[kX]), data<T>(values[kH]),
          data<T>(values[kHHat]), left);
    }
    const ChunkArrays<T> chunk{
        left,
        data<T>(values[kX]),
        data<T>(values[kHHatAfter]),
        data<A>(c),
        data<A>(steps(past_.trajectory[1])),
        data<A>(c_hat),
        data<A>(steps(past_.trajectory[3])),
        data<T>(steps(d_out_)),
        mask(first_token)};
    const DeltaArrays<T> deltas{d.d_uh.mutable_data_ptr<T>(), d.dv.mutable_data_ptr<T>(), d.dz.mutable_data_ptr<T>()};
    BackwardSweep<T>(**packing_, packing_->stored(), size_, past_.steps.part(begin, end), B_, chunk, deltas, carried_)
        .run(splitting_, sums_, products.during(values));
    sums_.collect();
    if (begin == 0) {  // before there are totals, where there is but one chunk
      packing_.reset();
      forward_packing_.reset();
    }
    const bool fresh = totals_.empty();
    if (fresh) make_totals(N);
    const auto rows = [n = N](const at::Tensor& x) { return x.slice(0, 0, n); };
    const int64_t H4 = 4 * size_.H;
    std::vector<Products> sums(kDeltas);
    sums[kDu].d = rows(d.d_uh).slice(1, 0, H4);
    sums[kDv].d = rows(d.dv);
    sums[kDa].d = rows(d.d_uh).slice(1, H4);
    sums[kDz].d = rows(d.dz);
    for (const auto& [param, delta, value] : kTerms) {
      if (totals_[param]) sums[delta].totals.push_back({*totals_[param], value});
    }
    products.sum(sums, values, fresh);
    if (d_x_) products.input(sums[kDv].d, sums[kDa].d, steps(*d_x_));
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
      totals_[i] = is_product(i) && N > 0 ? total : total.zero_();
    }
  }

  static bool is_product(size_t i) {  // of params
    return std::any_of(kTerms.begin(), kTerms.end(), [=](const Term& term) { return term.param == i; });
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
  std::array<Deltas, ChunkProducts<T>::kChunks> deltas_;
  at::Tensor residuals_;  // of one chunk
  Totals totals_;
};

}  // namespace hyperlstm
