// What Python calls: the forward sweep over a chunk of steps, and the backward pass over a sequence. The GIL is not
// held here.
#include <ATen/core/grad_mode.h>
#include <ATen/Dispatch.h>
#include <pybind11/functional.h>
#include <torch/csrc/utils/pybind.h>

#include <optional>

#include "backward_sequence.h"
#include "forward_sweep.h"

namespace hyperlstm {
namespace {

#define DISPATCH(dtype, name, ...)                                                         \
  AT_DISPATCH_SWITCH(                                                                      \
      dtype, name,                                                                         \
      AT_DISPATCH_CASE(at::kDouble, __VA_ARGS__) AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) \
          AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__))

// x [*, F] over all rows or tokens, [N, F], in memory without gaps: a view if it lies so already.
at::Tensor dense(const at::Tensor& x) { return x.contiguous().flatten(0, -2); }

std::optional<at::Tensor> dense(const std::optional<at::Tensor>& x) {
  return x ? std::optional(dense(*x)) : std::nullopt;
}

Tensors dense(const Tensors& all) {
  Tensors made;
  for (const at::Tensor& x : all) made.push_back(dense(x));
  return made;
}

Tensors contiguous(Tensors all) {
  for (auto& x : all) x = x.contiguous();
  return all;
}

// The numbers of a tensor [rows, F], whose layout the sweeps rely on; its rows may have several axes.
template <class T>
T* checked(const at::Tensor& x, int64_t rows, int64_t F) {
  TORCH_CHECK(
      x.is_contiguous() && x.dim() >= 2 && x.size(-1) == F && x.numel() == rows * F, "expected a contiguous tensor of ",
      rows, " rows of ", F, " numbers, got shape ", x.sizes(), " and strides ", x.strides());
  return x.mutable_data_ptr<T>();
}

// The same for a tensor that is going to be written.
template <class T>
T* target(const at::Tensor& x, int64_t rows, int64_t F) {
  T* to = checked<T>(x, rows, F);
  expect_writes(to, x.numel());
  return to;
}

// Owns the parameters as the forward sweep reads them, whatever their dtype.
class Weights {
 public:
  // B: rows of the sequence's first step.
  Weights(Tensors params, int64_t B) : params_(contiguous(std::move(params))) {
    DISPATCH(dtype(), "Weights", [&] {
      packing_ = std::make_shared<Packing<scalar_t>>(params_, false, true, few(size(), B));
    });
  }

  at::ScalarType dtype() const { return params_[0].scalar_type(); }
  Sizes size() const { return sizes(params_); }

  template <class T>
  const Packing<T>& packing() const {
    return *static_cast<const Packing<T>*>(packing_.get());
  }

 private:
  Tensors params_;
  std::shared_ptr<void> packing_;
};

// The numbers of states: h with of_h rows, the others with of_others.
template <class T>
States<T> states(const Tensors& s, const Sizes& size, int64_t of_h, int64_t of_others) {
  using A = Acc<T>;
  return {
      checked<T>(s[0], of_h, size.H), checked<A>(s[1], of_others, size.H), checked<T>(s[2], of_others, size.S),
      checked<A>(s[3], of_others, size.S)};
}

template <class T>
Residuals<T> left(const at::Tensor& x, int64_t N, const Sizes& size) {
  const bool has_v = x.size(-1) == Residuals<T>::width(size, true);
  const int64_t width = Residuals<T>::width(size, has_v);
  return {checked<T>(x, N, width), width, has_v};
}

// Groups of rows and threads for each, or nothing for the split that suits the sizes.
using Asked = std::optional<std::pair<int64_t, int64_t>>;

Splitting splitting(const Asked& split) {
  if (!split) return {};
  TORCH_CHECK_VALUE(
      split->first > 0 && split->second > 0, "split: expected two positive numbers, got ", split->first, " and ",
      split->second);
  return {Split{split->first, split->second}};
}

// rows: how many sequences are still going at each step, the longest first; N is their sum, the number of tokens.
// Arrays over tokens are [N, *], or [T, B, *]. x [N, I] and start [B, *] are read. into is written: h [N, H], and c,
// h_hat and c_hat [N, *] or, to keep a ring of two steps or more, [steps, B, *]. So are the residuals, if given: [N,
// 4H + 4S], or 4H wider with v. mask [N, H]: which of g dropout kept; scale: what those are multiplied by. Returns each
// row's state after its own last step, [B, *].
Tensors forward(
    const Weights& weights, const std::vector<int64_t>& rows, const at::Tensor& x, const Tensors& start,
    const Tensors& into, const std::optional<at::Tensor>& mask, double scale,
    const std::optional<at::Tensor>& residuals, const Asked& split) {
  const at::NoGradGuard no_grad;
  const Sizes size = weights.size();
  const Steps steps(rows);
  const int64_t N = steps.tokens(), B = steps.rows(0), kept = into[1].numel() / size.H, ring = kept == N ? 0 : kept / B;
  TORCH_CHECK(ring == 0 || ring >= 2, "into: expected states of all steps, or of 2 or more, got those of ", ring);
  const at::Tensor tokens = dense(x);
  const Tensors before = dense(start);
  const std::optional<at::Tensor> of_g = dense(mask);
  Tensors last;
  for (const at::Tensor& x : into) last.push_back(at::empty({B, x.size(-1)}, x.options()));
  DISPATCH(weights.dtype(), "forward", [&] {
    const States<scalar_t> to = states<scalar_t>(into, size, N, ring == 0 ? N : ring * B);
    expect_writes(to.h, into[0].numel());
    expect_writes(to.c, into[1].numel());
    if (residuals) expect_writes(residuals->mutable_data_ptr<scalar_t>(), residuals->numel());
    ForwardSweep<scalar_t> sweep(
        *weights.packing<scalar_t>(), weights.packing<scalar_t>().stored(), size, steps,
        checked<scalar_t>(tokens, N, size.I), states<scalar_t>(before, size, B, B), to, ring,
        {of_g ? checked<bool>(*of_g, N, size.H) : nullptr, static_cast<Acc<scalar_t>>(scale)},
        residuals ? left<scalar_t>(*residuals, N, size) : Residuals<scalar_t>{});
    sweep.run(splitting(split));
    sweep.copy_last(states<scalar_t>(last, size, B, B));
  });
  return last;
}

// rows, x, start, residuals, mask and scale: as in forward; trajectory: the states after each step, [N, *]; d_out [N,
// H]. d_last: the gradients of each row's last state, [B, *]. d_x [N, I] is written, if given. bounds: the first step
// of each chunk, and the number of steps. Returns the gradients of the params that want one and those of start, in the
// accumulation type.
std::pair<Totals, Tensors> backward(
    Tensors params, const std::vector<bool>& wanted, const std::vector<int64_t>& rows, const at::Tensor& x,
    Tensors start, const Tensors& trajectory, const std::optional<at::Tensor>& residuals,
    const std::optional<at::Tensor>& mask, double scale, const at::Tensor& d_out, const Tensors& d_last,
    const std::optional<at::Tensor>& d_x, const std::vector<int64_t>& bounds, const Asked& split) {
  const at::NoGradGuard no_grad;
  params = contiguous(std::move(params));
  const Sizes size = sizes(params);
  const Steps steps(rows);
  const int64_t N = steps.tokens(), B = steps.rows(0);
  TORCH_CHECK(wanted.size() == params.size(), "wanted: expected ", params.size(), ", got ", wanted.size());
  const Past past{dense(x), std::move(start), dense(trajectory), dense(residuals), dense(mask), scale, steps};
  Totals totals;
  Tensors carried;
  DISPATCH(params[0].scalar_type(), "backward", [&] {
    using A = Acc<scalar_t>;
    states<scalar_t>(past.trajectory, size, N, N);
    if (past.mask) checked<bool>(*past.mask, N, size.H);
    if (past.residuals) left<scalar_t>(*past.residuals, N, size);
    if (d_x) target<scalar_t>(*d_x, N, size.I);
    for (const at::Tensor& d : d_last) {
      const at::Tensor to = at::empty(d.sizes(), d.options().dtype(c10::CppTypeToScalarType<A>::value));
      carried.push_back(to.copy_(d));
    }
    const Carried<A> state{
        checked<A>(carried[0], B, size.H), checked<A>(carried[1], B, size.H), checked<A>(carried[2], B, size.S),
        checked<A>(carried[3], B, size.S)};
    totals =
        SequenceBackward<scalar_t>(params, wanted, past, dense(d_out), state, dense(d_x), splitting(split)).run(bounds);
  });
  return {std::move(totals), std::move(carried)};
}

// total [F, G] += d^T values, d [N, F] and values [N, G].
void add_product(const at::Tensor& total, const at::Tensor& d, const at::Tensor& values) {
  DISPATCH(d.scalar_type(), "add_product", [&] {
    const Tensors no_params;
    ChunkProducts<scalar_t> products(no_params, {true}, false);
    run_jobs(products.during({values}), kLeastToPack);
    products.sum({{d, {{total, 0}}}}, {values}, false);
    products.finish();
  });
}

// Calls a Python function on one thread of a parallel region of two.
void in_parallel_region(const std::function<void()>& call) {
  at::parallel_for(0, 2, 1, [&](int64_t begin, int64_t) {
    if (begin == 0) call();
  });
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  namespace py = pybind11;
  expect_large_blocks();
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<Weights>(m, "Weights", py::module_local())
      .def(py::init<Tensors, int64_t>(), Release(), py::arg("params"), py::arg("B"));
  m.def(
      "forward", &forward, Release(), py::arg("weights"), py::arg("rows"), py::arg("x"), py::arg("start"),
      py::arg("into"), py::arg("mask"), py::arg("scale"), py::arg("residuals"), py::arg("split"));
  m.def(
      "backward", &backward, Release(), py::arg("params"), py::arg("wanted"), py::arg("rows"), py::arg("x"),
      py::arg("start"), py::arg("trajectory"), py::arg("residuals"), py::arg("mask"), py::arg("scale"),
      py::arg("d_out"), py::arg("d_last"), py::arg("d_x"), py::arg("bounds"), py::arg("split"));
  // For tests alone.
  m.attr("PARAMS") = std::vector<std::string>(kParamNames.begin(), kParamNames.end());
  m.attr("ROWS_OF_LARGE") = kRowsOfLarge;
  m.def(
      "choose_split",
      [](std::array<int64_t, 4> HSZI, int64_t B, int64_t threads) {
        const Split split = choose_split({HSZI[0], HSZI[1], HSZI[2], HSZI[3]}, B, threads);
        return std::pair(split.groups, split.members);
      },
      py::arg("sizes"), py::arg("B"), py::arg("threads"));
  m.def("rows_given", &Handover::given);
  m.def("in_parallel_region", &in_parallel_region, Release(), py::arg("call"));
  m.def("add_product", &add_product, Release(), py::arg("total"), py::arg("d"), py::arg("values"));
}

}  // namespace hyperlstm
