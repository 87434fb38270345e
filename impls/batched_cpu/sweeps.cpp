// What Python calls: the layer's parameters packed, and the two sweeps over a chunk of steps. The GIL is not held here.
#include <ATen/Dispatch.h>
#include <torch/csrc/utils/pybind.h>

#include <optional>

#include "backward.h"
#include "forward.h"
#include "gradient.h"
#include "rebuild.h"

namespace hyperlstm {
namespace {

#define DISPATCH(dtype, name, ...)                                        \
  AT_DISPATCH_SWITCH(dtype, name, AT_DISPATCH_CASE(at::kDouble, __VA_ARGS__) \
      AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__))

// Reads a tensor whose layout the sweeps rely on.
template <class T>
T* data(const at::Tensor& x, at::IntArrayRef shape) {
  TORCH_CHECK(x.is_contiguous() && x.sizes() == shape, "expected a contiguous tensor of shape ", shape, ", got shape ",
              x.sizes(), " and strides ", x.strides());
  return x.mutable_data_ptr<T>();
}

// The same for a tensor that is going to be written.
template <class T>
T* target(const at::Tensor& x, at::IntArrayRef shape) {
  T* to = data<T>(x, shape);
  expect_writes(to, x.numel());
  return to;
}

// Owns packed parameters, whatever their dtype.
class Weights {
 public:
  Weights(Tensors params, bool backward) : params_(std::move(params)) {
    for (auto& p : params_) p = p.contiguous();
    DISPATCH(dtype(), "Weights", [&] { packed_ = std::make_shared<Packing<scalar_t>>(params_, backward); });
  }

  at::ScalarType dtype() const { return params_[0].scalar_type(); }
  Sizes size() const { return sizes(params_); }

  template <class T>
  const Packed<Acc<T>>& packed() const {
    return **static_cast<const Packing<T>*>(packed_.get());
  }

 private:
  Tensors params_;
  std::shared_ptr<void> packed_;
};

template <class T>
States<T> states(const Tensors& s, at::IntArrayRef leading, Sizes size) {
  using A = Acc<T>;
  at::DimVector h(leading), h_hat(leading);
  h.push_back(size.H);
  h_hat.push_back(size.S);
  return {data<T>(s[0], h), data<A>(s[1], h), data<T>(s[2], h_hat), data<A>(s[3], h_hat)};
}

// x [K, B, I], start [B, *] -> into [K, B, *] and, if given, kept [K, B, 4H + 4S]: u, then the hyper LSTM's gates before
// their norm.
void forward(
    const Weights& weights, const at::Tensor& x, const Tensors& start, const Tensors& into,
    const std::optional<at::Tensor>& kept) {
  const Sizes size = weights.size();
  const int64_t K = x.size(0), B = x.size(1);
  DISPATCH(weights.dtype(), "forward", [&] {
    ForwardSweep<scalar_t>(
        weights.packed<scalar_t>(), size, K, B, data<scalar_t>(x, {K, B, size.I}),
        states<scalar_t>(start, {B}, size), states<scalar_t>(into, {K, B}, size),
        kept ? target<scalar_t>(*kept, {K, B, 4 * size.H + 4 * size.S}) : nullptr)
        .run();
  });
}

// What forward keeps, anew: x, h and h_hat before each step [K, B, *] -> kept [K, B, 4H + 4S].
void rebuild_kept(
    const Weights& weights, const at::Tensor& x, const at::Tensor& h, const at::Tensor& h_hat, const at::Tensor& kept) {
  const Sizes size = weights.size();
  const int64_t K = x.size(0), B = x.size(1);
  DISPATCH(weights.dtype(), "rebuild", [&] {
    rebuild<scalar_t>(
        weights.packed<scalar_t>(), size, K * B, data<scalar_t>(x, {K, B, size.I}), data<scalar_t>(h, {K, B, size.H}),
        data<scalar_t>(h_hat, {K, B, size.S}), target<scalar_t>(kept, {K, B, 4 * size.H + 4 * size.S}));
  });
}

// chunk: x, kept, h_hat after, c before and after, c_hat before and after, d_out. deltas: rec, inp, z. carried: dh, dc,
// dh_hat, dc_hat in the accumulation type, overwritten. Returns the gradients of d_weight, bias, hyper_bias, z_bias and,
// if there are norms, theirs in the order of LayerParams.
Tensors backward(const Weights& weights, const Tensors& chunk, const Tensors& deltas, const Tensors& carried) {
  const Sizes size = weights.size();
  const int64_t H = size.H, S = size.S, Z = size.Z, K = chunk[0].size(0), B = chunk[0].size(1), N = 4 * H + 4 * S;
  Tensors gradients;
  DISPATCH(weights.dtype(), "backward", [&] {
    using T = scalar_t;
    using A = Acc<T>;
    const ChunkArrays<T> arrays{
        data<T>(chunk[0], {K, B, size.I}), data<T>(chunk[1], {K, B, N}), data<T>(chunk[2], {K, B, S}),
        data<A>(chunk[3], {K, B, H}), data<A>(chunk[4], {K, B, H}), data<A>(chunk[5], {K, B, S}),
        data<A>(chunk[6], {K, B, S}), data<T>(chunk[7], {K, B, H})};
    const DeltaArrays<T> to{
        target<T>(deltas[0], {K, B, N}), target<T>(deltas[1], {K, B, 4 * H}), target<T>(deltas[2], {K, B, 12 * Z})};
    const Carried<A> state{
        data<A>(carried[0], {B, H}), data<A>(carried[1], {B, H}), data<A>(carried[2], {B, S}),
        data<A>(carried[3], {B, S})};
    gradients = BackwardSweep<T>(weights.packed<T>(), size, K, B, arrays, to, state).run(carried[0].options());
  });
  return gradients;
}

// total [F, G] += d^T values for each of them, d [N, F] and values [N, G], all in the accumulation type.
void add_products(const Tensors& totals, const Tensors& ds, const Tensors& values) {
  if (totals.empty()) return;
  const int64_t N = ds[0].size(0);
  AT_DISPATCH_FLOATING_TYPES(totals[0].scalar_type(), "add_products", [&] {
    std::vector<GradientProduct<scalar_t>> products;
    for (size_t i = 0; i < totals.size(); ++i) {
      const at::Tensor &d = ds[i], &v = values[i];
      TORCH_CHECK(d.size(0) == N && d.stride(1) == 1 && v.size(0) == N, "expected N rows, those of d contiguous");
      products.push_back(
          {data<scalar_t>(totals[i], {d.size(1), v.size(1)}),
           {d.const_data_ptr<scalar_t>(), d.stride(0), 1, d.size(1)},
           {v.const_data_ptr<scalar_t>(), v.stride(0), v.stride(1), v.size(1)}});
    }
    add_gradients(products, N);
  });
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  namespace py = pybind11;
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<Weights>(m, "Weights", py::module_local()).def(
      py::init<Tensors, bool>(), Release(), py::arg("params"), py::arg("backward"));
  m.def("forward", &forward, Release(), py::arg("weights"), py::arg("x"), py::arg("start"), py::arg("into"),
        py::arg("kept"));
  m.def("rebuild", &rebuild_kept, Release(), py::arg("weights"), py::arg("x"), py::arg("h"), py::arg("h_hat"),
        py::arg("kept"));
  m.def("add_products", &add_products, Release(), py::arg("totals"), py::arg("ds"), py::arg("values"));
  m.def("backward", &backward, Release(), py::arg("weights"), py::arg("chunk"), py::arg("deltas"), py::arg("carried"));
}

}  // namespace hyperlstm
