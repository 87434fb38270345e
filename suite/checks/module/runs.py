"""A model with random parameters, its input and cotangents, and what its calls give."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from impls import HyperLSTM
from suite.shared.cases import TWO_LAYERS, Case
from suite.shared.compare import DRAWS, STATE_NAMES, Results, assert_close, draw, implementation

CASE = replace(TWO_LAYERS, T=3, layer_norm=True, state="none", strided=False)
#: For graphs, which contain every step of a loop in Python.
TRACED = replace(CASE, T=2, L=1)
#: A packed batch that is not sorted by length, and masks, which a seed makes the same everywhere.
PACKED, DROPPED = replace(TRACED, lengths=(1, 2, 1)), replace(TRACED, recurrent_dropout=0.5)
#: In evaluation mode, without dropout.
KEPT = replace(DROPPED, training=False)


class Example(NamedTuple):
    """A model with random parameters, its input and cotangents."""

    model: HyperLSTM
    x: Tensor
    cotangents: tuple[Tensor, ...]  # of out and of the four final states

    def results(self, call: Callable[[Tensor], Any] | None = None) -> Results:
        """out, final states and every gradient; call: what to call in place of the model."""
        x = self.x.detach().requires_grad_()
        out, last = (call or self.model)(x)
        leaves = {"x": x, **dict(self.model.named_parameters())}
        cotangents = [c.to(out.dtype) for c in self.cotangents]
        grads = torch.autograd.grad((out, *last), list(leaves.values()), cotangents)
        return outputs(out, last) | {f"grad {key}": g for key, g in zip(leaves, grads, strict=True)}


def outputs(out: Tensor, last: tuple[Tensor, ...]) -> Results:
    return {"out": out, **dict(zip(STATE_NAMES, last, strict=True))}


def example(name: str, device: torch.device, case: Case = CASE, dtype: torch.dtype = torch.float32) -> Example:
    """Draw 0 of a case."""
    return drawn(implementation(name)(case, dtype, device), case, dtype, device)


def drawn(model: HyperLSTM, case: Case, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Example:
    params, x, _, cotangents = draw(case, seed, dtype, device)
    model.load_state_dict(params)
    return Example(model, x, cotangents)


def each_agrees(results: Callable[[Example], Results], model: HyperLSTM, case: Case, device: torch.device) -> None:
    """Compare the results of all draws, stacked, with the oracle by the tolerance rule."""
    runs = []
    for seed in range(DRAWS):
        one = drawn(model, case, torch.float32, device, seed)
        torch.manual_seed(seed)  # of masks
        runs.append(results(one))
    assert_close(tree_map(lambda *q: torch.stack(q), *runs), case, device, DRAWS)


def skip_without(*packages: str) -> None:
    """Skip a test that needs packages which `nox -s verify` does not install."""
    if missing := [package for package in packages if find_spec(package) is None]:
        pytest.skip(f"Not installed: {', '.join(missing)}; `nox -s export` has them.")
