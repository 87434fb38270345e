// Products over all rows of a chunk after its sweep: the gradients of the weights and of x. Weight gradients are in the
// accumulation type.
#pragma once

#include "packing.h"

namespace hyperlstm::inline HYPERLSTM_SET {

// A matrix [N, F] whose rows are contiguous, `stride` numbers apart.
template <class T>
struct Matrix {
  T* numbers;
  int64_t N, F, stride = F;
};

template <class T>
using Values = std::vector<Matrix<const T>>;

// Rows of one partial sum; the partial sums are then added up. The rounding error grows with the root of either number
// of terms, not with the root of their product as in one long sum.
constexpr int64_t kPartialRows = 128;
// Columns of d that are gathered into one block: whole tiles, and whole vectors of any width.
constexpr int64_t kGathered = 48;
// Such blocks, whose parts stay in the L2 cache while all values are read once.
constexpr int64_t kGatheredBlocks = 3;

// Rows from which on products take longer than reading and writing the totals.
constexpr int64_t kDeep = 96;

// Gradients that share a left factor d. To each total [F, G], contiguous, d^T times one of the values is added, given
// by its index.
template <class T>
struct Products {
  Matrix<const T> d;
  std::vector<std::pair<Acc<T>*, size_t>> totals;
};

// A thread's rows of some gradients, d^T times values, whose panels are given. If `fresh`, totals are written, else
// added to.
template <class A>
class GradientRows {
  static_assert(kGathered % kTileRows == 0 && kGathered % kLanes<A> == 0);

 public:
  GradientRows(const Products<A>& products, const Values<A>& values, const std::vector<A*>& panels, bool fresh)
      : d_(products.d), totals_(products.totals), values_(values), panels_(panels), fresh_(fresh) {
    lhs_ = scratch_.empty<A>(kGatheredBlocks * kGathered * kPartialRows);
    tile_ = scratch_.empty<A>(kGathered * kPanel<A>);
  }

  void run(int64_t begin, int64_t end) {
    constexpr int64_t kGroupRows = kGatheredBlocks * kGathered;
    for (int64_t first = begin; first < end; first += kGroupRows) {
      const int64_t rows = std::min(kGroupRows, end - first);
      for (int64_t n = 0; n < d_.N; n += kPartialRows) {
        const int64_t depth = std::min(kPartialRows, d_.N - n);
        gather(first, rows, n, depth);
        for (const auto& [total, i] : totals_) group(total, panels_[i], values_[i].F, first, rows, n, depth);
      }
    }
  }

 private:
  // lhs_ [blocks, depth, kGathered] = d[n + i, first + r].
  void gather(int64_t first, int64_t rows, int64_t n, int64_t depth) {
    for (int64_t r = 0; r < rows; r += kGathered) {
      const int64_t some = std::min(kGathered, rows - r);
      for (int64_t i = 0; i < depth; ++i) {
        const A* const from = d_.numbers + (n + i) * d_.stride + first + r;
        A* const to = lhs_ + r * kPartialRows + i * kGathered;
        if (some < kGathered) {
          std::copy_n(from, some, to);
          continue;
        }
        UNROLL for (int64_t j = 0; j < kGathered; j += kLanes<A>) Vec<A>::loadu(from + j).store(to + j);
      }
    }
  }

  // Row first + r of total [F, G] += the sum over `depth` rows from n on of lhs_ values[n]. The tiles of a gathered
  // block share a part of a panel while it is in the L1 cache. With little to multiply for what is written, a tile
  // takes all columns before the next, so that totals are read and written in the order of memory.
  void group(A* total, const A* panels, int64_t G, int64_t first, int64_t rows, int64_t n, int64_t depth) {
    const int64_t block = depth < kDeep ? kTileRows : kGathered;
    for (int64_t r = 0; r < rows; r += block) {
      const int64_t some = std::min(block, rows - r);
      const Lhs<A> lhs{lhs_ + r / kGathered * kGathered * kPartialRows + r % kGathered, 1, kGathered};
      for (int64_t p = 0; p < panel_count<A>(G, false); ++p) {
        const A* const panel = panels + (p * d_.N + n) * kPanel<A>;
        const int64_t column = p * kPanel<A>, columns = std::min(kPanel<A>, G - column);
        const Into<A> into{total + (first + r) * G + column, G, !fresh_ || n > 0};
        multiply_columns<A>(some, columns, lhs, panel, depth, into, tile_, false);
      }
    }
  }

  const Matrix<const A>& d_;
  const std::vector<std::pair<A*, size_t>>& totals_;
  const Values<A>& values_;
  const std::vector<A*>& panels_;
  const bool fresh_;
  Scratch scratch_;
  A *lhs_, *tile_;
};

// In the accumulation type, by own products. They run as jobs after the next sweep, and so does packing the
// values of that sweep's chunk: no thread idles while jobs are left.
template <class A>
class OwnProducts {
 public:
  // Chunks whose deltas are in memory at a time: one is written while the other is multiplied.
  static constexpr int kChunks = 2;

  // needed: which of a chunk's values are multiplied. weight_x, hyper_weight_x: the matrices [*, I] that the gradient
  // of x is a product with; null if x needs none.
  OwnProducts(std::vector<bool> needed, Matrix<const A> weight_x, Matrix<const A> hyper_weight_x)
      : needed_(std::move(needed)) {
    if (weight_x.numbers == nullptr) return;
    weight_x_ = pack_rows(weight_x, scratch_);
    hyper_weight_x_ = pack_rows(hyper_weight_x, scratch_);
  }

  // The jobs to run with the sweep of the chunk that has these values.
  const Jobs& jobs_of_sweep(const Values<A>& values) {
    previous_ = std::move(packed_);
    packed_ = {};
    for (size_t i = 0; i < values.size(); ++i) {
      packed_.panels.push_back(needed_[i] ? pack_rows(values[i], packed_.scratch) : nullptr);
    }
    return jobs_;
  }

  // After that sweep: what the chunk adds to the totals or, if `fresh`, writes.
  void sum(const std::vector<Products<A>>& products, const Values<A>& values, bool fresh) {
    jobs_.clear();
    previous_ = {};
    for (const Products<A>& some : products) {
      if (some.totals.empty()) continue;
      int64_t columns = 1;  // gathering a row from d takes about as long as a panel
      for (const auto& [total, i] : some.totals) columns += panel_count<A>(values[i].F, false);
      const auto run = [=, panels = packed_.panels](int64_t begin, int64_t end) {
        GradientRows<A>(some, values, panels, fresh).run(begin, end);
      };
      jobs_.push_back({some.d.F, columns * some.d.N * kPanel<A>, run, kGathered});
    }
  }

  // After `sum`: d_x [N, I] = dv weight_x + da hyper_weight_x of the chunk.
  void input(const Matrix<const A>& dv, const Matrix<const A>& da, const Matrix<A>& d_x) {
    const int64_t I = d_x.F, cost = panel_count<A>(I, false) * kPanel<A> * (dv.F + da.F);
    const auto run = [this, dv, da, d_x, I](int64_t begin, int64_t end) {
      alignas(64) std::array<A, kRowBlock * kPanel<A>> tile;
      for (int64_t r = begin; r < end; r += kRowBlock) {
        const auto product = [&](const Matrix<const A>& d, const A* panels, bool add) {
          const Lhs<A> lhs{d.numbers + r * d.stride, d.stride};
          const Into<A> into{d_x.numbers + r * I, I, add};
          const Range all{0, panel_count<A>(I, false)};
          multiply_panels<A>(std::min(kRowBlock, end - r), lhs, panels, d.F, I, all, into, tile.data());
        };
        product(dv, weight_x_, false);
        product(da, hyper_weight_x_, true);
      }
    };
    jobs_.push_back({dv.N, cost, run, kRowBlock});
  }

  // Runs the jobs left after the last sweep.
  void finish() { run_jobs(jobs_); }

 private:
  // The values of a chunk as right factors: those that are needed.
  struct Packed {
    Scratch scratch;
    std::vector<A*> panels;
  };

  // Adds to jobs, which must run before the panels are read.
  A* pack_rows(const Matrix<const A>& x, Scratch& scratch) {
    return pack<A>(x.numbers, Stored::kRows, x.N, x.F, scratch, jobs_);
  }

  const std::vector<bool> needed_;
  Packed packed_, previous_;  // of the sweep's chunk, and of the one that is multiplied
  Scratch scratch_;
  A *weight_x_ = nullptr, *hyper_weight_x_ = nullptr;  // in panels, if x needs a gradient
  Jobs jobs_;
};

// In half precision, by torch's products: CPUs have instructions for those.
template <class T>
class TorchProducts {
 public:
  static constexpr int kChunks = 1;

  TorchProducts(const std::vector<bool>&, Matrix<const T> weight_x, Matrix<const T> hyper_weight_x)
      : weight_x_(weight_x), hyper_weight_x_(hyper_weight_x) {}

  Jobs jobs_of_sweep(const Values<T>&) { return {}; }

  void sum(const std::vector<Products<T>>& products, const Values<T>& values, bool fresh) {
    for (const auto& [d, totals] : products) {
      for (const auto& [total, i] : totals) {
        Scratch scratch;
        const Matrix<T> product{scratch.empty<T>(d.F * values[i].F), d.F, values[i].F};
        check(TRY(torch.mm_out(tensor(product).get(), tensor(d, true).get(), tensor(values[i]).get())));
        const auto add = [=, from = product.numbers, to = total](int64_t begin, int64_t end) {
          for (int64_t j = begin; j < end; ++j) to[j] = from[j] + (fresh ? 0 : to[j]);
        };
        run_jobs({{d.F * product.F, 1, add, kGrain}});
      }
    }
  }

  void input(const Matrix<const T>& dv, const Matrix<const T>& da, const Matrix<T>& d_x) {
    const Tensor out = tensor(d_x);
    check(TRY(torch.mm_out(out.get(), tensor(dv).get(), tensor(weight_x_).get())));
    check(TRY(torch.addmm_out(out.get(), out.get(), tensor(da).get(), tensor(hyper_weight_x_).get(), 1, 1)));
  }

  void finish() {}

 private:
  static_assert(std::is_same_v<T, BFloat16>);
  static constexpr int64_t kGrain = 1 << 12;
  static void check(int32_t error) {
    if (error != 0) throw std::runtime_error("a product of torch failed, which has said why");
  }

  template <class U>
  static Tensor tensor(const Matrix<U>& x, bool transposed = false) {
    std::array<int64_t, 2> sizes{x.N, x.F}, strides{x.stride, 1};
    if (transposed) {
      std::swap(sizes[0], sizes[1]);
      std::swap(strides[0], strides[1]);
    }
    void* made;
    check(TRY(torch.create_tensor_from_blob(
        const_cast<T*>(x.numbers), 2, sizes.data(), strides.data(), 0, kBFloat16, kCpu, 0, &made)));
    return owned(made);
  }

  const Matrix<const T> weight_x_, hyper_weight_x_;
};

template <class T>
using ChunkProducts = std::conditional_t<std::is_same_v<T, Acc<T>>, OwnProducts<T>, TorchProducts<T>>;

}  // namespace hyperlstm::inline HYPERLSTM_SET
