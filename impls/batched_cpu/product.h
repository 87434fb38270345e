// Products of a few rows with a weight: the product of every step. The weight is in panels or, with very few rows, as
// it is stored, row-major: packing it into panels would take longer than multiplying.
#pragma once

#include "jobs.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// A panel is four vectors of columns. If a matrix has gates, they are a vector of units of each gate, so that the
// pointwise pass has all four gates of a unit in one tile.
constexpr int64_t kGates = 4;

template <class A>
constexpr int64_t kPanel = kGates * kLanes<A>;

// The rows of a register tile, the sums that fit into registers besides a row of weights and a number of the left
// factor, and the depth K for which tiles share a part of a panel. With enough sums, a part comes from the L2 cache as
// fast as it is used, so it may exceed L1: the deeper it is, the less often sums start and end.
constexpr int kTileRows = 6;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileSums = 24;
constexpr int64_t kDepthBlock = 256;
#else
constexpr int kTileSums = 12;
constexpr int64_t kDepthBlock = 128;
#endif

// Rows whose tiles are computed together: with such a part of a panel they fit into the L2 cache.
#ifdef __AMX_BF16__
constexpr int64_t kRowBlock = 2 * kTileRowsOfAmx;
#else
constexpr int64_t kRowBlock = 36;
#endif

// Numbers in a cache line.
template <class A>
constexpr int64_t kLine = 64 / sizeof(A);

template <class A>
inline int64_t padded(int64_t n) {
  return divup(n, kLanes<A>) * kLanes<A>;
}

template <class A>
inline int64_t panel_count(int64_t units, bool gates) {
  return divup(units, gates ? kLanes<A> : kPanel<A>);
}

// Calls body with n, from 1 to N, as a constant.
template <int N, class Body>
ALWAYS_INLINE void with_constant(int64_t n, const Body& body) {
  if constexpr (N > 1) {
    if (n < N) return with_constant<N - 1>(n, body);
  }
  body(std::integral_constant<int, N>());
}

// Numbers of a panel of K rows; K is padded where several rows are multiplied at once.
template <class F>
inline int64_t panel_numbers(int64_t K) {
  return divup(K, Terms<F>::kDepth) * Terms<F>::kDepth * kPanel<Acc<F>>;
}

// into [R, N, lanes] of lhs [R, K] times the first N vectors of a panel [K, 4, lanes], all sums in registers. For every
// two terms of a sum the next kFetched cache lines from `ahead` on are prefetched.
template <class F, int R, int N, int kFetched, class A = Acc<F>>
ALWAYS_INLINE void multiply_vectors(Lhs<F> lhs, const F* panel, const F* ahead, int64_t K, Into<A> into) {
  using Terms = hyperlstm::Terms<F>;
  constexpr int64_t V = kLanes<A>, D = Terms::kDepth;
  Vec<A> sum[R][N];
  const auto add = [&](const F* numbers, const F* weights, int64_t n) ALWAYS_INLINE_LAMBDA {
    typename Terms::Vector w[N];
    UNROLL for (int k = 0; k < N; ++k) w[k] = Terms::vector(weights + k * V * D);
    UNROLL for (int r = 0; r < R; ++r) {
      const auto x = Terms::broadcast(numbers + r * lhs.row, n);
      UNROLL for (int k = 0; k < N; ++k) sum[r][k] = Terms::add(x, w[k], sum[r][k]);
    }
  };
  // Two terms at a time: the loop's other instructions take time where another thread shares the core.
  int64_t d = 0;
  for (; d + 2 * D <= K; d += 2 * D, lhs.numbers += 2 * D * lhs.depth, panel += 2 * D * kPanel<A>) {
    UNROLL for (int line = 0; line < kFetched; ++line, ahead += kLine<F>) __builtin_prefetch(ahead);
    add(lhs.numbers, panel, D);
    add(lhs.numbers + D * lhs.depth, panel + D * kPanel<A>, D);
  }
  for (; d < K; d += D, lhs.numbers += D * lhs.depth, panel += D * kPanel<A>) {
    add(lhs.numbers, panel, std::min(D, K - d));
  }
  if (into.add) {
    UNROLL for (int r = 0; r < R; ++r) {
      const A* const to = into.numbers + r * into.stride;
      UNROLL for (int k = 0; k < N; ++k) sum[r][k] = sum[r][k] + Vec<A>::loadu(to + k * V);
    }
  }
  UNROLL for (int r = 0; r < R; ++r) {
    A* const to = into.numbers + r * into.stride;
    UNROLL for (int k = 0; k < N; ++k) sum[r][k].store(to + k * V);
  }
}

// The same with as many vectors at a time as fit into registers.
template <class F, int R, int N, int kFetched, class A = Acc<F>>
ALWAYS_INLINE void multiply_tile(Lhs<F> lhs, const F* panel, const F* ahead, int64_t K, Into<A> into) {
  if constexpr (R * N <= kTileSums) {
    multiply_vectors<F, R, N, kFetched == 0 ? 0 : 2>(lhs, panel, ahead, K, into);
  } else {
    constexpr int M = kGates / 2;
    constexpr int64_t column = M * kLanes<A>;
    multiply_vectors<F, R, M, kFetched>(lhs, panel, ahead, K, into);
    ahead += K / 2 * kFetched * kLine<A>;
    multiply_vectors<F, R, N - M, kFetched>(lhs, panel + column * Terms<F>::kDepth, ahead, K, into.from(0, column));
  }
}

// into [rows, N, lanes] of lhs [rows, K] times the first N vectors of one panel. If `fetch`, what follows each part of
// the panel is prefetched, since weights come from outer caches or memory: a cache line for each term of a sum per
// tile, or two if there is one tile. A prefetch past the end does nothing.
template <class F, int N = kGates, class A = Acc<F>>
void multiply(int64_t rows, Lhs<F> lhs, const F* panel, int64_t K, Into<A> into, bool fetch = true) {
  constexpr int64_t kBlock = kDepthBlock * Terms<F>::kDepth;
#ifdef __AMX_BF16__
  if constexpr (std::is_same_v<F, BFloat16>) {
    if (const int64_t depth = depth_of_tiles(K); depth > 0) {
      multiply_tiles<N>(rows, lhs, panel, depth, into);
      lhs = lhs.from(0, depth);
      panel += depth * kPanel<A>;
      K -= depth;
      into.add = true;
    }
  }
#endif
  const int64_t tiles = divup(rows, kTileRows);
  for (int64_t d = 0; d < K; d += kBlock) {
    const int64_t depth = std::min(kBlock, K - d), terms = divup(depth, Terms<F>::kDepth);
    const F *const part = panel + d * kPanel<A>, *const next = part + depth * kPanel<A>;
    for (int64_t i = 0; i < tiles; ++i) {
      // Tiles have about as many rows: two of four are faster than one of six and one of two.
      const int64_t begin = rows * i / tiles;
      const F* const ahead = next + i * terms * kLine<F>;
      const Lhs<F> tile = lhs.from(begin, d);
      const Into<A> to = into.from(begin, 0);
      with_constant<kTileRows>(rows * (i + 1) / tiles - begin, [&](auto R) ALWAYS_INLINE_LAMBDA {
        if (!fetch) {
          multiply_tile<F, R, N, 0>(tile, part, ahead, depth, to);
        } else if (tiles == 1) {
          multiply_tile<F, R, N, 2>(tile, part, ahead, depth, to);
        } else {
          multiply_tile<F, R, N, 1>(tile, part, ahead, depth, to);
        }
      });
    }
    into.add = true;
  }
}

// The same of a panel that has only `columns` columns: vectors beyond them are not multiplied. tile holds `rows`
// panels.
template <class F, class A = Acc<F>>
void multiply_columns(
    int64_t rows, int64_t columns, Lhs<F> lhs, const F* panel, int64_t K, Into<A> into, A* tile, bool fetch = true) {
  constexpr int64_t V = kLanes<A>, P = kPanel<A>;
  if (into.add) {  // it is read only at the end, too late to wait for anything outside the L1 cache
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < columns; j += kLine<A>) __builtin_prefetch(into.from(r, j).numbers);
    }
  }
  if (columns == P) return multiply(rows, lhs, panel, K, into, fetch);
  with_constant<kGates>(
      divup(columns, V), [&](auto N) { multiply<F, N>(rows, lhs, panel, K, {tile, P, false}, fetch); });
  for (int64_t r = 0; r < rows; ++r) {
    A* const to = into.numbers + r * into.stride;
    for (int64_t j = 0; j < columns; j += V) {
      const int64_t m = std::min(V, columns - j);
      const Vec<A> sum = Vec<A>::loadu(tile + r * P + j);
      store(to + j, into.add ? sum + load(to + j, m) : sum, m);
    }
  }
}

// into [rows, N] of lhs [rows, K] times some panels of a matrix [K, N] without gates; tile holds kRowBlock panels.
template <class F, class A = Acc<F>>
void multiply_panels(
    int64_t rows, Lhs<F> lhs, const F* matrix, int64_t K, int64_t N, Range panels, Into<A> into, A* tile) {
  constexpr int64_t P = kPanel<A>;
  for (int64_t p = panels.begin; p < std::min(panels.end, divup(N, P)); ++p) {
    const int64_t column = p * P, columns = std::min(P, N - column);
    const F* const panel = matrix + p * panel_numbers<F>(K);
    for (int64_t r = 0; r < rows; r += kRowBlock) {
      multiply_columns<F>(std::min(kRowBlock, rows - r), columns, lhs.from(r, 0), panel, K, into.from(r, column), tile);
    }
  }
}

// The rest of the file is products with weights as they are stored.

// The rows of a batch that are few, and from how many weights on they are read as they are stored if there are many
// steps: smaller weights stay in the cache, where panels are read faster. So few tokens in all, as in generation step
// by step, read weights less often than packing does.
constexpr int64_t kFewRows = 4, kMinStoredWeights = 1 << 20;

// A weight in panels or, if these are null, as it is stored.
template <class T>
struct Weight {
  const Factor<T>* panels;
  const T* stored;
};

// into[r, k lanes] of lhs [R, K] times one unit of N gates: rows [K] of a stored weight, `gate` numbers apart.
template <int R, int N, class T, class A = Acc<T>>
ALWAYS_INLINE void multiply_unit(const T* weight, int64_t gate, int64_t K, const Factor<T>* lhs, Into<A> into) {
  using Terms = hyperlstm::Terms<Factor<T>>;
  Vec<A> sum[R][N];
  for_vectors<A, Terms::kDepth>(K, [&](int64_t d, int64_t m) ALWAYS_INLINE_LAMBDA {
    typename Terms::Vector x[R];
    UNROLL for (int r = 0; r < R; ++r) x[r] = Terms::load(lhs + r * K + d, m);
    UNROLL for (int k = 0; k < N; ++k) {
      const auto w = Terms::load(weight + k * gate + d, m);
      UNROLL for (int r = 0; r < R; ++r) sum[r][k] = Terms::add(x[r], w, sum[r][k]);
    }
  });
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int k = 0; k < N; ++k) {
      A& to = into.numbers[r * into.stride + k * kLanes<A>];
      to = (into.add ? to : A(0)) + sum_of_lanes(sum[r][k]);
    }
  }
}

// into [R, 4, lanes] of lhs [R, K] times n units, from `unit` on, of a stored weight [4, F, K].
template <int R, class T, class A = Acc<T>>
void multiply_units(
    const T* weight, int64_t F, int64_t K, int64_t unit, int64_t n, const Factor<T>* lhs, Into<A> into) {
  constexpr int N = R * kGates <= kTileSums ? kGates : kGates / 2;  // gates whose sums fit into registers
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t k = 0; k < kGates; k += N) {
      multiply_unit<R, N>(weight + (k * F + unit + j) * K, F * K, K, lhs, into.from(0, k * kLanes<A> + j));
    }
  }
}

// into [R, columns] of lhs [R, K] times these columns of a stored weight [K, N]. All columns take a few rows of the
// weight before the next, so that it is read in the order of memory.
template <int R, class T, class A = Acc<T>>
void multiply_stored_columns(Range columns, Lhs<Factor<T>> lhs, const T* weight, int64_t K, int64_t N, Into<A> into) {
  constexpr int64_t V = kLanes<A>;
  // Rows of the weight at a time: as many as there are registers for the numbers of lhs.
  constexpr int kRows = std::clamp(2 * kTileSums / 3 / R, 2, 4);
  if (!into.add) {
    for (int r = 0; r < R; ++r) std::fill_n(into.from(r, 0).numbers, columns.size(), A(0));
  }
  const auto add = [&](int64_t d, auto rows) ALWAYS_INLINE_LAMBDA {
    Vec<A> x[R][rows];
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < rows; ++i) x[r][i] = Vec<A>(static_cast<A>(*lhs.from(r, d + i).numbers));
    }
    for (int64_t j = columns.begin; j < columns.end; j += V) {
      const int64_t m = std::min(V, columns.end - j);
      Vec<A> w[rows];
      UNROLL for (int i = 0; i < rows; ++i) {
        const T* const at = weight + (d + i) * N + j;
        __builtin_prefetch(at + rows * N);
        w[i] = load(at, m);
      }
      UNROLL for (int r = 0; r < R; ++r) {
        A* const to = into.from(r, j - columns.begin).numbers;
        Vec<A> sum = load(to, m);
        UNROLL for (int i = 0; i < rows; ++i) sum = fmadd(x[r][i], w[i], sum);
        store(to, sum, m);
      }
    }
  };
  const int64_t whole = K / kRows * kRows;
  for (int64_t d = 0; d < whole; d += kRows) add(d, std::integral_constant<int, kRows>());
  for (int64_t d = whole; d < K; ++d) add(d, std::integral_constant<int, 1>());
}

}  // namespace hyperlstm::inline HYPERLSTM_SET
