// A sequence backwards: for each chunk of steps the sweep, then the products that sum over its rows.
#pragma once

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>

#include "backward_sweep.h"
#include "chunk_products.h"

namespace hyperlstm {

// Arrays of all tokens are [N, *].
struct BackwardInputs {
  const Tensors& params;
  const std::vector<bool>& wanted;  // which of params need a gradient
  at::Tensor x;
  Tensors start, states;  // the states before the first step, [B, *], and after each
  std::optional<at::Tensor> residuals;
  std::optional<at::Tensor> mask;  // see Mask
  double scale;
  at::Tensor d_out;
  std::optional<at::Tensor> d_x;  // written, if given
  Steps steps;
};

// What the sweep of a chunk writes, see DeltaArrays.
struct Deltas {
  at::Tensor d_uh, dv, dz;
};

template <class T, class A = Acc<T>>
class SequenceBackward {
 public:
  // d_state [B, *]: on entry the gradients of each row's last state, on return those of its start.
  SequenceBackward(const BackwardInputs& inputs, States<A> d_state, const SplitChoice& split)
      : in_(inputs), d_state_(d_state), split_(split), sums_(size_, inputs.params.size() > kNorms, split.threads()) {}

  // Returns the gradients of params. Chunk i is the steps from bounds[i] to bounds[i + 1].
  Totals run(const std::vector<int64_t>& bounds) {
    const int64_t H = size_.H, S = size_.S;
    int64_t max_tokens = 0;
    for (size_t i = 1; i < bounds.size(); ++i) {
      max_tokens = std::max(max_tokens, begin(bounds[i]) - begin(bounds[i - 1]));
    }
    for (int i = 0; i < std::min<int>(ChunkProducts<T>::kChunks, bounds.size() - 1); ++i) {
      deltas_[i] = {array(max_tokens, 4 * H + 4 * S), array(max_tokens, 4 * H), array(max_tokens, 12 * size_.Z)};
    }
    const bool stored = reads_stored(size_, B_);
    if (!in_.residuals) {
      residuals_ = array(max_tokens, Residuals<T>::width(size_, false));
      forward_panels_.emplace(in_.params, Direction::kForward, false, stored);
    }
    const bool has_v = in_.residuals && in_.residuals->size(1) == Residuals<T>::width(size_, true);
    panels_.emplace(in_.params, Direction::kBackward, !has_v, stored);
    ChunkProducts<T> products(in_.params, needed(), in_.d_x.has_value());
    for (size_t i = bounds.size() - 1; i > 0; --i) {
      chunk(bounds[i - 1], bounds[i], deltas_[(i - 1) % ChunkProducts<T>::kChunks], products);
    }
    products.finish();
    sums_.add_to(totals_);
    return std::move(totals_);
  }

 private:
  int64_t begin(int64_t step) const { return in_.steps.begin(step); }

  at::Tensor array(int64_t tokens, int64_t width) const {
    const at::Tensor made = at::empty({tokens, width}, in_.x.options());
    advise_huge_pages(made.mutable_data_ptr<T>(), made.numel());
    return made;
  }

  // State i before each of the steps `begin` to `end`, [n, *].
  at::Tensor before(int i, int64_t begin, int64_t end) const {
    const at::Tensor &first = in_.start[i], &after = in_.states[i];
    const Steps& steps = in_.steps;
    if (begin > 0 && steps.rows(begin - 1) == steps.rows(end - 1)) {
      return after.slice(0, steps.begin(begin - 1), steps.begin(end - 1));
    }
    Tensors parts;
    for (int64_t t = begin; t < end;) {
      const int64_t rows = steps.rows(t), first_of = t;
      while (t < end && steps.rows(t) == rows) ++t;  // their states are contiguous, except those before the first
      parts.push_back(
          first_of == 0 ? first.to(after.scalar_type())
                        : after.slice(0, steps.begin(first_of - 1), steps.begin(first_of - 1) + rows));
      parts.push_back(after.slice(0, steps.begin(first_of), steps.begin(t - 1)));
    }
    return at::cat(parts);
  }

  enum Value { kX, kH, kHHat, kHHatAfter, kValues };
  enum Delta { kDu, kDv, kDa, kDz, kDeltas };

  // The gradient of a parameter that is a product: of which delta with which value.
  struct Term {
    Param param;
    Delta delta;
    Value value;
  };
  static constexpr std::array kTerms{Term{kWeightX, kDv, kX},         Term{kWeightH, kDu, kH},
                                     Term{kHyperWeightX, kDa, kX},    Term{kHyperWeightH, kDa, kH},
                                     Term{kHyperWeightS, kDa, kHHat}, Term{kZWeight, kDz, kHHatAfter}};

  // Which values the wanted gradients need.
  std::vector<bool> needed() const {
    std::vector<bool> found(kValues);
    for (const Term& term : kTerms) found[term.value] = found[term.value] || in_.wanted[term.param];
    return found;
  }

  void chunk(int64_t begin, int64_t end, const Deltas& d, ChunkProducts<T>& products) {
    const int64_t first_token = this->begin(begin), N = this->begin(end) - first_token;
    const auto steps = [=](const at::Tensor& x) { return x.slice(0, first_token, first_token + N); };
    // In the order of Value.
    const Tensors values{steps(in_.x), before(0, begin, end), before(2, begin, end), steps(in_.states[2])};
    const at::Tensor c = before(1, begin, end), c_hat = before(3, begin, end);
    if (in_.residuals) residuals_ = steps(*in_.residuals);
    const Residuals<T> residuals = Residuals<T>::in(residuals_, size_);
    if (!in_.residuals) {
      recompute(N, data<T>(values[kX]), data<T>(values[kH]), data<T>(values[kHHat]), residuals);
    }
    const ChunkArrays<T> chunk{
        residuals,
        data<T>(values[kX]),
        data<T>(values[kHHatAfter]),
        data<A>(c),
        data<A>(steps(in_.states[1])),
        data<A>(c_hat),
        data<A>(steps(in_.states[3])),
        data<T>(steps(in_.d_out)),
        Mask<A>{in_.mask ? data<bool>(*in_.mask) : nullptr, static_cast<A>(in_.scale)}.from(first_token * size_.H)};
    const DeltaArrays<T> deltas{d.d_uh.mutable_data_ptr<T>(), d.dv.mutable_data_ptr<T>(), d.dz.mutable_data_ptr<T>()};
    BackwardSweep<T>(*panels_, in_.steps.part(begin, end), B_, chunk, deltas, d_state_)
        .run(split_, sums_, products.jobs_of_sweep(values));
    sums_.collect();
    if (begin == 0) {  // frees memory before the totals of a single chunk
      panels_.reset();
      forward_panels_.reset();
    }
    const bool fresh = totals_.empty();
    if (fresh) allocate_totals(N);
    const auto rows = [=](const at::Tensor& x) { return x.slice(0, 0, N); };
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
    if (in_.d_x) products.input(sums[kDv].d, sums[kDa].d, steps(*in_.d_x));
  }

  // Writes u and the hyper LSTM's gates of N rows, from x and from h and h_hat before the step, [N, *] each. The states
  // are known, so all rows of a chunk are computed at once.
  void recompute(int64_t N, const T* x, const T* h, const T* h_hat, const Residuals<T>& to) const {
    const Panels<T>& p = *forward_panels_;
    const int64_t I = size_.I, H = size_.H, S = size_.S, cost = 4 * H * H + 4 * S * (I + H + S);
    const auto run = [&](int64_t begin, int64_t end) {
      const int64_t rows = end - begin;
      Scratch scratch;
      const auto wide = [&](const T* all, int64_t F) {
        return widened(all + begin * F, rows * F, std::is_same_v<T, A> ? nullptr : scratch.empty<A>(rows * F));
      };
      const A *const wide_x = wide(x, I), *const wide_h = wide(h, H), *const wide_h_hat = wide(h_hat, S);
      A* const tile = scratch.empty<A>(kRowBlock * kPanel<A>);
      const Range main_panels{0, panel_count<A>(H, true)}, hyper_panels{0, panel_count<A>(S, true)};
      write_products(p.weight_h, main_panels, H, H, rows, wide_h, to.u(begin), to.stride, tile);
      for_tiles(hyper_panels, rows, [&](int64_t panel, int64_t r, int64_t n) {
        start_hyper_gates(p, panel, n, wide_x + r * I, tile);
        add_to_hyper_gates(p, panel, n, wide_h + r * H, wide_h_hat + r * S, tile);
        write_gates(tile, n, S, panel * kLanes<A>, to.a(begin + r), to.stride);
      });
    };
    run_jobs({{N, cost, run, 2 * kTileRows}});
  }

  // Allocates the gradients. Those that are products stay unset: the first chunk writes them, the others add.
  void allocate_totals(int64_t N) {
    totals_.resize(in_.params.size());
    for (size_t i = 0; i < in_.params.size(); ++i) {
      if (!in_.wanted[i]) continue;
      at::Tensor total =
          at::empty(in_.params[i].sizes(), in_.params[i].options().dtype(c10::CppTypeToScalarType<A>::value));
      advise_huge_pages(total.mutable_data_ptr<A>(), total.numel());
      totals_[i] = is_product(i) && N > 0 ? total : total.zero_();
    }
  }

  static bool is_product(size_t param) {
    return std::any_of(kTerms.begin(), kTerms.end(), [=](const Term& term) { return term.param == param; });
  }

  template <class U>
  static const U* data(const at::Tensor& x) {
    return x.const_data_ptr<U>();
  }

  const BackwardInputs& in_;
  const States<A> d_state_;
  const SplitChoice split_;
  const Sizes size_ = sizes(in_.params);
  const int64_t B_ = in_.steps.rows(0);
  std::optional<Panels<T>> panels_, forward_panels_;
  SequenceSums<A> sums_;
  std::array<Deltas, ChunkProducts<T>::kChunks> deltas_;
  at::Tensor residuals_;  // of one chunk
  Totals totals_;
};

}  // namespace hyperlstm
