// The backward pass over a sequence, as Python calls it.
#include "backward_sequence.h"

namespace hyperlstm::inline HYPERLSTM_SET {
namespace {

// Writes the gradients of the parameters, arrays in the accumulation type, to `gradients`.
using Allocate = void (*)(void* context, ParamArrays& gradients);

template <class T, class A = Acc<T>>
void backward(const BackwardArguments& in, Allocate allocate, void* context) {
  const Layer<T> layer(in);
  const Sizes& size = layer.size;
  const std::span needed(in.needed, kParams), bounds(in.bounds, in.chunks + 1);
  const char* const of = "gradient of ";
  const BackwardArrays<T> arrays{
      states_of<T>(in.states, size, layer.N, "states "), layer.residuals(in),
      numbers_of<T>(in.d_out, layer.N * size.H, "out", of), states_of<A>(in.d_state, size, layer.B, of),
      optional<T>(in.d_x, layer.N * size.I, "x", of)};
  advise_huge_pages(arrays.d_x, layer.N * size.I);
  SequenceBackward<T>(layer, needed, arrays).run(bounds, [&] {
    ParamArrays memory{};
    allocate(context, memory);
    Params<A> gradients;
    const auto n = elements(size);
    for (int i = 0; i < kParams; ++i) {
      gradients[i] = needed[i] ? numbers_of<A>(memory[i], n[i], kParamNames[i], of) : nullptr;
    }
    return gradients;
  });
}

}  // namespace
}  // namespace hyperlstm::inline HYPERLSTM_SET

using namespace hyperlstm;

EXPORT(Outcome, backward)(const BackwardArguments& arguments, Allocate allocate, void* context) {
  return outcome_of([&] { backward<HYPERLSTM_DTYPE>(arguments, allocate, context); });
}

// For tests only: total [F, G] += d^T values, where row r of d [N, F] begins at r * stride.
EXPORT(Outcome, add_product)(
    int64_t N, int64_t F, int64_t G, int64_t stride, const Array& total, const Array& d, const Array& values) {
  return outcome_of([&] {
    using T = HYPERLSTM_DTYPE;
    const Matrix<const T> of_d{numbers_of<T>(d, N * F, "d"), N, F, stride}, none{};
    const Values<T> of_values{{numbers_of<T>(values, N * G, "values"), N, G}};
    ChunkProducts<T> products({true}, none, none);
    run_jobs(products.jobs_of_sweep(of_values));
    products.sum({{of_d, {{numbers_of<Acc<T>>(total, F * G, "total"), 0}}}}, of_values, false);
    products.finish();
  });
}
