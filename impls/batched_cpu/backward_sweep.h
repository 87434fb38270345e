// The backward pass of the steps of a chunk (impls/README.md, Gradient).
#pragma once

#include "inputs.h"
#include "scaled_cell.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// Results of the forward pass and gradients of its output, of all tokens of the chunk, [n, *] each.
template <class T, class A = Acc<T>>
struct ChunkArrays {
  Residuals<T> residuals;
  const T* x;               // [n, I]
  States<T> before, after;  // each step
  const T* d_out;
  Mask<A> mask;  // of g, [n, H]
};

// What the sweep writes, of all tokens of the chunk.
template <class T>
struct DeltaArrays {
  T* d_uh;  // [n, 4H + 4S]: du, then da
  T* dv;    // [n, 4H]
  T* dz;    // [n, 12 Z]
};

template <class T, class A = Acc<T>>
class BackwardSweep {
 public:
  // d_state [B, *]: in: gradients of the state after the chunk; out: gradients of the state before it.
  BackwardSweep(
      const Panels<T>& p, const Steps& steps, int64_t B, ChunkArrays<T> chunk, DeltaArrays<T> to, States<A> d_state)
      : p_(p), size_(p.size), steps_(steps), B_(B), chunk_(chunk), to_(to), d_state_(d_state) {}

  // Each thread adds to its own sums. The threads run the jobs, too, see SplitChoice::run.
  void run(const SplitChoice& split, const SequenceSums<A>& sums, const Jobs& jobs) {
    const int64_t threads = split.threads();
    Scratch scratch;
    dz_parts_ = scratch.empty<A>(threads * B_ * 12 * size_.Z);
    if (p_.norms) {
      const int64_t groups = threads * kBuffers, n = groups * kGroup * kGates * padded<A>(size_.H);
      normed_ = {scratch.zeros<A>(n), scratch.zeros<A>(n), scratch.empty<NormedRow>(groups * kGroup)};
    }
    if constexpr (kWidens<T>) d_uh_ = scratch.empty<Factor<T>>(kBuffers * B_ * (4 * size_.H + 4 * size_.S));
    split.run(
        size_, steps_, [&](const Member& member) { return Worker(*this, member, sums.of_thread(member.thread)); },
        jobs);
  }

 private:
  // Arrays that members share have two buffers: a thread that is ahead writes one while another still reads the other.
  static constexpr int64_t kBuffers = 2;

  using NormedRow = NormBackward<kGates, A>;

  // One thread's part of all steps. The threads of a group divide the units of the main LSTM or, where work needs whole
  // rows, the rows.
  class Worker {
    using F = Factor<T>;

   public:
    Worker(const BackwardSweep& sweep, const Member& member, Sums<A> sums)
        : sweep_(sweep), member_(member), begin_(member.rows.begin), max_rows_(member.rows.size()), sums_(sums) {
      const auto [H, S, Z, I] = size_;
      if (p_.hyper_norms) {
        d_a_ = scratch_.zeros<A>(kGroup * kGates * padded<A>(S));
        tanh_c_hat_ = scratch_.zeros<A>(kGroup * padded<A>(S));
        normed_rows_ = scratch_.empty<NormedRow>(kGroup);
      }
      tile_ = scratch_.zeros<A>(kRowBlock * kPanel<A>);
      a_ = scratch_.zeros<A>(kGroup * kGates * padded<A>(S));
      if (p_.weight_h.stored) dh_ = scratch_.zeros<A>(kFewRows * dh_stride_);
      if (!sweep_.chunk_.residuals.has_v) v_block_ = scratch_.zeros<T>(inputs_.capacity(max_rows_) * v_stride_);
      z_ = scratch_.zeros<A>(rows_ * z_stride_);
      dz_ = scratch_.zeros<A>(rows_ * 12 * Z);
      if constexpr (kWidens<T>) h_hat_ = scratch_.zeros<Factor<T>>(rows_ * S);
    }

    void run() {
      const auto [H, S, Z, I] = size_;
      for (int64_t t = sweep_.steps_.count() - 1; t >= 0; --t) {
        rows_ = std::min(max_rows_, sweep_.steps_.rows(t) - begin_);
        if (rows_ <= 0) continue;  // all end before, for every member of the group
        token_ = sweep_.steps_.begin(t) + begin_;
        if constexpr (kWidens<T>)
          d_uh_ = sweep_.d_uh_ + (t % kBuffers * sweep_.B_ + begin_) * stride_;
        else
          d_uh_ = sweep_.to_.d_uh + token_ * stride_;
        if (v_block_) input_products(t);
        embed(p_, rows_, widened(sweep_.chunk_.after.h_hat + token_ * S, rows_ * S, h_hat_), z_);
        for (int64_t r = 0; r < rows_; r += kGroup) {
          with_constant<kGroup>(std::min<int64_t>(kGroup, rows_ - r), [&](auto rows) { main<rows>(r); });
        }
        member_.sync();
        const Range own = member_.part(rows_), all_panels{0, panel_count<A>(S, false)};
        A* const dh_hat = sweep_.d_state_.h_hat + begin_ * S;
        for (int64_t r = own.begin; r < own.end; ++r) embedding_gradient(r);
        const F* dz;  // of this step's rows, [rows, 12 Z]
        if constexpr (kWidens<T>)
          dz = dz_;
        else
          dz = sweep_.to_.dz + token_ * 12 * Z;
        multiply_panels<F>(
            own.size(), {dz + own.begin * 12 * Z, 12 * Z}, p_.z_weight_t, 12 * Z, S, all_panels,
            {dh_hat + own.begin * S, S, true}, tile_);
        for (int64_t r = own.begin; r < own.end; r += kGroup) hyper(r, std::min<int64_t>(kGroup, own.end - r));
        const uint32_t arrived = member_.arrive();
        add_to_dh(d_uh_, 4 * H, p_.weight_h, false);  // needs no da
        member_.wait(arrived);
        add_to_dh(d_uh_ + 4 * H, 4 * S, p_.hyper_weight_h, true);
        if (dh_) {
          A* const to = sweep_.d_state_.h + begin_ * H + units_.begin;
          for (int64_t r = 0; r < rows_; ++r) std::copy_n(dh_ + r * dh_stride_, units_.size(), to + r * H);
        }
        multiply_panels<F>(
            rows_, {d_uh_ + 4 * H, stride_}, p_.hyper_weight_s, 4 * S, S, member_.part(all_panels.end),
            {dh_hat, S, false}, tile_);
      }
    }

   private:
    // Sets v_ to v = weight_x x of this thread's units at step t, which the forward pass did not save. It is made for
    // one step or, with few rows, for a block of steps: little enough to stay in the cache until it is used.
    void input_products(int64_t t) {
      const int64_t H = size_.H, I = size_.I;
      if (inputs_.advance(t, begin_, rows_, true)) {
        const Range own{panels_.begin * kGates, std::min(panels_.end * kGates, panel_count<A>(H, true))};
        write_products<T>({p_.weight_x, nullptr}, own, H, I, inputs_.tokens(), inputs_.x(), v_block_, v_stride_, tile_);
      }
      v_ = v_block_ + inputs_.offset(t) * v_stride_;
    }

    // Writes or adds this thread's units of dh = d [rows, K] times a weight [K, H]. Of a stored weight the sums are in
    // the thread's own dh_ until they are complete: at the border of two threads' units, both would write one cache
    // line over and over.
    void add_to_dh(const F* d, int64_t K, const Weight<T>& weight, bool add) {
      const int64_t H = size_.H;
      const Lhs<F> lhs{d, stride_};
      if (!weight.stored) {
        const Into<A> dh{sweep_.d_state_.h + begin_ * H, H, add};
        return multiply_panels<F>(rows_, lhs, weight.panels, K, H, panels_, dh, tile_);
      }
      with_constant<kFewRows>(rows_, [&](auto rows) {
        multiply_stored_columns<rows>(units_, lhs, weight.stored, K, H, {dh_, dh_stride_, add});
      });
    }

    // The main LSTM's cell and its scales, of R rows.
    template <int R>
    void main(int64_t first) {
      const int64_t H = size_.H, token = token_ + first, at = token * H, row = begin_ + first;
      const ChunkArrays<T>& chunk = sweep_.chunk_;
      const Residuals<T>& residuals = chunk.residuals;
      const typename ScaledCell<T>::Rows rows{
          .u = residuals.u(token),
          .u_stride = residuals.stride,
          .v = v_block_ ? v_ + first * v_stride_ : residuals.v(token),
          .v_stride = v_block_ ? v_stride_ : residuals.stride,
          .z = z_ + first * z_stride_,
          .cell =
              {.mask = chunk.mask.from(at),
               .c_before = chunk.before.c + at,
               .c = chunk.after.c + at,
               .dh = sweep_.d_state_.h + row * H,
               .dc = sweep_.d_state_.c + row * H},
          .d_out = chunk.d_out + at,
          .du = sweep_.to_.d_uh + token * stride_,
          .wide_du = d_uh_ + first * stride_,
          .du_stride = stride_,
          .dv = sweep_.to_.dv + 4 * at};
      const int64_t buffer = member_.group * kBuffers + first / kGroup % kBuffers;
      const NormedRows<A> normed = p_.norms ? sweep_.normed_.from(buffer * kGroup, H) : NormedRows<A>{};
      cell_.template run<R>(rows, normed, dz_part(member_.rank, first));
    }

    // What a member's units add to dz, [3, 4, Z] per row.
    A* dz_part(int64_t rank, int64_t r) const {
      return sweep_.dz_parts_ + ((rank * sweep_.B_) + begin_ + r) * 12 * size_.Z;
    }

    // dz of row r, summed over the members in their order, so that the rounding does not depend on timing.
    void embedding_gradient(int64_t r) {
      const int64_t Z = size_.Z;
      A* const dz = dz_ + r * 12 * Z;
      T* const to = sweep_.to_.dz + (token_ + r) * 12 * Z;
      std::copy_n(dz_part(0, r), 12 * Z, dz);
      for (int64_t rank = 1; rank < member_.size; ++rank) {
        const A* const part = dz_part(rank, r);
        for (int64_t i = 0; i < 12 * Z; ++i) dz[i] += part[i];
      }
      for (int64_t i = 0; i < 12 * Z; ++i) to[i] = static_cast<T>(dz[i]);
      for (int64_t i = 0; i < 8 * Z; ++i) sums_.z_bias[i] += dz[i];
    }

    // Back through the hyper LSTM's cell of n rows from `first` on: writes da. dc_hat becomes the gradient of the cell
    // before the step.
    void hyper(int64_t first, int64_t n) {
      constexpr int64_t V = kLanes<A>;
      const int64_t H = size_.H, S = size_.S, wide = padded<A>(S), at = (token_ + first) * S,
                    row = (begin_ + first) * S;
      const CellBackward<A> cells{
          .mask = {},
          .c_before = sweep_.chunk_.before.c_hat + at,
          .c = sweep_.chunk_.after.c_hat + at,
          .dh = sweep_.d_state_.h_hat + row,
          .dc = sweep_.d_state_.c_hat + row};
      const NormedRows<A> normed{a_, d_a_, normed_rows_};
      for (int64_t r = 0; r < n; ++r) {
        A* const a = a_ + r * kGates * wide;
        const T* const saved = sweep_.chunk_.residuals.a(token_ + first + r);
        for (int64_t k = 0; k < kGates; ++k) {
          for (int64_t j = 0; j < S; j += V) load(saved + k * S + j, std::min(V, S - j)).store(a + k * wide + j);
        }
        if (!p_.hyper_norms) row_gradient(a, wide, cells.from(r * S), S);
      }
      if (p_.hyper_norms) {
        normed_cells_backward(normed, n, p_.hyper_norms, sums_.hyper_norms, cells, S, tanh_c_hat_);
      }
      for (int64_t k = 0; k < kGates; ++k) {
        for (int64_t j = 0; j < S; j += V) {
          const int64_t m = std::min(V, S - j);
          A* const bias = sums_.hyper_bias + k * wide + j;
          const auto pass = [&](int64_t r, const Vec<A>& da) {
            const int64_t in_row = 4 * H + k * S + j;
            (Vec<A>::loadu(bias) + da).store(bias);
            store(sweep_.to_.d_uh + (token_ + first + r) * stride_ + in_row, da, m);
            if constexpr (kWidens<T>) store(d_uh_ + (first + r) * stride_ + in_row, da, m);
          };
          if (p_.hyper_norms) {
            for_gate_gradients<kGroup>(normed, n, p_.hyper_norms, sums_.hyper_norms, S, k, j, m, pass);
          } else {
            for (int64_t r = 0; r < n; ++r) pass(r, Vec<A>::loadu(a_ + (r * kGates + k) * wide + j));
          }
        }
      }
    }

    const BackwardSweep& sweep_;
    const Panels<T>& p_ = sweep_.p_;
    const Sizes size_ = sweep_.size_;
    const Member member_;
    const int64_t begin_, max_rows_;
    int64_t rows_ = max_rows_;                                           // of the group, those present at this step
    const Range panels_ = member_.part(panel_count<A>(size_.H, false));  // of the main LSTM's units
    const Range units_{panels_.begin * kPanel<A>, std::min(panels_.end * kPanel<A>, size_.H)};
    const int64_t dh_stride_ = panels_.size() * kPanel<A>;
    const Sums<A> sums_;
    const int64_t stride_ = 4 * size_.H + 4 * size_.S, z_stride_ = z_stride<A>(size_.Z);
    // A cache line more than needed: rows a multiple of a page apart would share a few lines of the L1 cache.
    const int64_t v_stride_ = 4 * size_.H + kLine<T>;
    int64_t token_ = 0;  // of the group's first row
    Scratch scratch_;
    A *tile_, *a_, *z_, *dz_, *dh_ = nullptr, *d_a_ = nullptr, *tanh_c_hat_ = nullptr;
    F *d_uh_ = nullptr, *h_hat_ = nullptr;  // of this step; if factors are converted
    NormedRow* normed_rows_ = nullptr;
    InputBlock<T> inputs_{sweep_.steps_, sweep_.chunk_.x, size_.I, max_rows_};
    T *v_block_ = nullptr, *v_ = nullptr;  // of the block of inputs_, and of this step
    ScaledCell<T> cell_{p_, member_, units_, sums_};
  };

  const Panels<T>& p_;
  const Sizes size_;
  const Steps steps_;
  const int64_t B_;
  const ChunkArrays<T> chunk_;
  const DeltaArrays<T> to_;
  const States<A> d_state_;
  A* dz_parts_ = nullptr;      // [threads, B, 3, 4, Z]
  NormedRows<A> normed_{};     // with norms, [groups, kBuffers, kGroup rows]
  Factor<T>* d_uh_ = nullptr;  // du and da, if factors are converted, [kBuffers of steps, B, 4H + 4S]
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
