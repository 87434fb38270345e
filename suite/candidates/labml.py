"""HyperLSTM of labml-nn, a package of annotated implementations."""

from typing import Any

import torch
from torch import Tensor, nn

from impls import HyperLSTM, registry
from impls.convert import from_labml, to_labml
from suite.candidates.candidate import alternative
from suite.cases.case import Case
from suite.comparison.draws import draw, implementation


def build(case: Case, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Module of labml with random weights."""
    from labml_nn.hypernetworks import hyper_lstm

    model: nn.Module = hyper_lstm.HyperLSTM(case.I, case.H, case.S, case.Z, case.L).to(dtype).to(device)
    model.load_state_dict(to_labml(draw(case, 0, dtype, device).params))
    return model


def build_as_ours(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
    """HyperLSTM that calls labml's module with the same parameters, to be compared like ours."""
    from labml_nn.hypernetworks import hyper_lstm

    model = implementation(registry.ORACLE)(case, dtype, device)
    theirs = hyper_lstm.HyperLSTM(case.I, case.H, case.S, case.Z, case.L).to("meta")

    def forward(x: Tensor, state: tuple[Tensor, ...] | None = None) -> Any:
        # The converter only reorders numbers, so gradients flow through it.
        return torch.func.functional_call(theirs, to_labml(dict(model.named_parameters())), (x, state))

    model.forward = forward  # type: ignore[method-assign, assignment]
    return model


CANDIDATE = alternative(
    "labml",
    build_as_ours,
    build=build,
    layer_norms=(True,),
    why_unavailable=lambda *_: None,
    to_ours=from_labml,
    modules=("labml_nn.hypernetworks.hyper_lstm",),
)
