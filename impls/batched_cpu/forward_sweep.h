// The forward pass of the steps of a chunk.
#pragma once

#include "inputs.h"
#include "normed_cell.h"

namespace hyperlstm::inline HYPERLSTM_SET {

template <class T, class A = Acc<T>>
class ForwardSweep {
 public:
  // Writes into.h and the residuals, unless these are null, of all tokens, [N, *]. The other states of `into` are
  // [N, *] too or, if slots is not 0, [slots, B, *]: step t overwrites step t - slots.
  ForwardSweep(const Panels<T>& p, const Layer<T>& layer, States<T> into, int64_t slots, Residuals<T> residuals)
      : p_(p), layer_(layer), into_(into), slots_(slots), residuals_(residuals) {}

  // The result has the same bits for any split: each sum adds the same numbers in the same order.
  void run() {
    Scratch scratch;
    if (p_.norms) {
      y_ = scratch.zeros<A>(layer_.B * kGates * padded<A>(size_.H));
      a_ = scratch.zeros<A>(layer_.B * kGates * padded<A>(size_.S));
    }
    SplitChoice{layer_.split}.run(size_, steps_, [this](const Member& member) { return Worker(*this, member); });
  }

  // Copies each row's state after its own last step to [B, *].
  void copy_last(const States<T>& to) const {
    for (int64_t t = 0; t < steps_.count(); ++t) {
      const int64_t first = steps_.rows(t + 1), n = steps_.rows(t) - first;  // the rows that end after step t
      const States<T> from = after(t, first), into = to.from_row(first, size_);
      std::copy_n(from.h, n * size_.H, into.h);
      std::copy_n(from.c, n * size_.H, into.c);
      std::copy_n(from.h_hat, n * size_.S, into.h_hat);
      std::copy_n(from.c_hat, n * size_.S, into.c_hat);
    }
  }

 private:
  // The states after step t, from a row on.
  States<T> after(int64_t t, int64_t row) const {
    const int64_t token = steps_.begin(t) + row;
    States<T> states = into_.from_row(slots_ == 0 ? token : t % slots_ * layer_.B + row, size_);
    states.h = into_.h + token * size_.H;
    return states;
  }

  // One thread's part of all steps: its own units of its group's rows. A norm needs whole rows of gates, so there the
  // threads of the group divide the rows.
  class Worker {
    using F = Factor<T>;

   public:
    Worker(const ForwardSweep& sweep, const Member& member)
        : sweep_(sweep),
          member_(member),
          begin_(member.rows.begin),
          max_rows_(member.rows.size()),
          inputs_(p_, sweep.steps_, sweep.layer_.x, max_rows_, main_panels_.whole(), hyper_panels_.whole()) {
      const auto [H, S, Z, I] = size_;
      constexpr int64_t P = kPanel<A>;
      tile_ = scratch_.empty<A>(kRowBlock * P);
      if (member_.size > 1) u_ = scratch_.empty<A>(main_panels_.all().size() * max_rows_ * P);
      z_ = scratch_.zeros<A>(rows_ * z_stride_);
      if (p_.norms) {
        y_ = sweep.y_ + begin_ * kGates * padded<A>(H);
        a_ = sweep.a_ + begin_ * kGates * padded<A>(S);
      }
      if constexpr (kWidens<T>) {
        wide_h_ = scratch_.zeros<F>(rows_ * H);
        wide_h_hat_ = scratch_.zeros<F>(rows_ * S);
      }
    }

    void run() {
      States<T> before = sweep_.layer_.start.from_row(begin_, size_);
      const F* h_hat = widened(before.h_hat, rows_ * size_.S, wide_h_hat_);
      for (int64_t t = 0; t < sweep_.steps_.count(); ++t) {
        rows_ = std::min(rows_, sweep_.steps_.rows(t) - begin_);
        if (rows_ <= 0) break;  // all have ended, for every member of the group
        token_ = sweep_.steps_.begin(t) + begin_;
        const States<T> after = sweep_.after(t, begin_);
        inputs_.advance(t, begin_, rows_);
        const F* h = widened(before.h, rows_ * size_.H, wide_h_);
        const Cell<T> hyper_cell{
            .F = size_.S,
            .norms = p_.hyper_norms,
            .mask = {},
            .c_before = before.c_hat,
            .c = after.c_hat,
            .h = after.h_hat,
            .y = a_};
        hyper(h, h_hat, hyper_cell);
        const uint32_t arrived = member_.arrive();
        if (u_) {  // needs no h_hat of this step, which other members may still be writing
          for_tiles(main_panels_, rows_, [&](int64_t p, int64_t first, int64_t n) {
            state_product(p, n, h + first * size_.H, u_of(p, first));
          });
        }
        member_.wait(arrived);
        h_hat = widened(after.h_hat, rows_ * size_.S, wide_h_hat_);
        embed(p_, rows_, h_hat, z_);
        const Cell<T> main_cell{
            .F = size_.H,
            .norms = p_.norms,
            .mask = sweep_.layer_.mask.from(token_ * size_.H),
            .c_before = before.c,
            .c = after.c,
            .h = after.h,
            .y = y_};
        main(h, main_cell);
        member_.sync();
        before = after;
      }
    }

   private:
    // Writes u [n, 4, lanes] = weight_h h of one panel of units.
    void state_product(int64_t p, int64_t n, const F* h, A* u) const {
      multiply_gates(p_.weight_h, p, n, h, size_.H, size_.H, {u, kPanel<A>, false});
    }

    A* u_of(int64_t p, int64_t first) const {
      return u_ + ((p - main_panels_.all().begin) * max_rows_ + first) * kPanel<A>;
    }

    // a = hyper_weight_x x + hyper_weight_h h + hyper_weight_s h_hat + hyper_bias, and the hyper LSTM's cell.
    void hyper(const F* h, const F* h_hat, const Cell<T>& cell) {
      const int64_t H = size_.H, S = size_.S;  // clang below 16 cannot capture structured bindings
      for_tiles(hyper_panels_, rows_, [&](int64_t p, int64_t first, int64_t n) {
        inputs_.start_hyper_gates(p, first, n, tile_);
        add_to_hyper_gates(p_, p, n, h + first * H, h_hat + first * S, tile_);
        if (writes_residuals_) {
          write_gates(tile_, n, S, p * kLanes<A>, residuals_.a(token_ + first), residuals_.stride);
        }
        finish_tile(cell, p, first, n, tile_);
      });
      finish_rows(cell);
    }

    // y = d_h u + d_x v + d_b + bias with u = weight_h h and v = weight_x x, and the main LSTM's cell.
    void main(const F* h, const Cell<T>& cell) {
      constexpr int64_t P = kPanel<A>;
      for_tiles(main_panels_, rows_, [&](int64_t p, int64_t first, int64_t n) {
        A* const tile = u_ ? u_of(p, first) : tile_;
        if (!u_) state_product(p, n, h + first * size_.H, tile);
        const A* const v = inputs_.v(p, first, n);
        for (int64_t g = 0; g < n; g += kGroup) {
          with_constant<kGroup>(std::min<int64_t>(kGroup, n - g), [&](auto rows) {
            scale_tile<rows>(p, first + g, v + g * P, tile + g * P);
          });
        }
        finish_tile(cell, p, first, n, tile);
      });
      finish_rows(cell);
    }

    // tile [R, 4, lanes]: u on entry, y on return, of R rows from `first` on; v [R, 4, lanes].
    template <int R>
    void scale_tile(int64_t p, int64_t first, const A* v, A* tile) {
      constexpr int64_t V = kLanes<A>;
      const int64_t H = size_.H, Z = size_.Z, unit = p * V, m = std::min(V, H - unit);
      scale_rows<A, R>(p_.scales + p * 12 * Z * V, Z, z_ + first * z_stride_, z_stride_, [&](int64_t k, const auto& d) {
        const Vec<A> bias = Vec<A>::loadu(p_.bias + k * padded<A>(H) + unit);
        UNROLL for (int r = 0; r < R; ++r) {
          const int64_t row = token_ + first + r, at = k * H + unit;
          const int64_t in_tile = r * kPanel<A> + k * V;
          const Vec<A> u_r = Vec<A>::loadu(tile + in_tile), v_r = Vec<A>::loadu(v + in_tile);
          if (writes_residuals_) {
            store(residuals_.u(row) + at, u_r, m);
            if (residuals_.has_v) store(residuals_.v(row) + at, v_r, m);
          }
          const Vec<A> shift = fmadd(d[r][1], v_r, d[r][2] + bias);
          fmadd(d[r][0], u_r, shift).store(tile + in_tile);
        }
      });
    }

    // Passes a tile of gates to the cell or, if a norm needs the whole row first, writes it to y.
    void finish_tile(const Cell<T>& cell, int64_t p, int64_t first, int64_t n, A* tile) {
      const int64_t wide = padded<A>(cell.F), unit = p * kLanes<A>;
      if (cell.norms) return write_gates(tile, n, wide, unit, cell.from(first).y, kGates * wide);
      cells(cell.from(first, unit), n, tile, std::min(kLanes<A>, cell.F - unit));
    }

    void finish_rows(const Cell<T>& cell) {
      if (!cell.norms) return;
      member_.sync();
      const Range own = member_.part(rows_);
      for (int64_t r = own.begin; r < own.end; r += kGroup) {
        normed_cells(cell.from(r), std::min<int64_t>(kGroup, own.end - r));
      }
    }

    const ForwardSweep& sweep_;
    const Panels<T>& p_ = sweep_.p_;
    const Sizes size_ = sweep_.size_;
    const Member member_;
    const int64_t begin_, max_rows_;
    int64_t rows_ = max_rows_;  // of the group, those that have not ended
    const Residuals<T> residuals_ = sweep_.residuals_;
    const bool writes_residuals_ = residuals_.numbers != nullptr;
    const int64_t z_stride_ = z_stride<A>(size_.Z);
    const Part main_panels_{panel_count<A>(size_.H, true), member_},
        hyper_panels_{panel_count<A>(size_.S, true), member_};
    int64_t token_ = 0;  // of the group's first row at this step
    Scratch scratch_;
    InputProducts<T> inputs_;
    // u_: [panels of H, max_rows, 4, lanes], if the group has other threads
    A *tile_, *z_, *u_ = nullptr, *y_ = nullptr, *a_ = nullptr;
    F *wide_h_ = nullptr, *wide_h_hat_ = nullptr;  // if factors are converted
  };

  const Panels<T>& p_;
  const Layer<T>& layer_;
  const Sizes& size_ = layer_.size;
  const Steps& steps_ = layer_.steps;
  const States<T> into_;
  const int64_t slots_;
  const Residuals<T> residuals_;
  A *y_ = nullptr, *a_ = nullptr;  // gates before their norm, [B, 4, padded H] and [B, 4, padded S]
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
