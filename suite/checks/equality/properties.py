"""Calls of a HyperLSTM written in another way, which must give the same results."""

import random
from collections.abc import Callable

import torch
from torch import Tensor

from impls import HyperLSTM
from suite.shared.cases import Case
from suite.shared.compare import Build
from suite.shared.oracle import Output, State

Params = dict[str, Tensor]
#: (model, parameters by name, x, state, chance) -> out and final states, as from the model's own call
Rewrite = Callable[[HyperLSTM, Params, Tensor, State | None, random.Random], Output]


def call(model: HyperLSTM, params: Params, x: Tensor, state: State | None) -> Output:
    result: Output = torch.func.functional_call(model, params, (x, state))
    return result


def in_chunks(model: HyperLSTM, params: Params, x: Tensor, state: State | None, chance: random.Random) -> Output:
    """Cut the sequence at random, with empty pieces among them, and pass the state from each piece to the next."""
    cuts = sorted(chance.randint(0, len(x)) for _ in range(3))
    outs = []
    for start, end in zip([0, *cuts], [*cuts, len(x)], strict=True):
        out, state = call(model, params, x[start:end], state)
        outs.append(out)
    assert state is not None
    return torch.cat(outs), state


def with_rows_permuted(
    model: HyperLSTM, params: Params, x: Tensor, state: State | None, chance: random.Random
) -> Output:
    """Permute the batch, and undo that in the results."""
    order = torch.tensor(chance.sample(range(x.shape[1]), x.shape[1]), dtype=torch.long, device=x.device)
    back = order.argsort()
    state = None if state is None else tuple(part.index_select(-2, order) for part in state)
    out, last = call(model, params, x.index_select(1, order), state)
    return out.index_select(1, back), tuple(part.index_select(1, back) for part in last)


def layer_by_layer(model: HyperLSTM, params: Params, x: Tensor, state: State | None, chance: random.Random) -> Output:
    """Run a model of one layer for each layer, on the output of the one below."""
    lasts = []
    for l in range(model.n_layers):
        sizes = x.shape[2], model.hidden_size, model.hyper_size, model.n_z, 1
        one = HyperLSTM(*sizes, layer_norm=model.layer_norm, impl=model.impl, device="meta")
        mine = {f"layers.0.{key.split('.', 2)[2]}": p for key, p in params.items() if key.startswith(f"layers.{l}.")}
        start = None if state is None else tuple(part[l] if part.dim() == 3 else part for part in state)
        x, last = call(one, mine, x, start)
        lasts.append(last)
    return x, tuple(torch.cat(parts) for parts in zip(*lasts, strict=True))


def with_z_scaled(model: HyperLSTM, params: Params, x: Tensor, state: State | None, chance: random.Random) -> Output:
    """Multiply z by a power of two and divide `d_weight` by it, which is exact in floating point."""
    k = chance.choice([-3, -2, -1, 1, 2, 3])
    powers = {"z_weight": k, "z_bias": k, "d_weight": -k}
    scaled = {key: p * 2.0 ** powers.get(key.rsplit(".", 1)[1], 0) for key, p in params.items()}
    return call(model, scaled, x, state)


def rewritten(plain: Build, rewrite: Rewrite, seed: int = 0) -> Build:
    """A builder of HyperLSTMs whose call is rewritten; gradients arrive at their own parameters."""

    def build(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
        model, inner = (plain(case, dtype, device) for _ in range(2))

        def forward(x: Tensor, state: State | None = None) -> Output:
            return rewrite(inner, dict(model.named_parameters()), x, state, random.Random(seed))

        model.forward = forward  # type: ignore[method-assign, assignment]
        return model

    return build


#: The rewrites that hold of every implementation.
REWRITES: tuple[Rewrite, ...] = (in_chunks, with_rows_permuted, layer_by_layer, with_z_scaled)
