"""What the sweeps of `batched_cuda` would start on a card, written down on meta tensors: nothing runs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from impls import HyperLSTM
from impls.batched_cuda.target import Target, dense_mask
from impls.batched_cuda.tiles import Card
from impls.definition import LayerParams, LayerState, hidden_weight
from impls.dropout import Mask
from suite.shared.cases import Case


class Launch(NamedTuple):
    """One kernel as a sweep starts it."""

    kernel: Any
    grid: tuple[int, ...]
    given: Sequence[Any]
    constants: dict[str, Any]


def launched(case: Case, card: Card, dtype: torch.dtype, precision: str, steps: int = 2) -> list[list[Launch]]:
    """Return what one layer's sweeps, forward and backward, start at a case's sizes, cut for a card.

    steps: those of the chunk that is swept. precision: how float32 products are made, "ieee" or "tf32".
    """
    from impls.batched_cuda import backward, forward  # imports Triton, which may be missing

    forwards, backwards = list[Launch](), list[Launch]()

    def target(into: list[Launch]) -> Target:
        return Target(card, precision, lambda *launch: into.append(Launch(*launch)))

    I, H, S, Z, B, K = case.I, case.H, case.S, case.Z, case.B, steps
    layer = HyperLSTM(I, H, S, Z, 1, layer_norm=case.layer_norm, device="meta", dtype=dtype).layers[0]
    p = LayerParams._make(getattr(layer, name) for name in LayerParams._fields)
    products = torch.empty(K, B, 4 * H + 4 * S, device="meta", dtype=dtype)
    parts = [(F, kind) for F in (H, S) for kind in (dtype, torch.float32)]
    state = LayerState(*(torch.empty(B, F, device="meta", dtype=kind) for F, kind in parts))
    over = LayerState(*(q.expand(K, *q.shape).contiguous() for q in state))
    kept = torch.empty(K, B, H, device="meta", dtype=torch.bool)
    mask = dense_mask(Mask(kept, 1 / (1 - case.recurrent_dropout)) if case.recurrent_dropout else None)
    with torch.no_grad():
        forward.steps(target(forwards), products, state, forward.weights(p), mask, over)
        z, a = products.new_empty(K, B, 12, Z), products.new_empty(K, B, 4 * S)
        cells = over.c, over.c_hat, over.c, over.c_hat
        given = backward.Given(products, products, z, a, *cells, over.h, *state, mask)
        made = backward.room(products, H, S, Z, case.layer_norm)
        backward.steps(target(backwards), given, backward.weights(p, hidden_weight(p)), made)
    return [forwards, backwards]
