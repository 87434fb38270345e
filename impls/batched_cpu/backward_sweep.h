// The steps of a chunk backwards (impls/README.md, Gradient).
#pragma once

#include "inputs.h"
#include "memory.h"
#include "parameter_sums.h"
#include "phases.h"
#include "scaled_row.h"
#include "split.h"
#include "steps.h"
#include "threads.h"

namespace hyperlstm {

// What the forward pass computed in the chunk's steps, for all its tokens, [n, *] each.
template <class T, class A = Acc<T>>
struct ChunkArrays {
  Residuals<T> residuals;
  const T* x;      // [.., I]
  const T* h_hat;  // [.., S], after each step
  const A *c_before, *c, *c_hat_before, *c_hat;
  const T* d_out;
  Mask<A> mask;  // of g, [.., H]
};

// What the sweep writes, for all the chunk's tokens: `Deltas` of chunked_backward.py.
template <class T>
struct DeltaArrays {
  T* d_uh;  // [.., 4H + 4S]: du, then da
  T* dv;    // [.., 4H]
  T* dz;    // [.., 12 Z]
};

// Gradients of the state, [B, *] each: on entry of the state after the chunk, on return of the state before it.
template <class A>
struct Carried {
  A *h, *c, *h_hat, *c_hat;
};

template <class T, class A = Acc<T>>
class BackwardSweep {
 public:
  BackwardSweep(
      const Packed<A>& p, const Stored<T>& stored, Sizes size, const Steps& steps, int64_t B, ChunkArrays<T> chunk,
      DeltaArrays<T> to, Carried<A> carried)
      : p_(p), stored_(stored), size_(size), steps_(steps), B_(B), chunk_(chunk), to_(to), carried_(carried) {}

  // Each thread adds to its own share of sums. Threads that have nothing to do here do the other jobs.
  void run(const Splitting& splitting, const SequenceSums<A>& sums, const Jobs& others) {
    const int64_t threads = splitting.threads();
    Scratch scratch;
    dz_parts_ = scratch.empty<A>(threads * B_ * 12 * size_.Z);
    if (p_.norms) y_ = scratch.zeros<A>(threads * kArgumentsKept * kGroup * kGates * padded<A>(size_.H));
    if (!std::is_same_v<T, A>) d_uh_ = scratch.empty<A>(kStepsKept * B_ * (4 * size_.H + 4 * size_.S));
    splitting.run(
        size_, steps_, [&](const Member& member) { return Share(*this, member, sums.of_share(member.thread)); },
        others);
  }

 private:
  // With norms, gates of this many blocks of kGroup rows are in memory: a thread that is ahead writes one block while
  // another still reads the block before.
  static constexpr int64_t kArgumentsKept = 2;
  // For the same reason du and da of this many steps are in memory in the accumulation type.
  static constexpr int64_t kStepsKept = 2;

  // One thread's part of all steps. The threads of a group share out the units of the main LSTM, and the rows where
  // work needs whole ones.
  class Share {
   public:
    Share(const BackwardSweep& sweep, const Member& member, Sums<A> sums)
        : w_(sweep), member_(member), begin_(member.rows.begin), most_(member.rows.end - begin_), sums_(sums) {
      const auto [H, S, Z, I] = size_;
      if (p_.norms) {
        normed_ = scratch_.zeros<A>(kNormScratch * padded<A>(std::max(H, S)));
        y_ = w_.y_ + member.group * kArgumentsKept * kGroup * kGates * padded<A>(H);
      }
      tile_ = scratch_.zeros<A>(kRowBlock * kPanel<A>);
      scale_ = scratch_.zeros<A>(kGroup * 12 * kBlock);
      embedded_ = scratch_.zeros<A>(kGroup * 12 * Z * kLanes<A>);
      a_ = scratch_.zeros<A>(kGates * padded<A>(S));
      if (w_.stored_.weight_h) dh_ = scratch_.zeros<A>(kFew * dh_stride_);
      if (!w_.chunk_.residuals.has_v) made_v_ = scratch_.zeros<T>(inputs_.capacity(most_) * v_stride_);
      z_ = scratch_.zeros<A>(rows_ * z_stride_);
      dz_ = scratch_.zeros<A>(rows_ * 12 * Z);
      if (!std::is_same_v<T, A>) h_hat_ = scratch_.zeros<A>(rows_ * S);
    }

    void run() {
      const auto [H, S, Z, I] = size_;
      for (int64_t t = w_.steps_.count() - 1; t >= 0; --t) {
        rows_ = std::min(most_, w_.steps_.rows(t) - begin_);
        if (rows_ <= 0) continue;  // all ended before, for every member of the group
        row_ = w_.steps_.begin(t) + begin_;
        if constexpr (std::is_same_v<T, A>)
          d_uh_ = w_.to_.d_uh + row_ * stride_;
        else
          d_uh_ = w_.d_uh_ + (t % kStepsKept * w_.B_ + begin_) * stride_;
        if (made_v_) input_products(t);
        embed(p_, size_, rows_, widened(w_.chunk_.h_hat + row_ * S, rows_ * S, h_hat_), z_);
        for (int64_t r = 0; r < rows_; r += kGroup) {
          for_group(std::min<int64_t>(kGroup, rows_ - r), [&](auto rows) { main<rows>(r); });
        }
        member_.meet();
        const Range all{0, rows_}, own = member_.part(rows_);
        A* const dh_hat = w_.carried_.h_hat + begin_ * S;
        for (int64_t r = own.begin; r < own.end; ++r) embedding_gradient(r);
        product(own, dz_, 12 * Z, p_.z_weight_t, 12 * Z, S, {0, panels<A>(S, false)}, dh_hat, true);
        for (int64_t r = own.begin; r < own.end; ++r) hyper(r);
        const uint32_t arrived = member_.arrive();
        add_to_dh(d_uh_, 4 * H, p_.weight_h_t, w_.stored_.weight_h, false);  // needs no da
        member_.wait(arrived);
        add_to_dh(d_uh_ + 4 * H, 4 * S, p_.hyper_weight_h_t, w_.stored_.hyper_weight_h, true);
        if (dh_) copy_dh();
        const Range of_S = member_.part(panels<A>(S, false));
        product(all, d_uh_ + 4 * H, stride_, p_.hyper_weight_s_t, 4 * S, S, of_S, dh_hat, false);
      }
    }

   private:
    static constexpr int64_t kBlock = 8 * kLanes<A>;

    // Writes some rows and some panels of columns of to [rows, N] = left [rows, K] times packed, or adds them to it.
    void product(
        Range rows, const A* left, int64_t left_stride, const A* packed, int64_t K, int64_t N, Range panels, A* to,
        bool add) {
      constexpr int64_t P = kPanel<A>;
      for (int64_t p = panels.begin; p < panels.end; ++p) {
        for (int64_t first = rows.begin; first < rows.end; first += kRowBlock) {
          const int64_t n = std::min(kRowBlock, rows.end - first), columns = std::min(P, N - p * P);
          const Left<A> rows_of_left{left + first * left_stride, left_stride};
          multiply_columns<A>(n, columns, rows_of_left, packed + p * K * P, K, {to + first * N + p * P, N, add}, tile_);
        }
      }
    }

    // Lets v_ be v = weight_x x of this thread's units at step t, which the forward sweep did not leave. It is made for
    // one step or, where rows are few, for a block of steps: that much fits the cache, where the pass over it finds it.
    void input_products(int64_t t) {
      const int64_t H = size_.H, I = size_.I;
      if (inputs_.enter(t, begin_, rows_, true)) {
        const Range own{panels_.begin * kGates, std::min(panels_.end * kGates, panels<A>(H, true))};
        gate_products(
            p_.weight_x, static_cast<const T*>(nullptr), own, H, I, inputs_.tokens(), inputs_.x(), made_v_, v_stride_,
            tile_);
      }
      v_ = made_v_ + inputs_.place(t) * v_stride_;
    }

    // Writes this thread's units of dh = d [rows, K] times a weight [K, H], packed or as it is stored, or adds them. Of
    // a stored one they are sums of this thread's own, dh_, until they are complete: at the border of two threads'
    // units, both would write one cache line over and over.
    void add_to_dh(const A* d, int64_t K, const A* packed, const T* stored, bool add) {
      const int64_t H = size_.H;
      if (!stored) return product({0, rows_}, d, stride_, packed, K, H, panels_, w_.carried_.h + begin_ * H, add);
      for_group(
          rows_, [&](auto rows) { multiply_back<rows>(units(), {d, stride_}, stored, K, H, {dh_, dh_stride_, add}); });
    }

    void copy_dh() {
      const Range own = units();
      for (int64_t r = 0; r < rows_; ++r) {
        std::copy_n(dh_ + r * dh_stride_, own.end - own.begin, w_.carried_.h + (begin_ + r) * size_.H + own.begin);
      }
    }

    // Those of the main LSTM that are this thread's.
    Range units() const { return {panels_.begin * kPanel<A>, std::min(panels_.end * kPanel<A>, size_.H)}; }

    // A block of units: what the passes over it hand to each other stays in the L1 cache.
    struct Block {
      int64_t begin, units;  // from unit `begin` on, a multiple of the lanes
    };

    // Calls body with each block of this thread's units.
    template <class Body>
    void for_unit_blocks(const Body& body) {
      const auto [begin, end] = units();
      for (int64_t j = begin; j < end; j += kBlock) body(Block{j, std::min(kBlock, end - j)});
    }

    // Goes back through the main LSTM's cell and the scales d of R rows: writes du, dv and this thread's part of dz,
    // and sums dy. dc becomes the gradient of the cell before the step.
    template <int R>
    void main(int64_t first) {
      const auto [H, S, Z, I] = size_;
      const int64_t wide = padded<A>(H);
      A* const y = p_.norms ? y_ + first / kGroup % kArgumentsKept * kGroup * kGates * wide : nullptr;
      const A* z = z_ + first * z_stride_;
      if (p_.norms) {
        for_unit_blocks([&](Block block) {
          scales<R>(block, z);
          for (int64_t r = 0; r < R; ++r) arguments(block, first + r, r, y + r * 4 * wide + block.begin, wide);
        });
        member_.meet();
        const Range own = member_.part(R);
        for (int64_t r = own.begin; r < own.end; ++r) {
          const int64_t at = (row_ + first + r) * H, row = (begin_ + first + r) * H;
          normed_cell_gradient(
              y + r * 4 * wide, p_.norms, sums_.norms, w_.chunk_.mask.from(at), w_.chunk_.c_before + at,
              w_.chunk_.c + at, w_.carried_.h + row, w_.carried_.c + row, H, normed_);
        }
        member_.meet();
      }
      std::fill_n(embedded_, R * 12 * Z * kLanes<A>, A(0));
      const bool have_scales = p_.norms && (panels_.end - panels_.begin) * kPanel<A> <= kBlock;  // of the only block
      for_unit_blocks([&](Block block) {
        if (!have_scales) scales<R>(block, z);
        for (int64_t r = 0; r < R; ++r) {
          if (p_.norms) {
            deltas(block, first + r, r, y + r * 4 * wide + block.begin, wide);
          } else {
            whole_cell(block, first + r, r);
          }
        }
        embedding<R>(block);
        sum_scales<R>(block, z);
      });
      A* const part = dz_part(member_.rank, first);
      for (int64_t i = 0; i < R * 12 * Z; ++i) part[i] = sum_of_lanes(Vec<A>::loadu(embedded_ + i * kLanes<A>));
    }

    // What the members' units add to dz, [3, 4, Z] a row.
    A* dz_part(int64_t rank, int64_t r) const { return w_.dz_parts_ + ((rank * w_.B_) + begin_ + r) * 12 * size_.Z; }

    // dz of row r, summed over the members in their order, so that no bit depends on which of them was first.
    void embedding_gradient(int64_t r) {
      const int64_t Z = size_.Z;
      A* const dz = dz_ + r * 12 * Z;
      T* const to = w_.to_.dz + (row_ + r) * 12 * Z;
      std::copy_n(dz_part(0, r), 12 * Z, dz);
      for (int64_t rank = 1; rank < member_.size; ++rank) {
        const A* const part = dz_part(rank, r);
        for (int64_t i = 0; i < 12 * Z; ++i) dz[i] += part[i];
      }
      for (int64_t i = 0; i < 12 * Z; ++i) to[i] = static_cast<T>(dz[i]);
      for (int64_t i = 0; i < 8 * Z; ++i) sums_.z_bias[i] += dz[i];
    }

    // scale_ [R, 3, 4, block] = d_h, d_x and d_b.
    template <int R>
    void scales(Block block, const A* z) {
      constexpr int64_t V = kLanes<A>;
      const int64_t Z = size_.Z;
      for (int64_t j = 0; j < block.units; j += V) {
        scale_rows<A, R>(p_.scales + (block.begin + j) * 12 * Z, Z, z, z_stride_, [&](int64_t k, const auto& d) {
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
#pragma GCC unroll 3
            for (int s = 0; s < 3; ++s) d[r][s].store(scale_ + ((r * 3 + s) * kGates + k) * kBlock + j);
          }
        });
      }
    }

    // A block of row r, which is number i of its group.
    using Row = ScaledRow<T, kBlock>;
    Row row_of(Block block, int64_t r, int64_t i) const {
      const int64_t H = size_.H, at = row_ + r, begin = block.begin;
      A* const wide_du = std::is_same_v<T, A> ? nullptr : d_uh_ + r * stride_ + begin;
      return {
          H,
          w_.chunk_.residuals.u(at) + begin,
          (made_v_ ? v_ + r * v_stride_ : w_.chunk_.residuals.v(at, size_)) + begin,
          p_.bias + begin,
          scale_ + i * 12 * kBlock,
          w_.to_.d_uh + at * stride_ + begin,
          w_.to_.dv + at * 4 * H + begin,
          wide_du};
    }

    // Writes the gates' arguments, y [4, y_stride]. Adds d_out to dh, too.
    void arguments(Block block, int64_t r, int64_t i, A* y, int64_t y_stride) {
      constexpr int64_t V = kLanes<A>;
      const Row row = row_of(block, r, i);
      const T* const d_out = w_.chunk_.d_out + (row_ + r) * size_.H + block.begin;
      A* const dh = w_.carried_.h + (begin_ + r) * size_.H + block.begin;
      for (int64_t j = 0; j < block.units; j += V) {
        const int64_t m = std::min(V, block.units - j);
        store(dh + j, load(dh + j, m) + load(d_out + j, m), m);
        for (int64_t k = 0; k < kGates; ++k) row.argument(k, j, m).store(y + k * y_stride + j);
      }
    }

    // Passes on dy [4, dy_stride], the gradient of y.
    void deltas(Block block, int64_t r, int64_t i, const A* dy, int64_t dy_stride) {
      constexpr int64_t V = kLanes<A>;
      const Row row = row_of(block, r, i);
      for (int64_t j = 0; j < block.units; j += V) {
        const int64_t m = std::min(V, block.units - j);
        for (int64_t k = 0; k < kGates; ++k) row.delta(Vec<A>::loadu(dy + k * dy_stride + j), k, j, m);
      }
    }

    // Without norms: both, and the cell between them, unit by unit in registers.
    void whole_cell(Block block, int64_t r, int64_t i) {
      constexpr int64_t V = kLanes<A>;
      const Row row = row_of(block, r, i);
      const int64_t at = (row_ + r) * size_.H + block.begin;
      const Mask<A> mask = w_.chunk_.mask.from(at);
      const A *c_before = w_.chunk_.c_before + at, *c = w_.chunk_.c + at;
      const T* const d_out = w_.chunk_.d_out + at;
      const int64_t carried = (begin_ + r) * size_.H + block.begin;
      const A* const before = w_.carried_.h + carried;
      A* const dc = w_.carried_.c + carried;
      const auto units = [&](int64_t j, int64_t m) C10_ALWAYS_INLINE_ATTRIBUTE {
        const Gates<A> gate = activated<A>([&](int k) __attribute__((always_inline)) { return row.argument(k, j, m); });
        const Vec<A> dh = load(before + j, m) + load(d_out + j, m);
        const GateGradients<A> d = gate_gradients(gate, mask, c_before, c, dh, dc, j, m);
        row.delta(d.i, 0, j, m);
        row.delta(d.f, 1, j, m);
        row.delta(d.g, 2, j, m);
        row.delta(d.o, 3, j, m);
      };
      const int64_t whole = block.units / V * V;
      for (int64_t j = 0; j < whole; j += V) units(j, V);
      if (whole < block.units) units(whole, block.units - whole);
    }

    // embedded_ [R, 12 Z, lanes] += d_weight^T times what `deltas` left in scale_, lane by lane.
    template <int R>
    void embedding(Block block) {
      const int64_t Z = size_.Z;
      for (int64_t sk = 0; sk < 12; ++sk) {
        int64_t n = 0;
        for (; n + 4 <= Z; n += 4) embedding_columns<R, 4>(block, sk, n);
        for (; n < Z; ++n) embedding_columns<R, 1>(block, sk, n);
      }
    }

    template <int R, int C>
    void embedding_columns(Block block, int64_t sk, int64_t n) {
      constexpr int64_t V = kLanes<A>;
      const int64_t Z = size_.Z;
      const A* w = p_.scales + block.begin * 12 * Z + ((sk % 4) * Z + n) * 3 * V + sk / 4 * V;
      const A* d = scale_ + sk * kBlock;
      A* to = embedded_ + (sk * Z + n) * V;
      Vec<A> sum[R][C];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sum[r][c] = Vec<A>::loadu(to + (r * 12 * Z + c) * V);
      }
      for (int64_t j = 0; j < block.units; j += V, w += 12 * Z * V) {
        Vec<A> x[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) x[r] = Vec<A>::loadu(d + r * 12 * kBlock + j);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
          const Vec<A> weight = Vec<A>::loadu(w + c * 3 * V);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) sum[r][c] = at::vec::fmadd(x[r], weight, sum[r][c]);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sum[r][c].store(to + (r * 12 * Z + c) * V);
      }
    }

    // Adds R rows to the gradients of d_weight and bias.
    template <int R>
    void sum_scales(Block block, const A* z) {
      constexpr int64_t V = kLanes<A>;
      const int64_t Z = size_.Z;
      for (int64_t j = 0; j < block.units; j += V) {
        for (int64_t sk = 0; sk < 12; ++sk) {
          Vec<A> d[R];
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) d[r] = Vec<A>::loadu(scale_ + (r * 12 + sk) * kBlock + j);
          A* sum = sums_.scales + (block.begin + j) * 12 * Z + ((sk % 4) * Z * 3 + sk / 4) * V;
          for (int64_t i = 0; i < Z; ++i, sum += 3 * V) {
            Vec<A> total = Vec<A>::loadu(sum);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) total = at::vec::fmadd(d[r], Vec<A>(z[r * z_stride_ + sk * Z + i]), total);
            total.store(sum);
          }
          if (sk < 8) continue;
          A* bias = sums_.bias + (sk - 8) * padded<A>(size_.H) + block.begin + j;
          Vec<A> total = Vec<A>::loadu(bias);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) total = total + d[r];
          total.store(bias);
        }
      }
    }

    // Goes back through the hyper LSTM's cell of one row: writes da. dc_hat becomes the gradient of the cell before the
    // step.
    void hyper(int64_t r) {
      constexpr int64_t V = kLanes<A>;
      const int64_t H = size_.H, S = size_.S, wide = padded<A>(S), at = row_ + r, row = begin_ + r;
      const T* kept = w_.chunk_.residuals.a(at, size_);
      for (int64_t k = 0; k < kGates; ++k) {
        for (int64_t j = 0; j < S; j += V) load(kept + k * S + j, std::min(V, S - j)).store(a_ + k * wide + j);
      }
      const A *before = w_.chunk_.c_hat_before + at * S, *after = w_.chunk_.c_hat + at * S;
      A *dh = w_.carried_.h_hat + row * S, *dc = w_.carried_.c_hat + row * S;
      if (p_.hyper_norms) {
        normed_cell_gradient<A>(a_, p_.hyper_norms, sums_.hyper_norms, {}, before, after, dh, dc, S, normed_);
      } else {
        cell_gradient<A>(a_, wide, {}, before, after, dh, dc, S);
      }
      T* da = w_.to_.d_uh + at * stride_ + 4 * H;
      for (int64_t k = 0; k < kGates; ++k) {
        for (int64_t j = 0; j < S; j += V) {
          const int64_t m = std::min(V, S - j);
          const Vec<A> d = Vec<A>::loadu(a_ + k * wide + j);
          A* bias = sums_.hyper_bias + k * wide + j;
          (Vec<A>::loadu(bias) + d).store(bias);
          store(da + k * S + j, d, m);
          if constexpr (!std::is_same_v<T, A>) store(d_uh_ + r * stride_ + 4 * H + k * S + j, d, m);
        }
      }
    }

    const BackwardSweep& w_;
    const Packed<A>& p_ = w_.p_;
    const Sizes size_ = w_.size_;
    const Member member_;
    const int64_t begin_, most_;
    int64_t rows_ = most_;                                          // of the group, those still going at this step
    const Range panels_ = member_.part(panels<A>(size_.H, false));  // of the main LSTM's units
    const int64_t dh_stride_ = (panels_.end - panels_.begin) * kPanel<A>;
    const Sums<A> sums_;
    const int64_t stride_ = 4 * size_.H + 4 * size_.S, z_stride_ = z_stride<A>(size_.Z);
    // A line further apart than needed: rows that are a multiple of a page apart share a few lines of the L1 cache.
    const int64_t v_stride_ = 4 * size_.H + kLine<T>;
    int64_t row_ = 0;  // the token of the group's first row
    Scratch scratch_;
    A *tile_, *scale_, *embedded_, *a_, *z_, *dz_, *d_uh_ = nullptr, *h_hat_ = nullptr, *dh_ = nullptr, *y_ = nullptr,
                                                   *normed_ = nullptr;
    Inputs<T> inputs_{w_.steps_, w_.chunk_.x, size_.I, most_};
    T *made_v_ = nullptr, *v_ = nullptr;  // of the block of inputs_, and of this step
  };

  const Packed<A>& p_;
  const Stored<T>& stored_;
  const Sizes size_;
  const Steps steps_;
  const int64_t B_;
  const ChunkArrays<T> chunk_;
  const DeltaArrays<T> to_;
  const Carried<A> carried_;
  A* dz_parts_ = nullptr;  // [threads, B, 3, 4, Z]
  A* y_ = nullptr;         // [groups, kArgumentsKept, kGroup, 4, padded H]
  A* d_uh_ = nullptr;      // du and da in the accumulation type, [kStepsKept, B, 4H + 4S]
};

}  // namespace hyperlstm
