// The forward sweep, as Python calls it.
#include "forward_sweep.h"

namespace hyperlstm::inline HYPERLSTM_SET {
namespace {

// Reads, after Layer, the arrays to write: h of all steps, [N, H]; c, h_hat and c_hat, [N, *], if they are read
// later; each row's state after its own last step, [B, *]; and the residuals, if they are saved.
template <class T, class A = Acc<T>>
void forward(Arguments in, double scale) {
  const Layer<T> layer(in, scale);
  const auto [H, S, Z, I] = layer.size;
  const int64_t N = layer.N, B = layer.B;
  States<T> into{in.array<T>(N * H), in.optional<A>(N * H), in.optional<T>(N * S), in.optional<A>(N * S)};
  const int64_t slots = into.c == nullptr ? std::min<int64_t>(2, layer.steps.count()) : 0, rows = slots * B;
  Scratch scratch;
  if (slots > 0) into = {into.h, scratch.empty<A>(rows * H), scratch.empty<T>(rows * S), scratch.empty<A>(rows * S)};
  const States<T> last = in.states<T>(layer.size, B);
  const Residuals<T> residuals = in.residuals<T>(layer.size, N);
  advise_huge_pages(into.h, N * H);
  advise_huge_pages(into.c, (slots == 0 ? N : rows) * H);
  advise_huge_pages(residuals.numbers, N * residuals.stride);
  const Panels<T> panels(layer, Direction::kForward, true);
  ForwardSweep<T> sweep(panels, layer, into, slots, residuals);
  sweep.run();
  sweep.copy_last(last);
}

}  // namespace
}  // namespace hyperlstm::inline HYPERLSTM_SET

using namespace hyperlstm;

EXPORT(Outcome, forward)(const int64_t* arguments, double scale) {
  return outcome_of([&] { forward<HYPERLSTM_DTYPE>(Arguments(arguments), scale); });
}
