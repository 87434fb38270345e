// The forward sweep, as Python calls it.
#include "forward_sweep.h"

namespace hyperlstm::inline HYPERLSTM_SET {
namespace {

template <class T, class A = Acc<T>>
void forward(const ForwardArguments& in) {
  const Layer<T> layer(in);
  const auto [H, S, Z, I] = layer.size;
  const int64_t N = layer.N, B = layer.B;
  const char* const of = "states ";
  States<T> into{
      numbers_of<T>(in.states.h, N * H, "h", of), optional<A>(in.states.c, N * H, "c", of),
      optional<T>(in.states.h_hat, N * S, "h_hat", of), optional<A>(in.states.c_hat, N * S, "c_hat", of)};
  const int64_t slots = into.c == nullptr ? std::min<int64_t>(2, layer.steps.count()) : 0, rows = slots * B;
  Scratch scratch;
  if (slots > 0) into = {into.h, scratch.empty<A>(rows * H), scratch.empty<T>(rows * S), scratch.empty<A>(rows * S)};
  const States<T> last = states_of<T>(in.last, layer.size, B, "last ");
  const Residuals<T> residuals = layer.residuals(in);
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

EXPORT(Outcome, forward)(const ForwardArguments& arguments) {
  return outcome_of([&] { forward<HYPERLSTM_DTYPE>(arguments); });
}
