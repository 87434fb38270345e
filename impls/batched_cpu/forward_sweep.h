// The steps of a chunk forwards.
#pragma once

#include "handover.h"
#include "input_products.h"
#include "memory.h"
#include "phases.h"
#include "split.h"
#include "steps.h"
#include "threads.h"

namespace hyperlstm {

// The states h, c, h_hat and c_hat of some rows or steps.
template <class T, class A = Acc<T>>
struct States {
  T* h;
  A* c;
  T* h_hat;
  A* c_hat;

  States from_row(int64_t row, const Sizes& size) const {
    return {h + row * size.H, c + row * size.H, h_hat + row * size.S, c_hat + row * size.S};
  }
};

// Rows from which on a thread gives half of them to one that has none: either half could be a group.
constexpr int64_t kWorthGiving = 2 * kRows;

template <class T, class A = Acc<T>>
class ForwardSweep {
 public:
  // x, into.h, the mask of g and the residuals (not written if null) are over all tokens, [N, *]; start is [B, *]. The
  // other states of `into` are [N, *] too, or, if ring is not 0, [ring, B, *]: a step overwrites the one `ring` steps
  // before it.
  ForwardSweep(
      const Packed<A>& p, const Stored<T>& stored, Sizes size, const Steps& steps, const T* x, States<T> start,
      States<T> into, int64_t ring, Mask<A> mask, Residuals<T> residuals)
      : p_(p),
        stored_(stored),
        size_(size),
        steps_(steps),
        B_(steps.rows(0)),
        x_(x),
        start_(start),
        into_(into),
        ring_(ring),
        mask_(mask),
        residuals_(residuals),
        handover_(B_) {}

  // The result has the same bits at any split: each sum adds the same numbers in the same order.
  void run(const Splitting& splitting) {
    Scratch scratch;
    if (p_.norms) {
      y_ = scratch.zeros<A>(B_ * kGates * padded<A>(size_.H));
      a_ = scratch.zeros<A>(B_ * kGates * padded<A>(size_.S));
    }
    splitting.run(size_, steps_, [this](const Member& member) {
      try {
        return Share(*this, member);
      } catch (...) {  // nobody waits for its rows
        handover_.finish(member.rows.end - member.rows.begin);
        throw;
      }
    });
  }

  // Copies each row's state after its own last step to [B, *].
  void copy_last(const States<T>& to) const {
    steps_.for_ends([&](int64_t t, int64_t first, int64_t n) {
      const States<T> from = after(t, first), into = to.from_row(first, size_);
      std::copy_n(from.h, n * size_.H, into.h);
      std::copy_n(from.c, n * size_.H, into.c);
      std::copy_n(from.h_hat, n * size_.S, into.h_hat);
      std::copy_n(from.c_hat, n * size_.S, into.c_hat);
    });
  }

 private:
  // Where the states after step t lie, from a row on.
  States<T> after(int64_t t, int64_t row) const {
    const int64_t token = steps_.begin(t) + row;
    States<T> states = into_.from_row(ring_ == 0 ? token : t % ring_ * B_ + row, size_);
    states.h = into_.h + token * size_.H;
    return states;
  }

  // One thread's part of all steps: its own units of its group's rows. Where a norm needs whole rows of gates, the
  // threads of the group share out the rows.
  class Share {
   public:
    Share(ForwardSweep& sweep, const Member& member)
        : w_(sweep), member_(member), begin_(member.rows.begin), rows_(member.rows.end - begin_) {
      const auto [H, S, Z, I] = size_;
      constexpr int64_t P = kPanel<A>;
      tile_ = scratch_.empty<A>(kRowBlock * P);
      if (member_.size > 1) u_ = scratch_.empty<A>((of_H_.all().end - of_H_.all().begin) * most_ * P);
      z_ = scratch_.zeros<A>(rows_ * z_stride_);
      if (p_.norms) raw_ = scratch_.zeros<A>(padded<A>(std::max(H, S)));
      if (!std::is_same_v<T, A>) {
        wide_h_ = scratch_.zeros<A>(rows_ * H);
        wide_h_hat_ = scratch_.zeros<A>(rows_ * S);
      }
    }

    // A group of one thread helps the others after that.
    void run() {
      const int64_t ended = take(0);
      if (member_.size > 1) return;
      w_.handover_.finish(ended);
      if (most_ < kWorthGiving) return;  // the others have about as few
      while (const std::optional<Rest> rest = w_.handover_.ask(most_, member_.meeting->spin)) {
        begin_ = rest->rows.begin;
        rows_ = rest->rows.end - begin_;
        w_.handover_.finish(take(rest->step));
      }
    }

   private:
    // Takes the rows to their ends, from step `first` on; returns how many it did not give away.
    int64_t take(int64_t first) {
      int64_t own = rows_;
      inputs_.clear();
      if (p_.norms) {
        y_ = w_.y_ + begin_ * kGates * padded<A>(size_.H);
        a_ = w_.a_ + begin_ * kGates * padded<A>(size_.S);
      }
      States<T> before = first == 0 ? w_.start_.from_row(begin_, size_) : w_.after(first - 1, begin_);
      const A* h_hat = widened(before.h_hat, rows_ * size_.S, wide_h_hat_);
      for (int64_t t = first; t < w_.steps_.count(); ++t) {
        rows_ = std::min(rows_, w_.steps_.rows(t) - begin_);
        if (rows_ <= 0) break;  // all have ended, for every member of the group
        if (member_.size == 1 && rows_ >= kWorthGiving && w_.handover_.asked()) {
          const int64_t given = w_.handover_.give({begin_, begin_ + rows_}, t);
          own -= given;
          rows_ -= given;
        }
        first_row_ = w_.steps_.begin(t) + begin_;
        const States<T> after = w_.after(t, begin_);
        mask_ = w_.mask_.from(first_row_ * size_.H);
        inputs_.enter(t, begin_, rows_);
        const A* h = widened(before.h, rows_ * size_.H, wide_h_);
        hyper(h, h_hat, before, after);
        const uint32_t arrived = member_.arrive();
        if (u_) state_products(h);  // needs no h_hat of this step, which the others may still be writing
        member_.wait(arrived);
        h_hat = widened(after.h_hat, rows_ * size_.S, wide_h_hat_);
        embed(p_, size_, rows_, h_hat, z_);
        main(h, before, after);
        member_.meet();
        before = after;
      }
      return own;
    }

    // Writes u of all rows and all units of this thread.
    void state_products(const A* h) {
      for_tiles(of_H_, rows_, [&](int64_t p, int64_t first, int64_t n) {
        state_product(p, n, h + first * size_.H, u_of(p, first));
      });
    }

    // Writes u [n, 4, lanes] = weight_h h of one panel of units.
    void state_product(int64_t p, int64_t n, const A* h, A* u) const {
      gates(p_.weight_h, w_.stored_.weight_h, p, n, h, size_.H, size_.H, {u, kPanel<A>, false});
    }

    A* u_of(int64_t p, int64_t first) const { return u_ + ((p - of_H_.all().begin) * most_ + first) * kPanel<A>; }

    // a = hyper_weight_x x + hyper_weight_h h + hyper_weight_s h_hat + hyper_bias, and the hyper LSTM's cell.
    void hyper(const A* h, const A* h_hat, const States<T>& before, const States<T>& after) {
      constexpr int64_t V = kLanes<A>;
      const int64_t H = size_.H, S = size_.S;  // clang below 16 cannot capture structured bindings
      for_tiles(of_S_, rows_, [&](int64_t p, int64_t first, int64_t n) {
        const int64_t unit = p * V, m = std::min(V, S - unit);
        inputs_.start(p, first, n, tile_);
        hyper_states(p_, w_.stored_.hyper_weight_h, size_, p, n, h + first * H, h_hat + first * S, tile_);
        if (leaves_) write_gates(tile_, n, S, unit, left_.a(first_row_ + first, size_), left_.stride);
        finish(n, first, tile_, unit, m, S, {}, before.c_hat, after.c_hat, after.h_hat, a_);
      });
      if (p_.hyper_norms) {
        member_.meet();
        const Range own = member_.part(rows_);
        for (int64_t r = own.begin; r < own.end; ++r) {
          A* a = a_ + r * kGates * padded<A>(S);
          normed_cell<T>(
              a, p_.hyper_norms, {}, before.c_hat + r * S, after.c_hat + r * S, after.h_hat + r * S, S, raw_);
        }
      }
    }

    // Passes a tile of gates to the cell, or, where a norm needs the whole row first, stores it in y.
    void finish(
        int64_t n, int64_t first, A* tile, int64_t unit, int64_t m, int64_t F, const Mask<A>& mask, const A* c_before,
        A* c, T* h, A* y) {
      constexpr int64_t V = kLanes<A>;
      if (!p_.norms) {
        const int64_t at = first * F + unit;
        return cells<T>(n, tile, mask.from(at), c_before + at, c + at, h + at, F, m);
      }
      for (int64_t r = 0; r < n; ++r) {
        A* to = y + (first + r) * kGates * padded<A>(F) + unit;
        for (int64_t k = 0; k < kGates; ++k) Vec<A>::loadu(tile + r * kPanel<A> + k * V).store(to + k * padded<A>(F));
      }
    }

    // y = d_h u + d_x v + d_b + bias with u = weight_h h and v = weight_x x, and the main LSTM's cell.
    void main(const A* h, const States<T>& before, const States<T>& after) {
      constexpr int64_t V = kLanes<A>;
      const int64_t H = size_.H;
      for_tiles(of_H_, rows_, [&](int64_t p, int64_t first, int64_t n) {
        const int64_t unit = p * V, m = std::min(V, H - unit);
        constexpr int64_t P = kPanel<A>;
        A* const tile = u_ ? u_of(p, first) : tile_;
        if (!u_) state_product(p, n, h + first * H, tile);
        const A* const v = inputs_.v(p, first, n);
        for (int64_t g = 0; g < n; g += kGroup) {
          for_group(std::min<int64_t>(kGroup, n - g), [&](auto rows) {
            scale_tile<rows>(p, first + g, m, v + g * P, tile + g * P);
          });
        }
        finish(n, first, tile, unit, m, H, mask_, before.c, after.c, after.h, y_);
      });
      if (p_.norms) {
        member_.meet();
        const Range own = member_.part(rows_);
        for (int64_t r = own.begin; r < own.end; ++r) {
          A* y = y_ + r * kGates * padded<A>(H);
          normed_cell<T>(y, p_.norms, mask_.from(r * H), before.c + r * H, after.c + r * H, after.h + r * H, H, raw_);
        }
      }
    }

    // tile [R, 4, lanes]: u on entry, y on return, of R rows from `first` on; v [R, 4, lanes].
    template <int R>
    void scale_tile(int64_t p, int64_t first, int64_t m, const A* v, A* tile) {
      constexpr int64_t V = kLanes<A>;
      const int64_t H = size_.H, Z = size_.Z, unit = p * V;
      scale_rows<A, R>(p_.scales + p * 12 * Z * V, Z, z_ + first * z_stride_, z_stride_, [&](int64_t k, const auto& d) {
        const Vec<A> bias = Vec<A>::loadu(p_.bias + k * padded<A>(H) + unit);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const int64_t row = first_row_ + first + r, at = k * H + unit;
          const int64_t in_tile = r * kPanel<A> + k * V;
          const Vec<A> u = Vec<A>::loadu(tile + in_tile), of_x = Vec<A>::loadu(v + in_tile);
          if (leaves_) {
            store(left_.u(row) + at, u, m);
            if (left_.has_v) store(left_.v(row, size_) + at, of_x, m);
          }
          const Vec<A> rest = at::vec::fmadd(d[r][1], of_x, d[r][2] + bias);
          at::vec::fmadd(d[r][0], u, rest).store(tile + in_tile);
        }
      });
    }

    ForwardSweep& w_;
    const Packed<A>& p_ = w_.p_;
    const Sizes size_ = w_.size_;
    const Member member_;
    int64_t begin_, rows_;  // of the group, those that are still going
    const int64_t most_ = rows_;
    const Residuals<T> left_ = w_.residuals_;
    const bool leaves_ = left_.numbers != nullptr;
    const int64_t z_stride_ = z_stride<A>(size_.Z);
    const Part of_H_{panels<A>(size_.H, true), member_}, of_S_{panels<A>(size_.S, true), member_};
    Mask<A> mask_;           // of this step and these rows
    int64_t first_row_ = 0;  // the token of the group's first row
    Scratch scratch_;
    InputProducts<T> inputs_{p_, size_, w_.steps_, w_.x_, most_, of_H_.whole(), of_S_.whole()};
    // u_: [panels of H, most, 4, lanes], where the group has other threads
    A *tile_, *z_, *u_ = nullptr, *y_ = nullptr, *a_ = nullptr, *raw_ = nullptr, *wide_h_ = nullptr,
                   *wide_h_hat_ = nullptr;
  };

  const Packed<A>& p_;
  const Stored<T>& stored_;
  const Sizes size_;
  const Steps steps_;
  const int64_t B_;
  const T* x_;
  const States<T> start_, into_;
  const int64_t ring_;
  const Mask<A> mask_;
  const Residuals<T> residuals_;
  Handover handover_;
  A *y_ = nullptr, *a_ = nullptr;  // gates before their norm, [B, 4, padded H] and [B, 4, padded S]
};

}  // namespace hyperlstm
