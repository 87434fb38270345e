// The steps of a chunk backwards (design: gradients by hand).
#pragma once

#include "layer.h"
#include "scratch.h"

namespace hyperlstm {

// What the chunk's steps were, [K, B, *] each.
template <class T, class A = Acc<T>>
struct ChunkArrays {
  const T *vx, *uh;  // [.., 4H + 4S]
  const T* a;        // [.., 4S], the hyper LSTM's gates before the norm
  const T* z;        // [.., 12Z]
  const A *c_before, *c, *c_hat_before, *c_hat;
  const T* d_out;
};

template <class T>
struct DeltaArrays {
  T *rec, *inp, *y, *z;
};

// Gradients of the state, [B, *] each: of that after the chunk on entry, of that before it on return.
template <class A>
struct Carried {
  A *h, *c, *h_hat, *c_hat;
};

template <class T, class A = Acc<T>>
class BackwardSweep {
 public:
  BackwardSweep(const Packed<A>& p, Sizes size, int64_t K, int64_t B, ChunkArrays<T> chunk, DeltaArrays<T> to, Carried<A> carried)
      : p_(p), size_(size), K_(K), B_(B), chunk_(chunk), to_(to), carried_(carried) {}

  // Adds the gradients of the norms to d_norms [norm_numbers], if there are norms.
  void run(A* d_norms) const {
    const int64_t shares = row_shares(B_), numbers = norm_numbers(size_);
    Scratch scratch;
    A* parts = p_.norms ? scratch.zeros<A>(shares * numbers) : nullptr;
    for_row_shares(shares, B_, [&](int64_t i, int64_t begin, int64_t end) {
      Share(*this, begin, end, p_.norms ? parts + i * numbers : nullptr).run();
    });
    if (p_.norms) {
      for (int64_t i = 0; i < shares * numbers; ++i) d_norms[i % numbers] += parts[i];
    }
  }

  // Of both cells' norms, padded: gates' weight and bias [4, F], cell's weight and bias [F].
  static int64_t norm_numbers(Sizes size) { return 10 * (padded<A>(size.H) + padded<A>(size.S)); }

 private:
  class Share {
   public:
    Share(const BackwardSweep& sweep, int64_t begin, int64_t end, A* d_norms)
        : w_(sweep), begin_(begin), rows_(end - begin) {
      const auto [H, S, Z] = size_;
      if (d_norms != nullptr) {
        d_norms_ = norms_at(d_norms, padded<A>(H));
        d_hyper_norms_ = norms_at(d_norms + 10 * padded<A>(H), padded<A>(S));
        normed_ = scratch_.zeros<A>(5 * padded<A>(std::max(H, S)));
      }
      tile_ = scratch_.zeros<A>(kRowBlock * kPanel<A>);
      scale_ = scratch_.zeros<A>(kGroup * 12 * padded<A>(H));
      y_ = scratch_.zeros<A>(kGroup * 4 * padded<A>(std::max(H, S)));
      z_ = scratch_.zeros<A>(kGroup * 12 * Z);
      dz_ = scratch_.zeros<A>(rows_ * 12 * Z);
      if (!std::is_same_v<T, A>) rec_ = scratch_.zeros<A>(rows_ * stride_);
    }

    void run() {
      const auto [H, S, Z] = size_;
      for (int64_t t = w_.K_ - 1; t >= 0; --t) {
        row_ = t * w_.B_ + begin_;
        if constexpr (std::is_same_v<T, A>) rec_ = w_.to_.rec + row_ * stride_;
        for (int64_t r = 0; r < rows_; r += kGroup) main(r, std::min<int64_t>(kGroup, rows_ - r));
        A *dh = w_.carried_.h + begin_ * H, *dh_hat = w_.carried_.h_hat + begin_ * S;
        product(dz_, 12 * Z, p_.z_weight_t, 12 * Z, S, dh_hat, true);
        for (int64_t r = 0; r < rows_; ++r) hyper(r);
        product(rec_, stride_, p_.weight_h_t, 4 * H, H, dh, false);
        product(rec_ + 4 * H, stride_, p_.hyper_weight_h_t, 4 * S, H, dh, true);
        product(rec_ + 4 * H, stride_, p_.hyper_weight_s_t, 4 * S, S, dh_hat, false);
      }
    }

   private:
    static Norms<A> norms_at(A* first, int64_t stride) {
      return {first, first + 4 * stride, first + 8 * stride, first + 9 * stride};
    }

    // to [rows, N] = left [rows, K] times panels of N columns, or that added to it.
    void product(const A* left, int64_t left_stride, const A* packed, int64_t K, int64_t N, A* to, bool add) {
      constexpr int64_t V = kLanes<A>, P = kPanel<A>;
      for (int64_t p = 0; p < panels<A>(N, false); ++p) {
        for (int64_t first = 0; first < rows_; first += kRowBlock) {
          const int64_t n = std::min(kRowBlock, rows_ - first), columns = std::min(P, N - p * P);
          std::fill_n(tile_, n * P, A(0));
          multiply(n, left + first * left_stride, left_stride, packed + p * K * P, K, tile_);
          for (int64_t r = 0; r < n; ++r) {
            A* row = to + (first + r) * N + p * P;
            for (int64_t j = 0; j < columns; j += V) {
              const int64_t m = std::min(V, columns - j);
              const Vec<A> sum = Vec<A>::loadu(tile_ + r * P + j);
              store(row + j, add ? sum + load(row + j, m) : sum, m);
            }
          }
        }
      }
    }

    // The main LSTM's cell, d and z of n rows: writes du, dv, dy, dz; dc becomes that of the step before.
    void main(int64_t first, int64_t n) {
      constexpr int64_t V = kLanes<A>;
      const auto [H, S, Z] = size_;
      const int64_t wide = padded<A>(H);
      const A* z = widened(w_.chunk_.z + (row_ + first) * 12 * Z, n * 12 * Z, z_);
      for (int64_t p = 0; p < panels<A>(H, true); ++p) {
        scales(n, p_.scales + p * 12 * Z * V, Z, z, 12 * Z, scale_ + p * V, 12 * wide, 4 * wide, wide);
      }
      for (int64_t r = 0; r < n; ++r) main_row(first + r, scale_ + r * 12 * wide, y_ + r * 4 * wide);
      embedding(n, dz_ + first * 12 * Z);
      T* to = w_.to_.z + (row_ + first) * 12 * Z;
      for (int64_t i = 0; i < n * 12 * Z; ++i) to[i] = static_cast<T>(dz_[first * 12 * Z + i]);
    }

    // One row: scale [3, 4, H] becomes the gradient of the d, dy u, dy v and dy.
    void main_row(int64_t r, A* scale, A* y) {
      constexpr int64_t V = kLanes<A>;
      const int64_t H = size_.H, wide = padded<A>(H), at = row_ + r;
      const T *u = w_.chunk_.uh + at * stride_, *v = w_.chunk_.vx + at * stride_;
      A *d_h = scale, *d_x = scale + 4 * wide, *d_b = scale + 8 * wide;
      A *dh = w_.carried_.h + (begin_ + r) * H, *dc = w_.carried_.c + (begin_ + r) * H;
      for (int64_t j = 0; j < H; j += V) {
        const int64_t m = std::min(V, H - j);
        store(dh + j, load(dh + j, m) + load(w_.chunk_.d_out + at * H + j, m), m);
        for (int64_t k = 0; k < kGates; ++k) {
          const int64_t i = k * wide + j;
          Vec<A> sum = Vec<A>::loadu(d_b + i) + Vec<A>::loadu(p_.bias + i);
          sum = at::vec::fmadd(Vec<A>::loadu(d_x + i), load(v + k * H + j, m), sum);
          at::vec::fmadd(Vec<A>::loadu(d_h + i), load(u + k * H + j, m), sum).store(y + i);
        }
      }
      gradient(y, p_.norms, d_norms_, w_.chunk_.c_before + at * H, w_.chunk_.c + at * H, dh, dc, H);
      T *du = w_.to_.rec + at * stride_, *dv = w_.to_.inp + at * 4 * H, *dy = w_.to_.y + at * 4 * H;
      for (int64_t k = 0; k < kGates; ++k) {
        for (int64_t j = 0; j < H; j += V) {
          const int64_t m = std::min(V, H - j), i = k * wide + j, o = k * H + j;
          const Vec<A> d = Vec<A>::loadu(y + i), d_u = d * Vec<A>::loadu(d_h + i);
          store(du + o, d_u, m);
          if constexpr (!std::is_same_v<T, A>) store(rec_ + r * stride_ + o, d_u, m);
          store(dv + o, d * Vec<A>::loadu(d_x + i), m);
          store(dy + o, d, m);
          (d * load(u + o, m)).store(d_h + i);
          (d * load(v + o, m)).store(d_x + i);
          d.store(d_b + i);
        }
      }
    }

    void gradient(A* y, const Norms<A>& norms, const Norms<A>& d_norms, const A* c_before, const A* c, const A* dh, A* dc, int64_t F) {
      if (norms) normed_cell_gradient(y, norms, d_norms, c_before, c, dh, dc, F, normed_);
      else cell_gradient(y, c_before, c, dh, dc, F);
    }

    // dz [n, 12 Z] = d_weight^T times what main_row left in scale_.
    void embedding(int64_t n, A* dz) {
      switch (n) {
        case 4: return embedding_rows<4>(dz);
        case 3: return embedding_rows<3>(dz);
        case 2: return embedding_rows<2>(dz);
        default: return embedding_rows<1>(dz);
      }
    }

    template <int R>
    void embedding_rows(A* dz) {
      const int64_t Z = size_.Z;
      for (int64_t sk = 0; sk < 12; ++sk) {
        int64_t n = 0;
        for (; n + 4 <= Z; n += 4) embedding_columns<R, 4>(sk, n, dz);
        for (; n < Z; ++n) embedding_columns<R, 1>(sk, n, dz);
      }
    }

    template <int R, int C>
    void embedding_columns(int64_t sk, int64_t n, A* dz) {
      constexpr int64_t V = kLanes<A>;
      const int64_t Z = size_.Z, wide = padded<A>(size_.H);
      const A* w = p_.scales + ((sk % 4) * Z + n) * 3 * V + sk / 4 * V;
      const A* d = scale_ + sk * wide;
      Vec<A> sum[R][C];
      for (int64_t j = 0; j < wide; j += V, w += 12 * Z * V) {
        Vec<A> x[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) x[r] = Vec<A>::loadu(d + r * 12 * wide + j);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
          const Vec<A> weight = Vec<A>::loadu(w + c * 3 * V);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) sum[r][c] = at::vec::fmadd(x[r], weight, sum[r][c]);
        }
      }
      for (int r = 0; r < R; ++r) {
        for (int c = 0; c < C; ++c) dz[r * 12 * Z + sk * Z + n + c] = sum_of_lanes(sum[r][c]);
      }
    }

    // The hyper LSTM's cell of one row: writes da; dc_hat becomes that of the step before.
    void hyper(int64_t r) {
      constexpr int64_t V = kLanes<A>;
      const int64_t H = size_.H, S = size_.S, wide = padded<A>(S), at = row_ + r, row = begin_ + r;
      const T* a = w_.chunk_.a + at * 4 * S;
      for (int64_t k = 0; k < kGates; ++k) {
        for (int64_t j = 0; j < S; j += V) load(a + k * S + j, std::min(V, S - j)).store(y_ + k * wide + j);
      }
      gradient(
          y_, p_.hyper_norms, d_hyper_norms_, w_.chunk_.c_hat_before + at * S, w_.chunk_.c_hat + at * S,
          w_.carried_.h_hat + row * S, w_.carried_.c_hat + row * S, S);
      T* da = w_.to_.rec + at * stride_ + 4 * H;
      for (int64_t k = 0; k < kGates; ++k) {
        for (int64_t j = 0; j < S; j += V) {
          const int64_t m = std::min(V, S - j);
          const Vec<A> d = Vec<A>::loadu(y_ + k * wide + j);
          store(da + k * S + j, d, m);
          if constexpr (!std::is_same_v<T, A>) store(rec_ + r * stride_ + 4 * H + k * S + j, d, m);
        }
      }
    }

    const BackwardSweep& w_;
    const Packed<A>& p_ = w_.p_;
    const Sizes size_ = w_.size_;
    const int64_t begin_, rows_;
    const int64_t stride_ = 4 * size_.H + 4 * size_.S;
    int64_t row_ = 0;  // the first of this share's rows in [K, B]
    Scratch scratch_;
    Norms<A> d_norms_, d_hyper_norms_;
    A *tile_, *scale_, *y_, *z_, *dz_, *rec_ = nullptr, *normed_ = nullptr;
  };

  const Packed<A>& p_;
  const Sizes size_;
  const int64_t K_, B_;
  const ChunkArrays<T> chunk_;
  const DeltaArrays<T> to_;
  const Carried<A> carried_;
};

}  // namespace hyperlstm
