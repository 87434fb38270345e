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

Tensors contiguous(Tensors all) {
  for (auto& x : all) x = x.contiguous();
  return all;
}

// The numbers of a tensor, whose layout the sweeps rely on.
template <class T>
T* checked(const at::Tensor& x, at::IntArrayRef shape) {
  TORCH_CHECK(
      x.is_contiguous() && x.sizes() == shape, "expected a contiguous tensor of shape ", shape, ", got shape ",
      x.sizes(), " and strides ", x.strides());
  return x.mutable_data_ptr<T>();
}

// The same for a tensor that is going to be written.
template <class T>
T* target(const at::Tensor& x, at::IntArrayRef shape) {
  T* to = checked<T>(x, shape);
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
      checked<T>(s[0], {of_h, size.H}), checked<A>(s[1], {of_others, size.H}), checked<T>(s[2], {of_others, size.S}),
      checked<A>(s[3], {of_others, size.S})};
}

template <class T>
Residuals<T> left(const at::Tensor& x, int64_t N, const Sizes& size) {
  const bool has_v = x.dim() == 2 && x.size(1) == Residuals<T>::width(size, true);
  const int64_t width = Residuals<T>::width(size, has_v);
  return {checked<T>(x, {N, width}), width, has_v};
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
// x [N, I] and start [B, *] are read. into is written: h [N, H], and c, h_hat and c_hat [N, *] or, if ring is not 0 but
// 2 or more, [ring B, *] with step t at t % ring. So are the residuals, if given: [N, 4H + 4S], or 4H wider with v.
// mask [N, H]: which of g dropout kept; scale: what those are multiplied by.
void forward(
    const Weights& weights, const std::vector<int64_t>& rows, const at::Tensor& x, const Tensors& start,
    const Tensors& into, int64_t ring, const std::optional<at::Tensor>& mask, double scale,
    const std::optional<at::Tensor>& residuals, const Asked& split) {
  const Sizes size = weights.size();
  const Steps steps(rows);
  const int64_t N = steps.tokens(), B = steps.rows(0);
  TORCH_CHECK(ring == 0 || ring >= 2, "ring: expected 0, or 2 steps or more, got ", ring);
  DISPATCH(weights.dtype(), "forward", [&] {
    const States<scalar_t> to = states<scalar_t>(into, size, N, ring == 0 ? N : ring * B);
    expect_writes(to.h, into[0].numel());
    expect_writes(to.c, into[1].numel());
    if (residuals) expect_writes(residuals->mutable_data_ptr<scalar_t>(), residuals->numel());
    ForwardSweep<scalar_t>(
        *weights.packing<scalar_t>(), weights.packing<scalar_t>().stored(), size, steps,
        checked<scalar_t>(x, {N, size.I}), states<scalar_t>(start, size, B, B), to, ring,
        {mask ? checked<bool>(*mask, {N, size.H}) : nullptr, static_cast<Acc<scalar_t>>(scale)},
        residuals ? left<scalar_t>(*residuals, N, size) : Residuals<scalar_t>{})
        .run(splitting(split));
  });
}

// rows, x, start, residuals, mask and scale: as in forward; trajectory: the states after each step, [N, *]; d_out [N,
// H]. carried: dh, dc, dh_hat, dc_hat [B, *] in the accumulation type; on entry of each row's last state, on return of
// its start. d_x [N, I] is written, if given. bounds: the first step of each chunk, and the number of steps. Returns
// the gradients of the params that want one, in the accumulation type.
Totals backward(
    Tensors params, const std::vector<bool>& wanted, const std::vector<int64_t>& rows, const at::Tensor& x,
    Tensors start, Tensors trajectory, std::optional<at::Tensor> residuals, std::optional<at::Tensor> mask,
    double scale, const at::Tensor& d_out, const Tensors& carried, const std::optional<at::Tensor>& d_x,
    const std::vector<int64_t>& bounds, const Asked& split) {
  const at::NoGradGuard no_grad;
  params = contiguous(std::move(params));
  const Sizes size = sizes(params);
  const Steps steps(rows);
  const int64_t N = steps.tokens(), B = steps.rows(0);
  TORCH_CHECK(wanted.size() == params.size(), "wanted: expected ", params.size(), ", got ", wanted.size());
  const Past past{
      x.contiguous(), std::move(start), contiguous(std::move(trajectory)), std::move(residuals), std::move(mask), scale,
      steps};
  Totals totals;
  DISPATCH(params[0].scalar_type(), "backward", [&] {
    using A = Acc<scalar_t>;
    states<scalar_t>(past.trajectory, size, N, N);
    if (past.mask) checked<bool>(*past.mask, {N, size.H});
    if (past.residuals) left<scalar_t>(*past.residuals, N, size);
    if (d_x) target<scalar_t>(*d_x, {N, size.I});
    const Carried<A> state{
        checked<A>(carried[0], {B, size.H}), checked<A>(carried[1], {B, size.H}), checked<A>(carried[2], {B, size.S}),
        checked<A>(carried[3], {B, size.S})};
    totals =
        SequenceBackward<scalar_t>(params, wanted, past, d_out.contiguous(), state, d_x, splitting(split)).run(bounds);
  });
  return totals;
}

// total [F, G] += d^T values, d [N, F] and values [N, G].
void add_product(const at::Tensor& total, const at::Tensor& d, const at::Tensor& values) {
  DISPATCH(d.scalar_type(), "add_product", [&] {
    if constexpr (std::is_same_v<scalar_t, Acc<scalar_t>>) {
      OwnProducts<scalar_t> products({}, {true}, false);
      run_jobs(products.during({values}), kLeastToPack);
      products.sum({{d, {{total, 0}}}}, {values}, false);
      products.finish();
    } else {
      TorchProducts({}, {}, false).sum({{d, {{total, 0}}}}, {values}, false);
    }
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
      py::arg("into"), py::arg("ring"), py::arg("mask"), py::arg("scale"), py::arg("residuals"), py::arg("split"));
  m.def(
      "backward", &backward, Release(), py::arg("params"), py::arg("wanted"), py::arg("rows"), py::arg("x"),
      py::arg("start"), py::arg("trajectory"), py::arg("residuals"), py::arg("mask"), py::arg("scale"),
      py::arg("d_out"), py::arg("carried"), py::arg("d_x"), py::arg("bounds"), py::arg("split"));
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
  m.def("in_parallel_region", &in_parallel_region, Release(), py::arg("call"));
  m.def("add_product", &add_product, Release(), py::arg("total"), py::arg("d"), py::arg("values"));
}

}  // namespace hyperlstm
