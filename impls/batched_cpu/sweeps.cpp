// The functions that Python calls, without the GIL: the forward sweep over a chunk of steps, and the backward pass over
// a sequence.
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

// x [*, F] as [N, F], contiguous: a view if it is contiguous already.
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

// The data of a contiguous tensor [rows, F], whose rows may have several axes.
template <class T>
T* checked(const at::Tensor& x, int64_t rows, int64_t F) {
  TORCH_CHECK(
      x.is_contiguous() && x.dim() >= 2 && x.size(-1) == F && x.numel() == rows * F, "expected a contiguous tensor of ",
      rows, " rows of ", F, " numbers, got shape ", x.sizes(), " and strides ", x.strides());
  return x.mutable_data_ptr<T>();
}

// h has h_rows rows, the others have other_rows.
template <class T>
States<T> states(const Tensors& s, const Sizes& size, int64_t h_rows, int64_t other_rows) {
  using A = Acc<T>;
  return {
      checked<T>(s[0], h_rows, size.H), checked<A>(s[1], other_rows, size.H), checked<T>(s[2], other_rows, size.S),
      checked<A>(s[3], other_rows, size.S)};
}

template <class T>
Residuals<T> residuals_in(const at::Tensor& x, int64_t N, const Sizes& size) {
  const Residuals<T> residuals = Residuals<T>::in(x, size);
  checked<T>(x, N, Residuals<T>::width(size, residuals.has_v));
  return residuals;
}

// (groups, members), or nothing for the split that suits the sizes.
using RequestedSplit = std::optional<std::pair<int64_t, int64_t>>;

SplitChoice split_choice(const RequestedSplit& split) {
  if (!split) return {};
  TORCH_CHECK_VALUE(
      split->first > 0 && split->second > 0, "split: expected two positive numbers, got ", split->first, " and ",
      split->second);
  return {Split{split->first, split->second}};
}

// rows: the number of sequences at each step, the longest first; N is their sum, the number of tokens. Arrays of tokens
// are [N, *], or [T, B, *]. x [N, I] and start [B, *] are read. into is written: h [N, H], and c, h_hat and c_hat [N,
// *] or, in two or more slots that the steps take in turn, [slots, B, *]. So are the residuals, if given: [N, 4H + 4S],
// or 4H wider with v. mask [N, H] and scale: see Mask. Returns each row's state after its own last step, [B, *].
Tensors forward(
    Tensors params, const std::vector<int64_t>& rows, const at::Tensor& x, const Tensors& start, const Tensors& into,
    const std::optional<at::Tensor>& mask, double scale, const std::optional<at::Tensor>& residuals,
    const RequestedSplit& split) {
  const at::NoGradGuard no_grad;
  params = contiguous(std::move(params));
  const Sizes size = sizes(params);
  const Steps steps(rows);
  const int64_t N = steps.tokens(), B = steps.rows(0), rows_of_c = into[1].numel() / size.H;
  const int64_t slots = rows_of_c == N ? 0 : rows_of_c / B;
  TORCH_CHECK(slots == 0 || slots >= 2, "into: expected states of all steps, or of 2 or more, got those of ", slots);
  const at::Tensor tokens = dense(x);
  const Tensors before = dense(start);
  const std::optional<at::Tensor> keep = dense(mask);
  Tensors last;
  for (const at::Tensor& x : into) last.push_back(at::empty({B, x.size(-1)}, x.options()));
  DISPATCH(params[0].scalar_type(), "forward", [&] {
    const States<scalar_t> to = states<scalar_t>(into, size, N, slots == 0 ? N : slots * B);
    advise_huge_pages(to.h, into[0].numel());
    advise_huge_pages(to.c, into[1].numel());
    if (residuals) advise_huge_pages(residuals->mutable_data_ptr<scalar_t>(), residuals->numel());
    using A = Acc<scalar_t>;
    const ForwardArrays<scalar_t> arrays{
        checked<scalar_t>(tokens, N, size.I),
        states<scalar_t>(before, size, B, B),
        to,
        slots,
        Mask<A>{keep ? checked<bool>(*keep, N, size.H) : nullptr, static_cast<A>(scale)},
        residuals ? residuals_in<scalar_t>(*residuals, N, size) : Residuals<scalar_t>{}};
    const Panels<scalar_t> panels(params, Direction::kForward, true, reads_stored(size, B));
    ForwardSweep<scalar_t> sweep(panels, steps, arrays);
    sweep.run(split_choice(split));
    sweep.copy_last(states<scalar_t>(last, size, B, B));
  });
  return last;
}

// rows, x, start, residuals, mask and scale: as in forward; states: after each step, [N, *]; d_out [N, H]. d_last: the
// gradients of each row's last state, [B, *]. d_x [N, I] is written, if given. bounds: the first step of each chunk,
// and the number of steps. Returns the gradients of the wanted params and of start, in the accumulation type.
std::pair<Totals, Tensors> backward(
    Tensors params, const std::vector<bool>& wanted, const std::vector<int64_t>& rows, const at::Tensor& x,
    Tensors start, const Tensors& states, const std::optional<at::Tensor>& residuals,
    const std::optional<at::Tensor>& mask, double scale, const at::Tensor& d_out, const Tensors& d_last,
    const std::optional<at::Tensor>& d_x, const std::vector<int64_t>& bounds, const RequestedSplit& split) {
  const at::NoGradGuard no_grad;
  params = contiguous(std::move(params));
  const Sizes size = sizes(params);
  const Steps steps(rows);
  const int64_t N = steps.tokens(), B = steps.rows(0);
  TORCH_CHECK(wanted.size() == params.size(), "wanted: expected ", params.size(), ", got ", wanted.size());
  const BackwardInputs inputs{params,      wanted, dense(x),     std::move(start), dense(states), dense(residuals),
                              dense(mask), scale,  dense(d_out), dense(d_x),       steps};
  Totals totals;
  Tensors d_state;
  DISPATCH(params[0].scalar_type(), "backward", [&] {
    using A = Acc<scalar_t>;
    hyperlstm::states<scalar_t>(inputs.states, size, N, N);
    if (inputs.mask) checked<bool>(*inputs.mask, N, size.H);
    if (inputs.residuals) residuals_in<scalar_t>(*inputs.residuals, N, size);
    if (d_x) advise_huge_pages(checked<scalar_t>(*d_x, N, size.I), d_x->numel());
    for (const at::Tensor& d : d_last) {
      d_state.push_back(d.to(c10::CppTypeToScalarType<A>::value, false, true, at::MemoryFormat::Contiguous));
    }
    const States<A> arrays = hyperlstm::states<A>(d_state, size, B, B);
    totals = SequenceBackward<scalar_t>(inputs, arrays, split_choice(split)).run(bounds);
  });
  return {std::move(totals), std::move(d_state)};
}

// total [F, G] += d^T values, d [N, F] and values [N, G].
void add_product(const at::Tensor& total, const at::Tensor& d, const at::Tensor& values) {
  DISPATCH(d.scalar_type(), "add_product", [&] {
    const Tensors no_params;
    ChunkProducts<scalar_t> products(no_params, {true}, false);
    run_jobs(products.jobs_of_sweep({values}));
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
  raise_trim_threshold();
  using Release = py::call_guard<py::gil_scoped_release>;
  m.def(
      "forward", &forward, Release(), py::arg("params"), py::arg("rows"), py::arg("x"), py::arg("start"),
      py::arg("into"), py::arg("mask"), py::arg("scale"), py::arg("residuals"), py::arg("split"));
  m.def(
      "backward", &backward, Release(), py::arg("params"), py::arg("wanted"), py::arg("rows"), py::arg("x"),
      py::arg("start"), py::arg("states"), py::arg("residuals"), py::arg("mask"), py::arg("scale"), py::arg("d_out"),
      py::arg("d_last"), py::arg("d_x"), py::arg("bounds"), py::arg("split"));
  // For tests only.
  m.attr("PARAMS") = std::vector<std::string>(kParamNames.begin(), kParamNames.end());
  m.attr("MIN_ROWS_LARGE") = kMinRowsLarge;
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
