// The backward pass of a sequence: for each chunk of steps the sweep, then the products that sum over its rows.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "backward_sweep.h"
#include "chunk_products.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// Arrays of all tokens are [N, *].
template <class T, class A = Acc<T>>
struct BackwardArrays {
  States<T> states;        // after each step
  Residuals<T> residuals;  // null if the forward pass saved none
  const T* d_out;
  States<A> d_state;  // [B, *]: in: gradients of each row's last state; out: gradients of its initial state
  T* d_x;             // written, unless null
};

template <class T, class A = Acc<T>>
class SequenceBackward {
 public:
  // wanted: which parameters need a gradient.
  SequenceBackward(const Layer<T>& layer, std::span<const int64_t> wanted, const BackwardArrays<T>& arrays)
      : layer_(layer), wanted_(wanted), arrays_(arrays), sums_(layer.size, layer.has_norms(), split_.threads()) {}

  // Chunk i is the steps from bounds[i] to bounds[i + 1]. allocate: returns the memory of the wanted gradients, once
  // the first of the chunks is over and, if it is the only one, after most of its memory is free.
  void run(std::span<const int64_t> bounds, const std::function<Params<A>()>& allocate) {
    const int64_t H = size_.H, S = size_.S, I = size_.I, chunks = bounds.size() - 1;
    int64_t max_tokens = 0;
    for (int64_t i = 0; i < chunks; ++i) max_tokens = std::max(max_tokens, begin(bounds[i + 1]) - begin(bounds[i]));
    for (int64_t i = 0; i < std::min<int64_t>(ChunkProducts<T>::kChunks, chunks); ++i) {
      deltas_[i] = {array(max_tokens * (4 * H + 4 * S)), array(max_tokens * 4 * H), array(max_tokens * 12 * size_.Z)};
    }
    if (arrays_.residuals.numbers == nullptr) {
      residuals_ = Residuals<T>::in(array(max_tokens * Residuals<T>::width(size_, false)), size_, false);
      forward_panels_.emplace(layer_, Direction::kForward, false);
    }
    panels_.emplace(layer_, Direction::kBackward, !arrays_.residuals.has_v);
    const auto weight = [&](Param param, int64_t F) {
      return Matrix<const T>{arrays_.d_x == nullptr ? nullptr : layer_.params[param], F, I};
    };
    ChunkProducts<T> products(needed(), weight(kWeightX, 4 * H), weight(kHyperWeightX, 4 * S));
    for (int64_t i = chunks - 1; i >= 0; --i) {
      chunk(bounds[i], bounds[i + 1], deltas_[i % ChunkProducts<T>::kChunks], products, [&] {
        if (i == 0) {  // frees memory before the totals of a single chunk
          panels_.reset();
          forward_panels_.reset();
        }
        const bool fresh = i == chunks - 1;
        if (fresh) prepare(allocate());
        return fresh;
      });
    }
    products.finish();
    sums_.add_to(totals_);
  }

 private:
  int64_t begin(int64_t step) const { return layer_.steps.begin(step); }

  T* array(int64_t n) {
    T* const numbers = scratch_.empty<T>(n);
    advise_huge_pages(numbers, n);
    return numbers;
  }

  // The states before each of some steps, from the state before the first step and the states after each step.
  States<T> before(Range range, Scratch& scratch, Jobs& jobs) const {
    const auto of_one = [&]<class X>(X* first, X* after, int64_t F) {
      const Steps& steps = layer_.steps;
      if (range.begin > 0 && steps.rows(range.begin - 1) == steps.rows(range.end - 1)) {
        return after + steps.begin(range.begin - 1) * F;
      }
      const int64_t first_token = steps.begin(range.begin);
      X* const to = scratch.empty<X>((steps.begin(range.end) - first_token) * F);
      const auto copy = [=, &steps](int64_t begin, int64_t end) {
        for (int64_t t = begin + range.begin; t < end + range.begin; ++t) {
          const X* const from = t == 0 ? first : after + steps.begin(t - 1) * F;
          std::copy_n(from, steps.rows(t) * F, to + (steps.begin(t) - first_token) * F);
        }
      };
      jobs.push_back({range.size(), steps.rows(range.begin) * F, copy});
      return to;
    };
    const States<T>&start = layer_.start, &all = arrays_.states;
    return {
        of_one(start.h, all.h, size_.H), of_one(start.c, all.c, size_.H), of_one(start.h_hat, all.h_hat, size_.S),
        of_one(start.c_hat, all.c_hat, size_.S)};
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
    for (const Term& term : kTerms) found[term.value] = found[term.value] || wanted_[term.param];
    return found;
  }

  // swept: called between the sweep and the products; returns whether the chunk is the first to add to the totals.
  template <class Swept>
  void chunk(int64_t first, int64_t last, const DeltaArrays<T>& d, ChunkProducts<T>& products, const Swept& swept) {
    const Range range{first, last};
    const int64_t token = begin(first), N = begin(last) - token, H = size_.H, S = size_.S, H4 = 4 * H, S4 = 4 * S;
    Scratch scratch;
    Jobs copies;
    const T* const x = layer_.x + token * size_.I;
    const States<T> earlier = before(range, scratch, copies), after = arrays_.states.from_row(token, size_);
    run_jobs(copies);
    // In the order of Value.
    const Values<T> values{{x, N, size_.I}, {earlier.h, N, H}, {earlier.h_hat, N, S}, {after.h_hat, N, S}};
    Residuals<T> residuals = residuals_;
    if (arrays_.residuals.numbers != nullptr) {
      residuals = arrays_.residuals;
      residuals.numbers = residuals.u(token);
    } else {
      recompute(N, x, earlier, residuals);
    }
    const ChunkArrays<T> chunk{residuals, x, earlier, after, arrays_.d_out + token * H, layer_.mask.from(token * H)};
    BackwardSweep<T>(*panels_, layer_.steps.part(first, last), layer_.B, chunk, d, arrays_.d_state)
        .run(split_, sums_, products.jobs_of_sweep(values));
    sums_.collect();
    const bool fresh = swept();
    const Matrix<const T> dv{d.dv, N, H4}, da{d.d_uh + H4, N, S4, H4 + S4};
    // In the order of Delta.
    std::vector<Products<T>> sums{{{d.d_uh, N, H4, H4 + S4}, {}}, {dv, {}}, {da, {}}, {{d.dz, N, 12 * size_.Z}, {}}};
    for (const auto& [param, delta, value] : kTerms) {
      if (wanted_[param]) sums[delta].totals.push_back({totals_[param], value});
    }
    products.sum(sums, values, fresh);
    if (arrays_.d_x != nullptr) products.input(dv, da, {arrays_.d_x + token * size_.I, N, size_.I});
  }

  // Writes u and the hyper LSTM's gates of N rows, from x and the states before the step, [N, *] each. These are known,
  // so all rows of a chunk are computed at once.
  void recompute(int64_t N, const T* x, const States<T>& before, const Residuals<T>& to) const {
    const Panels<T>& p = *forward_panels_;
    const int64_t I = size_.I, H = size_.H, S = size_.S, cost = 4 * H * H + 4 * S * (I + H + S);
    const auto run = [&](int64_t begin, int64_t end) {
      const int64_t rows = end - begin;
      Scratch scratch;
      const auto wide = [&](const T* all, int64_t F) {
        return widened(all + begin * F, rows * F, kWidens<T> ? scratch.empty<Factor<T>>(rows * F) : nullptr);
      };
      const Factor<T>*const wide_x = wide(x, I), *const h = wide(before.h, H), *const h_hat = wide(before.h_hat, S);
      A* const tile = scratch.empty<A>(kRowBlock * kPanel<A>);
      const Range main_panels{0, panel_count<A>(H, true)}, hyper_panels{0, panel_count<A>(S, true)};
      write_products(p.weight_h, main_panels, H, H, rows, h, to.u(begin), to.stride, tile);
      for_tiles(hyper_panels, rows, [&](int64_t panel, int64_t r, int64_t n) {
        start_hyper_gates(p, panel, n, wide_x + r * I, tile);
        add_to_hyper_gates(p, panel, n, h + r * H, h_hat + r * S, tile);
        write_gates(tile, n, S, panel * kLanes<A>, to.a(begin + r), to.stride);
      });
    };
    run_jobs({{N, cost, run, 2 * kTileRows}});
  }

  // Sets the gradients. Those that are products stay unset: the first chunk writes them, the others add.
  void prepare(const Params<A>& totals) {
    totals_ = totals;
    const auto n = elements(size_);
    for (int i = 0; i < kParams; ++i) {
      if (totals[i] == nullptr) continue;
      advise_huge_pages(totals[i], n[i]);
      const bool is_product = std::ranges::count(kTerms, i, &Term::param) > 0;
      if (!is_product || layer_.N == 0) std::fill_n(totals[i], n[i], A(0));
    }
  }

  const Layer<T>& layer_;
  const std::span<const int64_t> wanted_;
  const BackwardArrays<T> arrays_;
  const SplitChoice split_{layer_.split};
  const Sizes size_ = layer_.size;
  Scratch scratch_;
  std::optional<Panels<T>> panels_, forward_panels_;
  SequenceSums<A> sums_;
  std::array<DeltaArrays<T>, ChunkProducts<T>::kChunks> deltas_;
  Residuals<T> residuals_;  // of one chunk, if recomputed
  Params<A> totals_;
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
