// The backward pass over a sequence, as Python calls it.
#include "backward_sequence.h"

namespace hyperlstm::inline HYPERLSTM_SET {
namespace {

// Writes the arguments of the gradients of the parameters, arrays in the accumulation type, to `gradients`.
using Allocate = void (*)(void* context, int64_t* gradients);

// Reads, after Layer, whether each parameter needs a gradient, the number of chunks, and their first steps with the
// number of steps last; then the states after each step, [N, *]; the residuals, if they were saved; d_out [N, H]; the
// gradients of each row's last state, [B, *] in the accumulation type, which become those of its start; and d_x [N, I]
// to write, if x needs a gradient.
template <class T, class A = Acc<T>>
void backward(Arguments in, double scale, Allocate allocate, void* context) {
  const Layer<T> layer(in, scale);
  const Sizes& size = layer.size;
  const std::vector<int64_t> wanted = in.list(kParams), bounds = in.list(in.number() + 1);
  const BackwardArrays<T> arrays{
      in.states<T>(size, layer.N), in.residuals<T>(size, layer.N), in.array<T>(layer.N * size.H),
      in.states<A>(size, layer.B), in.optional<T>(layer.N * size.I)};
  advise_huge_pages(arrays.d_x, layer.N * size.I);
  SequenceBackward<T>(layer, wanted, arrays).run(bounds, [&] {
    std::array<int64_t, 2 * kParams> memory{};
    allocate(context, memory.data());
    Arguments of_gradients(memory.data());
    Params<A> gradients;
    const auto n = elements(size);
    for (int i = 0; i < kParams; ++i) {
      gradients[i] = wanted[i] ? of_gradients.array<A>(n[i]) : of_gradients.optional<A>(n[i]);
    }
    return gradients;
  });
}

}  // namespace
}  // namespace hyperlstm::inline HYPERLSTM_SET

using namespace hyperlstm;

EXPORT(Outcome, backward)(const int64_t* arguments, double scale, Allocate allocate, void* context) {
  return outcome_of([&] { backward<HYPERLSTM_DTYPE>(Arguments(arguments), scale, allocate, context); });
}

// For tests only: total [F, G] += d^T values. Reads N, F, G and the stride of d; then total, d and values.
EXPORT(Outcome, add_product)(const int64_t* arguments) {
  return outcome_of([&] {
    using T = HYPERLSTM_DTYPE;
    Arguments in(arguments);
    const int64_t N = in.number(), F = in.number(), G = in.number(), stride = in.number();
    Acc<T>* const total = in.array<Acc<T>>(F * G);
    const Matrix<const T> d{reinterpret_cast<const T*>(in.number()), N, F, stride}, none{};
    const Values<T> values{{in.array<T>(N * G), N, G}};
    ChunkProducts<T> products({true}, none, none);
    run_jobs(products.jobs_of_sweep(values));
    products.sum({{d, {{total, 0}}}}, values, false);
    products.finish();
  });
}
