// The phases of a step that several sweeps share.
#pragma once

#include "packing.h"
#include "split.h"

namespace hyperlstm::inline HYPERLSTM_SET {

template <class T, class A = Acc<T>>
void embed(const Panels<T>& p, int64_t rows, const Factor<T>* h_hat, A* z) {
  constexpr int64_t P = kPanel<A>;
  const int64_t S = p.size.S, stride = z_stride<A>(p.size.Z);
  for (int64_t column = 0; column < stride; column += P) {
    for (int64_t first = 0; first < rows; first += kRowBlock) {
      const int64_t n = std::min(kRowBlock, rows - first);
      A* const to = z + first * stride + column;
      for (int64_t r = 0; r < n; ++r) std::copy_n(p.z_bias + column, P, to + r * stride);
      multiply(n, {h_hat + first * S, S}, p.z_weight + column / P * panel_numbers<Factor<T>>(S), S, {to, stride, true});
    }
  }
}

// into [rows, 4, lanes] of a weight [4, F, K] times lhs [rows, K], for one panel of units.
template <class T, class A = Acc<T>>
void multiply_gates(
    const Weight<T>& weight, int64_t panel, int64_t rows, const Factor<T>* lhs, int64_t F, int64_t K, Into<A> into) {
  if (!weight.stored) return multiply(rows, {lhs, K}, weight.panels + panel * panel_numbers<Factor<T>>(K), K, into);
  const int64_t unit = panel * kLanes<A>, n = std::min(kLanes<A>, F - unit);
  for (int64_t r = 0; r < rows; r += kFewRows) {
    with_constant<kFewRows>(std::min(kFewRows, rows - r), [&](auto R) {
      multiply_units<R>(weight.stored, F, K, unit, n, lhs + r * K, into.from(r, 0));
    });
  }
  if (into.add || n == kLanes<A>) return;
  for (int64_t r = 0; r < rows; ++r) {  // zero beyond the last unit, as in panels
    for (int64_t k = 0; k < kGates; ++k) std::fill_n(into.from(r, k * kLanes<A> + n).numbers, kLanes<A> - n, A(0));
  }
}

// a [rows, 4, lanes] = hyper_weight_x x + hyper_bias, for one panel of units.
template <class T, class A = Acc<T>>
void start_hyper_gates(const Panels<T>& p, int64_t panel, int64_t rows, const Factor<T>* x, A* a) {
  constexpr int64_t V = kLanes<A>, P = kPanel<A>;
  const int64_t I = p.size.I;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < kGates; ++k) {
      std::copy_n(p.hyper_bias + k * padded<A>(p.size.S) + panel * V, V, a + r * P + k * V);
    }
  }
  multiply(rows, {x, I}, p.hyper_weight_x + panel * panel_numbers<Factor<T>>(I), I, {a, P, true});
}

// a [rows, 4, lanes] += hyper_weight_h h + hyper_weight_s h_hat, for one panel of units.
template <class T, class A = Acc<T>>
void add_to_hyper_gates(
    const Panels<T>& p, int64_t panel, int64_t rows, const Factor<T>* h, const Factor<T>* h_hat, A* a) {
  constexpr int64_t P = kPanel<A>;
  const int64_t H = p.size.H, S = p.size.S;
  multiply_gates(p.hyper_weight_h, panel, rows, h, S, H, {a, P, true});
  multiply(rows, {h_hat, S}, p.hyper_weight_s + panel * panel_numbers<Factor<T>>(S), S, {a, P, true});
}

// Writes a tile [rows, 4, lanes] of units from `unit` on to the gates [4, F] of rows `stride` apart.
template <class T, class A = Acc<T>>
void write_gates(const A* tile, int64_t rows, int64_t F, int64_t unit, T* to, int64_t stride) {
  constexpr int64_t V = kLanes<A>;
  const int64_t m = std::min(V, F - unit);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < kGates; ++k) {
      store(to + r * stride + k * F + unit, Vec<A>::loadu(tile + r * kPanel<A> + k * V), m);
    }
  }
}

// Rows from which on a panel is divided among threads: each of them reads it.
constexpr int64_t kMinRowsToDivide = 2 * kTileRows;

// A member's part of some panels: whole ones and, where parts border within a panel, some of its rows, so that all
// members have the same number of tiles to compute. Few rows are not divided.
struct Part {
  int64_t begin, end, members;  // in units of 1 / members of a panel

  Part(int64_t panels, const Member& member)
      : begin(panels * member.rank), end(panels * (member.rank + 1)), members(member.size) {}

  Range whole() const { return {begin / members, end / members}; }      // with few rows
  Range all() const { return {begin / members, divup(end, members)}; }  // of which there may be rows

  // This member's rows of `rows` rows.
  Range rows(int64_t panel, int64_t rows) const {
    if (rows < kMinRowsToDivide) return {0, panel < whole().end ? rows : 0};
    const auto within = [&](int64_t border) {
      return rows * std::clamp<int64_t>(border - panel * members, 0, members);
    };
    return {within(begin) / members, within(end) / members};
  }
};

// Calls tile(panel, first, rows) for all rows of one panel before the next, so that each panel is read once.
template <class Tile>
void for_tiles(int64_t panel, Range rows, const Tile& tile) {
  for (int64_t r = rows.begin; r < rows.end; r += kRowBlock) tile(panel, r, std::min(kRowBlock, rows.end - r));
}

template <class Tile>
void for_tiles(Range panels, int64_t rows, const Tile& tile) {
  for (int64_t panel = panels.begin; panel < panels.end; ++panel) for_tiles(panel, Range{0, rows}, tile);
}

template <class Tile>
void for_tiles(const Part& part, int64_t rows, const Tile& tile) {
  const auto [begin, end] = part.all();
  for (int64_t panel = begin; panel < end; ++panel) for_tiles(panel, part.rows(panel, rows), tile);
}

// Writes some panels of a weight [4, F, K] times lhs [rows, K] to [4, F] of rows `stride` apart; tile holds kRowBlock
// panels.
template <class T, class A = Acc<T>>
void write_products(
    const Weight<T>& weight, Range panels, int64_t F, int64_t K, int64_t rows, const Factor<T>* lhs, T* to,
    int64_t stride, A* tile) {
  for_tiles(panels, rows, [&](int64_t panel, int64_t r, int64_t n) {
    multiply_gates(weight, panel, n, lhs + r * K, F, K, {tile, kPanel<A>, false});
    write_gates(tile, n, F, panel * kLanes<A>, to + r * stride, stride);
  });
}

// d_h, d_x and d_b of one panel for R rows, a gate at a time: take(k, d) receives them as d[R][3] for gate k. The rows'
// z are [3, 4, Z] each, z_stride apart.
template <class A, int R, class Take>
inline void scale_rows(const A* panel, int64_t Z, const A* z, int64_t z_stride, const Take& take) {
  constexpr int64_t V = kLanes<A>;
  for (int64_t k = 0; k < kGates; ++k) {
    Vec<A> d[R][3];
    for (int64_t n = 0; n < Z; ++n, panel += 3 * V) {
      UNROLL for (int s = 0; s < 3; ++s) {
        const Vec<A> w = Vec<A>::loadu(panel + s * V);
        UNROLL for (int r = 0; r < R; ++r) {
          d[r][s] = fmadd(w, Vec<A>(z[r * z_stride + (s * kGates + k) * Z + n]), d[r][s]);
        }
      }
    }
    take(k, d);
  }
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
