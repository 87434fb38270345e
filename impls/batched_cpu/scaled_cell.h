// The backward pass of the main LSTM's cell and of the scales d, for up to kGroup rows at a time.
#pragma once

#include "normed_cell.h"
#include "parameter_sums.h"
#include "phases.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// The gates of a block of units of a row from u, v and their scales, and back. Arrays of gate k begin k H numbers
// further on, those of the scales k kBlock; units are counted from the block's first.
template <class T, int64_t kBlock, class A = Acc<T>>
struct ScaledRow {
  int64_t H;
  const T *u, *v;
  const A* bias;  // gates padded H apart
  A* scale;       // d_h, d_x and d_b [3, 4, kBlock]; then their gradients
  T *du, *dv;
  Factor<T>* wide_du;  // du as factors, if T must be converted

  // y = d_h u + d_x v + d_b + bias of vector j, of m units, of gate k.
  ALWAYS_INLINE Vec<A> argument(int64_t k, int64_t j, int64_t m) const {
    const Vec<A> shift = d(2, k, j) + Vec<A>::loadu(bias + k * padded<A>(H) + j);
    return fmadd(d(0, k, j), load(u + k * H + j, m), fmadd(d(1, k, j), load(v + k * H + j, m), shift));
  }

  // From dy and the scales: writes du and dv, and in place of the scales their gradients dy u, dy v and dy.
  ALWAYS_INLINE void delta(
      const Vec<A>& dy, const Vec<A>& d_h, const Vec<A>& d_x, int64_t k, int64_t j, int64_t m) const {
    const int64_t at = k * H + j;
    const Vec<A> d_u = dy * d_h, d_v = dy * d_x, d_dh = dy * load(u + at, m), d_dx = dy * load(v + at, m);
    store(du + at, d_u, m);
    if constexpr (kWidens<T>) store(wide_du + at, d_u, m);
    store(dv + at, d_v, m);
    d_dh.store(place(0, k, j));
    d_dx.store(place(1, k, j));
    dy.store(place(2, k, j));
  }

  ALWAYS_INLINE A* place(int64_t s, int64_t k, int64_t j) const { return scale + (s * kGates + k) * kBlock + j; }
  ALWAYS_INLINE Vec<A> d(int64_t s, int64_t k, int64_t j) const { return Vec<A>::loadu(place(s, k, j)); }
};

template <class T, class A = Acc<T>>
class ScaledCell {
 public:
  // Arrays of a few rows, [rows, *]; pointers are to the first row.
  struct Rows {
    const T* u;
    int64_t u_stride;
    const T* v;
    int64_t v_stride;
    const A* z;            // z_stride apart
    CellBackward<A> cell;  // dh is the gradient from later steps
    const T* d_out;
    // Written; wide_du: du as factors, if T must be converted.
    T* du;
    Factor<T>* wide_du;
    int64_t du_stride;
    T* dv;
  };

  // units: of this member, from a multiple of the lanes on.
  ScaledCell(const Panels<T>& p, const Member& member, Range units, const Sums<A>& sums)
      : p_(p), size_(p.size), member_(member), units_(units), sums_(sums) {
    if (p.norms) {
      tanh_c_ = scratch_.zeros<A>(kGroup * padded<A>(size_.H));
      if (!std::is_same_v<T, A>) wide_scales_ = scratch_.empty<A>(kGroup * 2 * kGates * size_.H);
    }
    scale_ = scratch_.zeros<A>(kGroup * 12 * kBlock);
    dz_lanes_ = scratch_.zeros<A>(kGroup * 12 * size_.Z * kLanes<A>);
  }

  // Writes du, dv and what this member's units add to dz, dz_part [R, 3, 4, Z], of R rows, and sums dy. normed: of
  // these rows, shared by the members, with norms.
  template <int R>
  void run(const Rows& rows, const NormedRows<A>& normed, A* dz_part) {
    if (p_.norms) gate_gradients_of_rows<R>(rows, normed);
    const int64_t n = R * 12 * size_.Z;
    std::fill_n(dz_lanes_, n * kLanes<A>, A(0));
    for (int64_t j = units_.begin; j < units_.end; j += kBlock) {
      const Block block{j, std::min(kBlock, units_.end - j)};
      if (p_.norms) {
        normed_deltas<R>(block, rows, normed);
      } else {
        scales<R>(block, rows.z);
        for (int64_t r = 0; r < R; ++r) whole_cell(block, rows, r);
      }
      embedding<R>(block);
      sum_scales<R>(block, rows.z);
    }
    for (int64_t i = 0; i < n; ++i) dz_part[i] = sum_of_lanes(Vec<A>::loadu(dz_lanes_ + i * kLanes<A>));
  }

 private:
  // Units of a block: what its passes hand over stays in the L1 cache.
  static constexpr int64_t kBlock = 8 * kLanes<A>;
  struct Block {
    int64_t begin, units;  // from unit `begin` on, a multiple of the lanes
  };

  // With norms: writes `normed`. A norm needs whole rows, so the members divide the rows.
  template <int R>
  void gate_gradients_of_rows(const Rows& rows, const NormedRows<A>& normed) {
    const int64_t H = size_.H;
    arguments<R>(rows, normed.y);
    member_.sync();
    const auto [begin, end] = member_.part(R);
    normed_cells_backward(
        normed.from(begin, H), end - begin, p_.norms, sums_.norms, rows.cell.from(begin * H), H, tanh_c_);
    member_.sync();
  }

  // scale_ [R, 3, 4, block] = d_h, d_x and d_b.
  template <int R>
  void scales(Block block, const A* z) {
    constexpr int64_t V = kLanes<A>;
    const int64_t Z = size_.Z;
    for (int64_t j = 0; j < block.units; j += V) {
      scale_rows<A, R>(p_.scales + (block.begin + j) * 12 * Z, Z, z, z_stride_, [&](int64_t k, const auto& d) {
        UNROLL for (int r = 0; r < R; ++r) {
          UNROLL for (int s = 0; s < 3; ++s) d[r][s].store(scale_ + ((r * 3 + s) * kGates + k) * kBlock + j);
        }
      });
    }
  }

  using Row = ScaledRow<T, kBlock>;
  Row row_of(Block block, const Rows& rows, int64_t r) const {
    const int64_t H = size_.H, begin = block.begin;
    Factor<T>* const wide_du = kWidens<T> ? rows.wide_du + r * rows.du_stride + begin : nullptr;
    return {
        .H = H,
        .u = rows.u + r * rows.u_stride + begin,
        .v = rows.v + r * rows.v_stride + begin,
        .bias = p_.bias + begin,
        .scale = scale_ + r * 12 * kBlock,
        .du = rows.du + r * rows.du_stride + begin,
        .dv = rows.dv + r * 4 * H + begin,
        .wide_du = wide_du};
  }

  // With norms: writes the arguments of the gates to y, and d_h and d_x to `scales_at`. Adds d_out to dh, too.
  template <int R>
  void arguments(const Rows& rows, A* y) {
    constexpr int64_t V = kLanes<A>;
    const int64_t H = size_.H, Z = size_.Z, wide = padded<A>(H);
    for (int64_t j = units_.begin; j < units_.end; j += V) {
      const int64_t m = std::min(V, units_.end - j);
      for (int64_t r = 0; r < R; ++r) {
        A* const dh = rows.cell.dh + r * H + j;
        store(dh, load(dh, m) + load(rows.d_out + r * H + j, m), m);
      }
      scale_rows<A, R>(p_.scales + j * 12 * Z, Z, rows.z, z_stride_, [&](int64_t k, const auto& d) {
        const Vec<A> bias = Vec<A>::loadu(p_.bias + k * wide + j);
        UNROLL for (int r = 0; r < R; ++r) {
          const Vec<A> u = load(rows.u + r * rows.u_stride + k * H + j, m);
          const Vec<A> v = load(rows.v + r * rows.v_stride + k * H + j, m);
          const Vec<A> shift = fmadd(d[r][1], v, d[r][2] + bias);
          fmadd(d[r][0], u, shift).store(y + (r * kGates + k) * wide + j);
          const auto [h, x] = scales_at(rows, r);
          store(h + k * H + j, d[r][0], m);
          store(x + k * H + j, d[r][1], m);
        }
      });
    }
  }

  // With norms, where d_h and d_x [4, H] of a row are between the passes: in place of du and dv, if these have the
  // accumulation type.
  std::pair<A*, A*> scales_at(const Rows& rows, int64_t r) const {
    if constexpr (std::is_same_v<T, A>) {
      return {rows.du + r * rows.du_stride, rows.dv + r * kGates * size_.H};
    } else {
      A* const scales = wide_scales_ + r * 2 * kGates * size_.H;
      return {scales, scales + kGates * size_.H};
    }
  }

  // With norms: passes on dy, the gradient of y.
  template <int R>
  void normed_deltas(Block block, const Rows& rows, const NormedRows<A>& normed) {
    constexpr int64_t V = kLanes<A>;
    std::array<Row, R> to;
    for (int64_t r = 0; r < R; ++r) to[r] = row_of(block, rows, r);
    for (int64_t j = 0; j < block.units; j += V) {
      const int64_t m = std::min(V, block.units - j), unit = block.begin + j;
      for (int64_t k = 0; k < kGates; ++k) {
        const auto pass = [&](int64_t r, const Vec<A>& dy) ALWAYS_INLINE_LAMBDA {
          const auto [h, x] = scales_at(rows, r);
          to[r].delta(dy, load(h + k * size_.H + unit, m), load(x + k * size_.H + unit, m), k, j, m);
        };
        for_gate_gradients<R>(normed, R, p_.norms, sums_.norms, size_.H, k, unit, m, pass);
      }
    }
  }

  // Without norms: the arguments of the gates, the cell and the deltas, in registers.
  void whole_cell(Block block, const Rows& rows, int64_t r) {
    const Row row = row_of(block, rows, r);
    const int64_t at = r * size_.H + block.begin;
    const CellBackward<A> cell = rows.cell.from(at);
    const T* const d_out = rows.d_out + at;
    for_vectors<A>(block.units, [&](int64_t j, int64_t m) ALWAYS_INLINE_LAMBDA {
      const Gates<A> gate = activated<A>([&](int k) __attribute__((always_inline)) { return row.argument(k, j, m); });
      const Vec<A> dh = load(cell.dh + j, m) + load(d_out + j, m);
      const Gates<A> d = cell_gradient(gate, cell, dh, j, m);
      const std::array<Vec<A>, kGates> all{d.i, d.f, d.g, d.o};
      UNROLL for (int k = 0; k < kGates; ++k) row.delta(all[k], row.d(0, k, j), row.d(1, k, j), k, j, m);
    });
  }

  // dz_lanes_ [R, 12 Z, lanes] += d_weight^T times the gradients of the scales in scale_, lane by lane.
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
    A* to = dz_lanes_ + (sk * Z + n) * V;
    Vec<A> sum[R][C];
    UNROLL for (int r = 0; r < R; ++r) {
      UNROLL for (int c = 0; c < C; ++c) sum[r][c] = Vec<A>::loadu(to + (r * 12 * Z + c) * V);
    }
    for (int64_t j = 0; j < block.units; j += V, w += 12 * Z * V) {
      Vec<A> x[R];
      UNROLL for (int r = 0; r < R; ++r) x[r] = Vec<A>::loadu(d + r * 12 * kBlock + j);
      UNROLL for (int c = 0; c < C; ++c) {
        const Vec<A> weight = Vec<A>::loadu(w + c * 3 * V);
        UNROLL for (int r = 0; r < R; ++r) sum[r][c] = fmadd(x[r], weight, sum[r][c]);
      }
    }
    UNROLL for (int r = 0; r < R; ++r) {
      UNROLL for (int c = 0; c < C; ++c) sum[r][c].store(to + (r * 12 * Z + c) * V);
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
        UNROLL for (int r = 0; r < R; ++r) d[r] = Vec<A>::loadu(scale_ + (r * 12 + sk) * kBlock + j);
        A* sum = sums_.scales + (block.begin + j) * 12 * Z + ((sk % 4) * Z * 3 + sk / 4) * V;
        for (int64_t i = 0; i < Z; ++i, sum += 3 * V) {
          Vec<A> total = Vec<A>::loadu(sum);
          UNROLL for (int r = 0; r < R; ++r) total = fmadd(d[r], Vec<A>(z[r * z_stride_ + sk * Z + i]), total);
          total.store(sum);
        }
        if (sk < 8) continue;
        A* bias = sums_.bias + (sk - 8) * padded<A>(size_.H) + block.begin + j;
        Vec<A> total = Vec<A>::loadu(bias);
        UNROLL for (int r = 0; r < R; ++r) total = total + d[r];
        total.store(bias);
      }
    }
  }

  const Panels<T>& p_;
  const Sizes size_;
  const Member member_;
  const Range units_;
  const Sums<A> sums_;
  const int64_t z_stride_ = z_stride<A>(size_.Z);
  Scratch scratch_;
  A *scale_, *dz_lanes_, *tanh_c_ = nullptr,
                         *wide_scales_ = nullptr;  // [kGroup, 2, 4, H]
};

}  // namespace hyperlstm::inline HYPERLSTM_SET
